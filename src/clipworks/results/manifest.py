"""Provenance: what a results file must say of the run that made it, because another value makes another result.

Nothing here differs between two runs of the same command on the same machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from clipworks.bundle.files import card_hash
from clipworks.datasets.listing import DataSet
from clipworks.environment import describe_environment
from clipworks.images.decoders import ImageDecoder
from clipworks.model import Model
from clipworks.options import AUTO, RuntimeOptions
from clipworks.runtimes import AUTOMATIC, find_runtime

_PACKAGES = ("clipworks", "numpy", "pillow")


def describe_model(model: Model, decoder: ImageDecoder | None = None) -> dict[str, Any]:
    """The model in use, and what of the machine and the software can change the last digit of a score."""
    environment = describe_environment()
    relevant = (*_PACKAGES, find_runtime(model.runtime).distribution)
    return {
        "model": model.card.name,
        "card_sha256": card_hash(model.card),
        "score_kind": model.card.score.kind,
        "runtime": model.runtime,
        "device": model.device,
        "precision": model.precision,
        **({"instruction_set": model.instruction_set} if model.instruction_set else {}),
        **({"floats": model.floats} if model.precision == "int8" else {}),
        **dataclasses.asdict(model.image_options),
        **({"decoder": decoder.name} if decoder else {}),
        "cpu": environment.cpu,
        "isa": list(environment.isa),
        "packages": {name: version for name, version in environment.packages.items() if name in relevant},
    }


def recall_choice(manifest: Mapping[str, Any] | None, options: RuntimeOptions) -> RuntimeOptions:
    """What a run that resumes another requests: where it says ``auto``, what the first one's ``auto`` took.

    A measured rate, or a newly installed runtime, must not change the choice in the middle of a file.
    """
    if not manifest or manifest.get("why") is None:
        return options
    settings = manifest.get("settings", {})
    if options.runtime == AUTO:
        options = dataclasses.replace(options, runtime=settings.get("runtime", AUTO))
    if options.precision == AUTO and settings.get("precision") in AUTOMATIC:
        options = dataclasses.replace(options, precision=settings["precision"])
    return options


def describe_source(dataset: DataSet) -> dict[str, Any]:
    """The data set: where it is, and a hash of what it lists."""
    return {"source": dataset.source, "root": dataset.root, "images": len(dataset), "source_sha256": dataset.hash()}


def hash_texts(texts: Sequence[str]) -> str:
    """The SHA-256 (hex) of texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
