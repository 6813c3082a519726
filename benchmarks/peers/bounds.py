"""What the machine's limits allow in each work: peaks applied to the arithmetic that a work needs at the least."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from peers.sessions import INPUTS

PRECISIONS = ("f32", "bf16", "int8")
Limits = dict[str, dict[str, Any]]


def count_needs(material: Any) -> dict[str, float]:
    """Operations that our towers need for an image and, on average, for a name and a prompt.

    Of a layer only its products with weights and of attention are counted; of the last layer, which only the pooled
    row passes whole, nothing. Of texts those rows count that are left when each shared prefix in a batch is computed
    once, and for what the first layer asks only those that differ in token or place.
    """
    from clipworks.bundle.files import read_bundle
    from clipworks.model import TEXT_BATCH
    from clipworks.text.batches import join_texts, plan_batches
    from clipworks.text.packing import IDS, PLACES, pack_texts
    from clipworks.text.tokenizers import open_tokenizer

    config = json.loads((INPUTS / "checkpoint" / "config.json").read_text(encoding="utf-8"))
    image, text = config["vision_config"], config["text_config"]
    patches = (image["image_size"] // image["patch_size"]) ** 2
    rows, width, layers = patches + 1, image["hidden_size"], image["num_hidden_layers"]
    embed = 2 * patches * 3 * image["patch_size"] ** 2 * width
    needs = {"image": embed + (layers - 1) * (24 * width**2 * rows + 4 * rows**2 * width)}

    bundle = read_bundle(INPUTS / "bundle")
    tokenizer = open_tokenizer(bundle.tokenizer, bundle.card.text)
    for name, texts in (("d", material.names), ("d8", material.prompts)):
        ids = tokenizer.encode_ragged(texts)
        plan = plan_batches(ids, size=TEXT_BATCH, packs=True)
        packed = [pack_texts(join_texts([ids[place] for place in part]), filled=False) for part in plan]
        total = sum(batch[IDS].size for batch in packed)
        alike = total - sum(len(np.unique([batch[IDS], batch[PLACES]], axis=-1).T) for batch in packed)
        square = text["hidden_size"] ** 2
        needs[name] = (24 * square * (text["num_hidden_layers"] - 1) * total - 6 * square * alike) / len(texts)
    return {name: float(value) for name, value in needs.items()}


def find_bound(limits: dict[str, Any], work: str, precision: str, cores: int) -> float | None:
    """The best figure of a work that the limits allow, in the work's unit; None where no limit is known.

    Args:
        limits: as `peers.limits` measured them.
        work: its letter.
        precision: one, or ``any`` for the best of all.
        cores: of the machine.
    """
    if precision == "any":
        found = [bound for kind in PRECISIONS if (bound := find_bound(limits, work, kind, cores)) is not None]
        return (min if work == "a" else max)(found) if found else None
    if work == "a":
        return _value(limits, f"start_{precision}_s")
    decoding = _value(limits, "decoding_images_per_s_a_core")
    # The processor's own, where it could be measured: a library's product may be short of it.
    peak = _value(limits, f"{precision}_peak") or _value(limits, f"{precision}_gflops")
    if work == "f":
        return decoding
    needs = limits.get("needs", {})
    if peak is None or not needs:
        return None
    if work in ("c", "g") and decoding is not None:
        return 1 / (float(needs["image"]) / (peak * 1e9) + 1 / (cores * decoding))
    return peak * 1e9 / float(needs[work]) if work in ("d", "d8") else None


def _value(limits: dict[str, Any], key: str) -> float | None:
    found = limits.get(key)
    return float(found["value"]) if found else None
