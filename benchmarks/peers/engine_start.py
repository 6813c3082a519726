"""The engine alone: from the start of a process to the first embedding by two compiled towers, without clipworks.

    python -m peers.engine_start IMAGE_FILE TEXT_FILE FOLDER PRECISION    prints the seconds, the best of some

Called with two compiled files and a precision, the process does that one thing: import the engine, map both files, take
them in on two threads, and run each once. It checks, decodes and tokenizes nothing: no program that uses this engine
with these towers can be there sooner.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
THREE_TEXTS = {
    "ids": [[49406, *(320, 1929, 49407), *(320, 2368, 49407), *(539, 1929, 49407)]],
    "places": [[0, *(1, 2, 3) * 3]],
    "groups": [[*range(10), *[0] * 22]],
    "ends": [[10, *[4] * 3, *[7] * 3, *[10] * 3, *range(11, 33)]],
    "back": [[*range(10)]],
    "texts": [[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 8, 9]],
}
"""Packed as our text tower takes them."""


def start(image: str, text: str, precision: str) -> None:
    """Take in both towers and run each once, in a precision: without one, the engine takes what it finds quickest."""
    import mmap
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]  # as clipworks does: half of the import's time, and of no use
    import openvino

    core, config = openvino.Core(), configure(precision)

    def load(path: str) -> Any:
        with Path(path).open("rb") as stream:
            content = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        tensor = openvino.Tensor(content, shared_memory=True)
        return core.import_model(tensor, "CPU", config), tensor

    with ThreadPoolExecutor(2) as pool:
        towers = list(pool.map(load, (image, text)))
    given: dict[str, Any] = {"image": np.zeros((1, 224, 224, 3), np.uint8)}
    given |= {name: np.array(value, np.int32) for name, value in THREE_TEXTS.items()}
    for compiled, _ in towers:
        request = compiled.create_infer_request()
        for port in compiled.inputs:
            request.set_tensor(port, openvino.Tensor(given[port.any_name]))
        request.infer()


def configure(precision: str) -> dict[str, Any]:
    """What clipworks asks of the engine."""
    import openvino

    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32,
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }


def compile_towers(files: list[str], folder: Path, precision: str) -> list[str]:
    """Compile towers and write them down; return the files."""
    import openvino

    core, config, written = openvino.Core(), configure(precision), []
    for file in files:
        target = folder / f"{Path(file).stem}-{precision}.blob"
        target.write_bytes(core.compile_model(file, "CPU", config).export_model().getvalue())
        written.append(str(target))
    return written


def main() -> None:
    """Start once, or compile and time starts."""
    if len(sys.argv) == 4:
        start(*sys.argv[1:])
        print("started", flush=True)
        return
    files = compile_towers(sys.argv[1:3], Path(sys.argv[3]), sys.argv[4])
    taken = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        words = [sys.executable, "-m", "peers.engine_start", *files, sys.argv[4]]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            line = process.stdout.readline()
            taken.append(time.perf_counter() - begun)
        if line != "started\n":
            raise SystemExit("the engine did not start")
    for file in files:
        Path(file).unlink()
    print(min(taken[1:]))


if __name__ == "__main__":
    main()
