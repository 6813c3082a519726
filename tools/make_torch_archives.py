"""Make tests/golden/torch_archives.json: small files of PyTorch's own, and the values in them.

pip install torch==2.13.0
python tools/make_torch_archives.py
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "torch_archives.json"


class Block(torch.nn.Module):  # type: ignore[misc]
    """A part of a model, with a parameter, a buffer and a map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.rand(2))
        self.register_buffer("mask", torch.tensor([[True, False], [True, True]]))
        self.proj = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Anything."""
        return self.proj(rows) * self.scale


class Root(torch.nn.Module):  # type: ignore[misc]
    """A model of numbered parts."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = torch.nn.Sequential(Block(), torch.nn.Linear(2, 2).half().float())
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Anything."""
        found: torch.Tensor = self.visual(rows) * self.logit_scale
        return found


def main() -> None:
    """Write the golden file."""
    torch.manual_seed(0)
    root, table = Root().eval(), torch.arange(12.0).reshape(3, 4)
    shared = {"whole": table, "turned": table.t(), "part": table[1:, 1:3], "none": torch.zeros(0, 3)}
    kinds = {
        str(kind).partition(".")[2]: torch.arange(5).to(kind)
        for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8)
    }
    parameters = {"a": torch.nn.Parameter(table)}
    states = {"views": shared, "kinds": kinds, "parameters": parameters, "state": dict(root.state_dict())}
    writers: dict[str, Callable[[io.BytesIO], Any]] = {
        **{name: lambda file, state=state: torch.save(state, file) for name, state in states.items()},  # type: ignore[misc]
        "checkpoint": lambda file: torch.save({"epoch": 3, "name": "run", "state_dict": root.state_dict()}, file),
        "before 1.6": lambda file: torch.save(shared | kinds, file, _use_new_zipfile_serialization=False),
        "script": lambda file: torch.jit.save(torch.jit.script(root), file),
        "trace": lambda file: torch.jit.save(torch.jit.trace(root, torch.zeros(1, 3)), file),
    }
    expected = {name: states.get(name, dict(root.state_dict())) for name in writers} | {"before 1.6": shared | kinds}
    files = {}
    for name, write in writers.items():
        buffer = io.BytesIO()
        write(buffer)
        values = {key: tensor.double().tolist() for key, tensor in expected[name].items()}
        files[name] = {"file": base64.b64encode(buffer.getvalue()).decode(), "values": values}
    TARGET.write_text(json.dumps({"versions": {"torch": torch.__version__}, "files": files}) + "\n", encoding="utf-8")
    print(f"wrote {TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
