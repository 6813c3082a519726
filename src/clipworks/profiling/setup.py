"""A setup: what is to be profiled, and whether it can be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.card import Card
from clipworks.datasets.selection import Selection
from clipworks.errors import UsageError
from clipworks.images.decoders import PILLOW
from clipworks.options import (
    AUTO,
    DEFAULT_IMAGE_OPTIONS,
    DEFAULT_RUNTIME_OPTIONS,
    STARTER,
    ImageOptions,
    RuntimeOptions,
)
from clipworks.processor import count_cores
from clipworks.profiling.profile import Target

_LARGEST_BATCH_BYTES = 1 << 29


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to profile."""

    target: Target  # ``image`` or ``text`` for one encoder, ``pipeline`` for files to scores
    model: str = STARTER  # known name, hub id or folder
    # of each instance, but for its device; threads of None share the cores out among the instances, and nothing is
    # taken from the cache of compiled towers
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS
    devices: tuple[str, ...] = (AUTO,)  # names or places in the runtime's list; every one gets ``instances`` encoders
    batch_size: int = 1  # images or texts in one request
    instances: int = 1  # compiled encoders for each device
    staged: bool = False  # whether batches wait where the runtime wants them (``--input device``)
    image_size: int | None = None  # checked against the tower; None takes the tower's
    texts: Path | None = None  # file of prompts, or None for the built-in ones
    encoding: str | None = None  # of that file, None for UTF-8, or UTF-16 with a byte order mark
    images: Selection | None = None  # image files, or None for views of the built-in ones
    reading: ImageOptions = DEFAULT_IMAGE_OPTIONS  # how image files are read
    workers: int | None = None  # threads that decode for each instance of a pipeline; None shares the cores out
    decoder: str = PILLOW  # what decodes the files of a pipeline: ``pillow``, or a batch decoder's name
    offline: bool = False  # never ask a model hub


def check_setup(setup: Setup, card: Card) -> None:
    """Raise UsageError for a setup that cannot be opened; the message names the option and what is allowed."""
    for name, value in (("batch-size", setup.batch_size), ("instances", setup.instances)):
        if value < 1:
            raise UsageError(f"--{name} is {value}; allowed: 1 or more")
    bytes_a_row = 4 * card.text.context if setup.target == "text" else 3 * card.image.size**2
    largest = _LARGEST_BATCH_BYTES // bytes_a_row
    if setup.batch_size > largest:
        raise UsageError(f"--batch-size is {setup.batch_size}; allowed: 1 to {largest:,} for this model")
    if not setup.devices:
        raise UsageError("--device names no device; at least one is needed")
    twice = next((device for device in setup.devices if setup.devices.count(device) > 1), None)
    if twice is not None:
        raise UsageError(f"--device names {twice} twice", hint="--instances opens several encoders on one device")
    if setup.image_size not in (None, card.image.size):
        raise UsageError(
            f"--image-size is {setup.image_size}; allowed: {card.image.size}, which is what the tower takes"
        )
    if setup.target != "pipeline" and (setup.workers is not None or setup.decoder != PILLOW):
        raise UsageError(f"--workers and --decoder do not go with {setup.target}, which decodes nothing")
    if setup.target == "pipeline" and setup.staged:
        raise UsageError("--input device does not go with pipeline, which starts at files; allowed: host")


def share_workers(setup: Setup) -> int:
    """Threads that decode for each instance."""
    return setup.workers or max(1, count_cores() // (setup.instances * len(setup.devices)))


def settle_options(setup: Setup, device: str) -> RuntimeOptions:
    """The options of an instance on a device: several on one CPU share its cores, one has the runtime's own choice."""
    threads = setup.options.threads
    if threads is None and setup.instances > 1:
        threads = max(1, count_cores() // setup.instances)
    streams = None if setup.target == "pipeline" else 1
    return dataclasses.replace(setup.options, device=device, threads=threads, streams=streams, cache=False)
