"""What a runtime is asked for and what it gives: the protocol of encoders, its records, and the row of a runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from clipworks.options import RuntimeOptions

if TYPE_CHECKING:  # the command line reads the table of runtimes for its help, which must not wait for numpy
    import numpy as np
    import numpy.typing as npt

from clipworks.towers.stored import StoredTower

Role = Literal["image", "text"]
ROLES: tuple[Role, ...] = ("image", "text")
AUTOMATIC = ("f32", "bf16")
"""The precisions that ``auto`` may take."""
EMBEDDING, FIRST, POOLED = "embedding", "first", "pooled"
"""What a probe calls the values of a tower; `clipworks.runtimes.probes` tells what they are."""

Batch: TypeAlias = "npt.NDArray[np.uint8] | npt.NDArray[np.int32]"


class Staged(NamedTuple):
    """A batch where the runtime wants it; give it to the encoder that made it."""

    handle: Any  # the runtime's own object
    rows: int  # number of images or texts in it


def elapsed_ms(start: float) -> float:
    """Milliseconds since a reading of ``time.perf_counter``."""
    return (time.perf_counter() - start) * 1000


class Opening(NamedTuple):
    """What opening a tower cost, in ms."""

    read_ms: float | None  # read the tower's file; None for a runtime that does it in one go with compiling
    compile_ms: float  # compile it, or take a compiled one from the cache
    cached: bool = False  # whether a compiled one was taken from the cache


class Encoder(Protocol):
    """One tower, compiled by a runtime."""

    runtime: str  # its name
    device: str  # in use, as the runtime reports it, e.g. ``cpu``
    precision: str  # in use, as the runtime reports it
    floats: str  # the type of what is computed in floats: the precision itself, but in int8 towers
    threads: int | None  # CPU threads in use, or None where the runtime does not say
    dim: int  # width of an embedding
    opening: Opening  # how long reading and compiling took
    why: str | None  # what ``auto`` went by where the request left it something to choose; else None
    instruction_set: str | None  # that its kernels are of, as they report it; None where the runtime does not say
    # whether whatever texts of a batch begin with is computed once, and nothing behind their ends, so that it pays to
    # bring texts that begin alike together and texts of any lengths may be
    packs: bool

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; blocks; safe from several threads at once.

        Args:
            batch: uint8 ``[n, size, size, 3]`` images or int32 ``[n, length]`` token ids, or what `stage` made.

        Returns:
            float32 ``[n, dim]`` on the host, raw: not normalised.

        Raises:
            EncodingError: the runtime failed.
        """
        ...

    def stage(self, batch: Batch) -> Staged:
        """Put a batch where the runtime wants it: ahead of its turn, or so that a measurement can leave the copy out.

        Safe from several threads at once. Raises as a call does.
        """
        ...

    def close(self) -> None:
        """Free the tower's memory; the encoder cannot be used afterwards."""
        ...


class EncoderRequest(NamedTuple):
    """What to open, as `open_encoder` hands it to a runtime."""

    tower: StoredTower  # the tower's file and what the card says of it
    options: RuntimeOptions  # as requested; the runtime is settled, and the number of streams
    cache: Path | None = None  # folder for compiled models, or None to compile afresh


OpenEncoder = Callable[[EncoderRequest], Encoder]
"""Compiles what a request names."""
OpenProbe = Callable[[EncoderRequest, Mapping[str, str]], Callable[[Batch], "dict[str, npt.NDArray[Any]]"]]
"""Compiles a tower once more, so that it also gives values inside it; see `clipworks.runtimes.probes`."""


class Implementation(NamedTuple):
    """What a runtime's own module offers once it is imported."""

    open_encoder: OpenEncoder  # compiles a tower
    # the devices that there are, by the names that ``--device`` takes, each with the precisions that it computes
    # natively; empty where the runtime can use none
    describe_devices: Callable[[], dict[str, list[str]]]
    open_probe: OpenProbe | None = None  # None where the runtime shows nothing of what is inside a tower
    # the instruction set that it would compute with on the CPU; None where it does not say
    find_instruction_set: Callable[[], str | None] = lambda: None


class Traits(NamedTuple):
    """What ``auto`` goes by of a model."""

    converted: bool = False  # whether clipworks converted its towers from a checkpoint
    rotates: bool = False  # whether its image tower rotates queries and keys (RoPE)
    post_norm: bool = False  # whether its text tower normalises behind its layers and masks padding (BERT)
    convolutional: bool = False  # whether its image tower is a convolutional network


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One row of the table of runtimes: all that is asked of one without importing it."""

    name: str  # as ``--runtime`` takes it
    load: Callable[[], Implementation]  # imports the runtime's own module
    package: str | None = None  # that it needs, as Python imports it; None for one that needs none
    # of that package, as pip names it, whose version is recorded with results; None likewise
    distribution: str | None = None
    install: str = ""  # how to get the package
    devices: tuple[str, ...] = ("cpu",)  # names of devices, for help texts
    listed: bool = True  # whether help, messages and comparisons name it
    default: bool = False  # whether ``auto`` takes it, where it is the first that is installed, for what none claims
    # says why ``auto`` should take it for a model and some options, whether installed or not; None for no. It is asked
    # of the runtimes that come with clipworks only
    claim: Callable[[Traits, RuntimeOptions], str | None] | None = None
    suits: str = ""  # what it claims, for help texts
    absent: str = ""  # what is said once where it claims a model and is not installed; empty for nothing
    idle: str = "it finds no device that it can use"  # why it may find no device that it can use
    # whether it makes numbers of NaN and Inf in weights, which must be looked for before
    needs_finite_weights: bool = False
    takes_gpu: bool = False  # whether the device ``auto`` may be a GPU
    has_onednn: bool = False  # whether oneDNN computes in it, which has a ceiling of instruction sets of its own
    computes_as_stored: bool = False  # whether it computes floats in the type that the weights are stored in
    bf16_sets: tuple[str, ...] = ()  # the instruction sets by which it multiplies bf16 on the CPU
