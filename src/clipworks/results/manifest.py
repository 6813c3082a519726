"""Provenance: what a results file must say of the run that made it, because another value makes another result.

Nothing here differs between two runs of the same command on the same machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipworks.bundle.files import card_hash
from clipworks.environment import describe_environment
from clipworks.runtimes import AUTO, AUTOMATIC

if TYPE_CHECKING:
    from clipworks.datasets.listing import DataSet
    from clipworks.images.batch_decoders import BatchDecoder
    from clipworks.model import Model

_PACKAGES = ("clipworks", "numpy", "pillow")


def describe_model(model: Model, decoder: BatchDecoder | None = None) -> dict[str, Any]:
    """The model as granted, and what of the machine and the software can change the last digit of a score."""
    environment = describe_environment()
    relevant = (*_PACKAGES, model.runtime)
    return {
        "model": model.card.name,
        "card_sha256": card_hash(model.card),
        "score_kind": model.card.score.kind,
        "runtime": model.runtime,
        "device": model.device,
        "precision": model.precision,
        **({"floats": model.floats} if model.precision == "int8" else {}),
        **dataclasses.asdict(model.image_options),
        **({"decoder": decoder.name} if decoder else {}),
        "cpu": environment.cpu,
        "isa": list(environment.isa),
        "packages": {name: version for name, version in environment.packages.items() if name in relevant},
    }


def recall_choice(manifest: Mapping[str, Any] | None, runtime: str, precision: str) -> tuple[str, str]:
    """What a run that goes on with another asks for: where it says ``auto``, what the first one's ``auto`` took.

    A measured rate, or a newly installed runtime, must not change the choice in the middle of a file.

    Args:
        manifest: of the first run; None where there is none.
        runtime: as asked for.
        precision: as asked for.

    Returns:
        The runtime and the precision to ask for.
    """
    if not manifest or manifest.get("why") is None:
        return runtime, precision
    settings = manifest.get("settings", {})
    if runtime == AUTO:
        runtime = settings.get("runtime", AUTO)
    if precision == AUTO and settings.get("precision") in AUTOMATIC:
        precision = settings["precision"]
    return runtime, precision


def describe_source(dataset: DataSet) -> dict[str, Any]:
    """The data set: where it is, and a hash of what it lists."""
    return {
        "source": dataset.source,
        "root": dataset.root,
        "pictures": len(dataset),
        "source_sha256": dataset.hash(),
    }


def hash_texts(texts: Sequence[str]) -> str:
    """The SHA-256 (hex) of texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
