"""Measured rates: how quickly each precision of a runtime multiplies matrices on this machine.

Measured where the table in `clipworks.runtimes.choice` says nothing, and for ``clipworks devices``; kept in the cache
under the processor's name and all else that a rate depends on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from clipworks import interrupts
from clipworks.cache import open_folder, read_checked, write_checked
from clipworks.errors import ClipworksError
from clipworks.options import RuntimeOptions
from clipworks.processor import count_cores, describe_processor, find_onednn_ceiling
from clipworks.runtimes.protocol import EncoderRequest
from clipworks.runtimes.registry import find_version, import_runtime
from clipworks.towers.stored import StoredTower

if TYPE_CHECKING:
    import onnx

# Of the products that are written as ONNX: those of a layer's MLP in ViT-B.
ROWS, WIDTH, EXPANDED = 512, 768, 3072

_SECONDS = 0.2  # of each precision, at the least
_FEWEST = 5  # calls of each precision
_KEPT = 64
_SIDE = 16  # of the image that holds a row's WIDTH values
_lock = threading.Lock()
_measured: dict[str, dict[str, float]] = {}


def measure_rates(
    runtime: str, precisions: Sequence[str], *, again: bool = False, opened: Callable[[str], None] | None = None
) -> dict[str, float]:
    """How quickly a runtime multiplies matrices on the CPU in each precision.

    The precisions take turns and the best call of each counts, so that other work on the machine spoils little.

    Args:
        runtime: name.
        precisions: what to measure; those that cannot be opened are left out.
        again: measure also what is kept from an earlier time.
        opened: told of the precision that is being prepared, for a progress line.

    Returns:
        10^9 operations/s by precision.
    """
    with _lock:  # both towers of a model may ask at once
        key = _name_rates(runtime, precisions)
        folder = open_folder("rates")
        path = None if folder is None else folder / f"{key}.json"
        if not again:
            if key in _measured:
                return _measured[key]
            if path is not None and (body := read_checked(path)) is not None:
                _measured[key] = json.loads(body)
                return _measured[key]
        import_runtime(runtime)  # here: two threads that import can lock each other out
        # In a thread of its own: OpenVINO lays a stack for signals under the thread that runs a model. Freed in another
        # order than they were made, models leave the thread with a stack that is gone, and the next signal kills.
        with ThreadPoolExecutor(1) as pool:
            _measured[key] = pool.submit(_measure, runtime, precisions, opened).result()
        if path is not None:
            write_checked(path, json.dumps(_measured[key]).encode(), keep=_KEPT)
        return _measured[key]


def _name_rates(runtime: str, precisions: Sequence[str]) -> str:
    processor = describe_processor()
    facts = [processor.name, processor.instruction_sets, find_onednn_ceiling(), count_cores()]
    key = json.dumps([*facts, runtime, find_version(runtime), list(precisions)])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _measure(runtime: str, precisions: Sequence[str], opened: Callable[[str], None] | None) -> dict[str, float]:
    operations: dict[str, int] = {}
    calls: dict[str, Callable[[], object]] = {}
    with TemporaryDirectory(prefix="clipworks-") as folder, interrupts.removing(folder):
        for precision in precisions:
            if opened is not None:
                opened(precision)
            try:
                operations[precision], calls[precision] = _open_products(runtime, precision, Path(folder))
            except ClipworksError:
                continue  # not available after all: who names it is told why
    best = dict.fromkeys(calls, float("inf"))
    spent, count = 0.0, 0
    for call in calls.values():
        call()
    while calls and (count < _FEWEST or spent < _SECONDS * len(calls)):
        count += 1
        for precision, call in calls.items():
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            best[precision] = min(best[precision], seconds)
            spent += seconds
    return {precision: operations[precision] / seconds / 1e9 for precision, seconds in best.items()}


def _open_products(runtime: str, precision: str, folder: Path) -> tuple[int, Callable[[], object]]:
    """Something to multiply in a runtime: the operations of a call (a multiply-add is two), and the call."""
    implementation = import_runtime(runtime)
    if implementation.open_products is not None:
        return implementation.open_products(precision)
    path = folder / f"{precision}.onnx"
    write_products(path, int8=precision == "int8")
    stored = "int8" if precision == "int8" else "f32"
    tower = StoredTower(path=path, kind="onnx", role="image", stored=stored, dim=WIDTH, sha256="")
    options = RuntimeOptions(runtime=runtime, device="cpu", precision=precision)
    encoder = implementation.open_encoder(EncoderRequest(tower=tower, options=options))
    images = np.random.default_rng(0).integers(0, 256, (ROWS, _SIDE, _SIDE, 3), dtype=np.uint8)
    return 4 * ROWS * WIDTH * EXPANDED, lambda: encoder(images)


def write_products(path: Path, *, int8: bool) -> None:
    """Write the products as ONNX: uint8 ``[n, 16, 16, 3]`` times two matrices, float32 ``[n, WIDTH]``."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["rows"], to=onnx.TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(np.array([-1, WIDTH], np.int64), "shape")]
    value = "rows"
    for name, shape in (("first", (WIDTH, EXPANDED)), ("second", (EXPANDED, WIDTH))):
        weights = random.standard_normal(shape).astype(np.float32) / shape[0]
        left, right = value, f"{name}_weights"
        if int8:
            left, right = _quantize(nodes, constants, name, value, weights)
        else:
            constants.append(numpy_helper.from_array(weights, right))
        value = "embedding" if name == "second" else name
        nodes.append(helper.make_node("MatMul", [left, right], [value]))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "products",
        [tensor("image", onnx.TensorProto.UINT8, ["n", _SIDE, _SIDE, 3])],
        [tensor("embedding", onnx.TensorProto.FLOAT, ["n", WIDTH])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _quantize(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], name: str, value: str, weights: Any
) -> tuple[str, str]:
    """Write what runtimes turn into an int8 product: both factors through QuantizeLinear and DequantizeLinear."""
    from onnx import helper, numpy_helper

    given = {
        f"{name}_scale": np.array(1.0, np.float32),
        f"{name}_zero": np.array(128, np.uint8),
        f"{name}_steps": np.rint(weights / np.abs(weights).max() * 127).astype(np.int8),
        f"{name}_scales": np.full(weights.shape[1], 0.01, np.float32),
        f"{name}_zeros": np.zeros(weights.shape[1], np.int8),
    }
    constants += [numpy_helper.from_array(array, key) for key, array in given.items()]
    left, right = f"{name}_left", f"{name}_weights"
    nodes += [
        helper.make_node("QuantizeLinear", [value, f"{name}_scale", f"{name}_zero"], [f"{name}_grid"]),
        helper.make_node("DequantizeLinear", [f"{name}_grid", f"{name}_scale", f"{name}_zero"], [left]),
        helper.make_node("DequantizeLinear", [f"{name}_steps", f"{name}_scales", f"{name}_zeros"], [right], axis=1),
    ]
    return left, right
