"""Which towers the native runtime runs, and where their packed weights come from: the cache, or the tower's file."""

from __future__ import annotations

import hashlib
import time
from typing import NamedTuple

import clipworks.runtimes.native._towers as compiled
from clipworks.bundle.card import TowerSpec
from clipworks.cache import map_checked, write_checked
from clipworks.errors import RuntimeUnavailableError
from clipworks.options import AUTO
from clipworks.processor import CEILINGS, SCALAR, VARIABLE, find_ceiling, is_below
from clipworks.runtimes.availability import unavailable
from clipworks.runtimes.choice import FloatChoice, choose_float
from clipworks.runtimes.native.facts import HEAD, Bytes, Facts, read_facts
from clipworks.runtimes.protocol import EncoderRequest, Opening, elapsed_ms
from clipworks.runtimes.registry import NATIVE

_FORMAT = 5  # of a packed file; another layout needs another number
_KEPT_FILES = 24
DEVICES = (AUTO, "cpu", "0")
KERNELS = [name for name in CEILINGS if name != "avx512_fp16"]
"""The instruction sets that the compiled code may have kernels for."""


class InstructionSet(NamedTuple):
    """What the compiled code computes with."""

    name: str
    precisions: list[str]

    def choose_float(self) -> FloatChoice:
        """The float type to compute in when nobody has named one."""
        return choose_float(NATIVE, self.precisions, ceiling=self.name)


def find_set() -> InstructionSet | None:
    """The highest instruction set below the ceiling that is set; the scalar kernels only where they are named."""
    ceiling = find_ceiling()
    found = compiled.list_instruction_sets() or {}
    if ceiling in KERNELS and found and ceiling not in found:
        raise RuntimeUnavailableError(
            f"{VARIABLE} is {ceiling!r}, which native cannot use here; it can: {', '.join(found)}"
        )
    usable = [name for name in found if is_below(name, ceiling) and name != SCALAR]
    if not usable and ceiling == SCALAR:
        usable = [SCALAR]
    return InstructionSet(usable[-1], found[usable[-1]]) if usable else None


def list_precisions() -> list[str]:
    """The precisions that the processor has instructions for, below the ceiling that is set."""
    found = find_set()
    return found.precisions if found else []


def describe_devices() -> dict[str, list[str]]:
    """The devices that there are, each with its precisions; none where the processor lacks what is needed."""
    return {"cpu": found} if (found := list_precisions()) else {}


def check_request(request: EncoderRequest) -> tuple[InstructionSet, str]:
    """What instruction set and precision are taken; raises RuntimeUnavailableError for what is not available."""
    found, wanted = find_set(), request.options.precision
    if found is None:
        raise RuntimeUnavailableError(
            "native needs an x86 CPU with AVX2 on Linux or macOS, and clipworks built by gcc 11, clang 12 or newer",
            hint="choose another --runtime",
        )
    if request.options.device not in DEVICES:
        raise unavailable("device", request.options.device, "native", ["cpu"])
    if wanted not in (AUTO, *found.precisions):
        raise unavailable("precision", wanted, "native", found.precisions)
    return found, found.choose_float().precision if wanted == AUTO else wanted


def _find_uncovered(spec: TowerSpec) -> str | None:
    """What of a tower that others compute the compiled code does not; or None."""
    if spec.rotation is not None:
        return "rotates queries and keys (RoPE)"
    if spec.norm_place == "post":
        return "normalises behind its layers and masks padding (BERT)"
    if (spec.pool_heads, spec.pool_mlp_dim) != (None, None):
        return "pools with other heads or another MLP than its layers have"
    return None


def open_weights(request: EncoderRequest, found: InstructionSet, precision: str) -> tuple[Facts, Bytes, Opening]:
    """A tower's packed weights: from the cache, or packed now and put there.

    Raises:
        RuntimeUnavailableError: a tower that our converter did not write.
        EncodingError: the file cannot be read.
    """
    start, path = time.perf_counter(), None
    int8 = precision == "int8"
    # Of int8 the rest is in bf16 where that is quicker: what it costs is far below what int8 costs.
    bf16 = precision == "bf16" or (int8 and found.choose_float().precision == "bf16")
    if request.cache is not None:
        key = hashlib.sha256(f"{request.tower.sha256} {int8} {bf16} {_FORMAT}".encode()).hexdigest()
        path = request.cache / f"{key[:32]}.packed"
        body = map_checked(path)
        if body is not None:
            return read_facts(body), body[HEAD:], Opening(read_ms=None, compile_ms=elapsed_ms(start), cached=True)
    from clipworks.runtimes.native.layout import is_quantized, pack_tower
    from clipworks.towers.files import read_tower

    weights = read_tower(request.tower)
    if (missing := _find_uncovered(weights.spec)) is not None:
        raise RuntimeUnavailableError(
            f"{request.tower.path.name} {missing}, which native does not compute",
            hint="--runtime openvino, onnxruntime and torch do",
        )
    read_ms, start = elapsed_ms(start), time.perf_counter()
    if int8 and not is_quantized(weights):
        raise RuntimeUnavailableError(
            f"{request.tower.path.name} has maps in floats that native wants in int8: convert the model again",
            hint="--runtime openvino and onnxruntime run it as it is",
        )
    facts, body = pack_tower(weights, bf16=bf16, int8=int8)
    opening = Opening(read_ms=read_ms, compile_ms=elapsed_ms(start))
    if path is not None:
        write_checked(path, body.data, keep=_KEPT_FILES)
    return facts, body[HEAD:], opening
