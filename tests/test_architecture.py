"""The rules of the house that a reader cannot see at a glance: who may import whom, and what a start may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGE = Path(__file__).parent.parent / "src" / "clipworks"
MODULES = {
    ".".join(("clipworks", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# What a module may import from clipworks at any level; a module that is not here may import anything but the entry
# points below. Everybody may import errors.
ALLOWED = {
    "clipworks.errors": set(),
    "clipworks.caches": set(),
    "clipworks.cards": set(),
    "clipworks.bundle": {"clipworks.cards", "clipworks.caches"},
    "clipworks.signatures": set(),
    "clipworks.modes": set(),
    "clipworks.resizing": {"clipworks.cards", "clipworks._resampling"},
    "clipworks.images": {"clipworks.cards", "clipworks.modes", "clipworks.resizing", "clipworks.signatures"},
    "clipworks.processor": set(),
    "clipworks.environment": {"clipworks", "clipworks.processor"},
    "clipworks.prompts": set(),
    "clipworks.scoring": set(),
    "clipworks.matching": {"clipworks.cards", "clipworks.scoring", "clipworks"},
    "clipworks.datasets": set(),
    "clipworks.truth": {"clipworks.prompts"},
    "clipworks.records": set(),
    "clipworks.sample_text": {"clipworks.records"},
    "clipworks.parquet": {"clipworks.records"},
    "clipworks.locations": set(),
    "clipworks.shards": {"clipworks.journal", "clipworks.locations", "clipworks.parquet", "clipworks.records"},
    "clipworks.results": {"clipworks.records", "clipworks.sample_text", "clipworks.parquet", "clipworks.shards"},
    "clipworks.journal": {"clipworks.records"},
    "clipworks.evaluation": {
        "clipworks.datasets",
        "clipworks.evaluation.accuracy",
        "clipworks.evaluation.records",
        "clipworks.evaluation.truth",
        "clipworks.journal",
        "clipworks.prompts",
        "clipworks.records",
        "clipworks.results",
        "clipworks.shards",
        "clipworks.truth",
    },
    # Two pipelines side by side: it may run everything below the command line, but measures and writes no results.
    "clipworks.diagnosis": {
        "clipworks.bundle",
        "clipworks.cards",
        "clipworks.clip_vocabulary",
        "clipworks.convert.checkpoint",
        "clipworks.convert.layouts",
        "clipworks.convert.reference",
        "clipworks.environment",
        "clipworks.images",
        "clipworks.resizing",
        "clipworks.runtimes",
        "clipworks.runtimes.probes",
        "clipworks.runtimes.weights",
        "clipworks.scoring",
        "clipworks.store",
        "clipworks.tokens",
    },
    # Saved results in, pictures out: whatever could run something again is out of its reach.
    "clipworks.report": {
        "clipworks",
        "clipworks.cards",
        "clipworks.comparison.figures",
        "clipworks.comparison.published",
        "clipworks.comparison.records",
        "clipworks.environment",
        "clipworks.evaluation.accuracy",
        "clipworks.evaluation.files",
        "clipworks.evaluation.records",
        "clipworks.evaluation.text",
        "clipworks.images",
        "clipworks.profiling.records",
        "clipworks.profiling.search",
        "clipworks.profiling.statistics",
        "clipworks.records",
        "clipworks.results",
        "clipworks.shards",
    },
    "clipworks.runtimes": {
        "clipworks._towers",
        "clipworks.bundle",
        "clipworks.caches",
        "clipworks.environment",
        "clipworks.processor",
        "clipworks.resizing",
        "clipworks.runtimes",
    },
}
ENGINES = {"openvino", "onnxruntime", "torch", "tensorrt"}
# Ray is an engine of another kind: it brings the scheduling. Only these know it.
ON_RAY = {f"clipworks.distributed.{name}" for name in ("cluster", "engine", "failures", "head", "statistics")}
ENTRY_POINTS = ("clipworks.cli", "clipworks.compat")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {
                f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module for alias in node.names
            }
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_keeps_to_its_neighbours(name: str) -> None:
    """Lower modules import only what stands below them; nothing imports the command line."""
    own = {item for item in imports(MODULES[name]) if item.split(".")[0] == "clipworks"} - {"clipworks.errors"}
    if not name.startswith((*ENTRY_POINTS, "clipworks.__main__")):
        assert not {item for item in own if f"{item}.".startswith(tuple(f"{point}." for point in ENTRY_POINTS))}
    room = next((key for key in ALLOWED if name == key or name.startswith(key + ".")), None)
    if room is not None:
        others = {item for item in own if not item.startswith(f"{room}.")}
        assert others <= ALLOWED[room], f"{name} may import its own room and {sorted(ALLOWED[room])} only"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_engines_are_imported_only_in_their_own_module(name: str) -> None:
    engines = {item.split(".")[0] for item in imports(MODULES[name])} & ENGINES
    if name.startswith("clipworks.runtimes."):
        assert engines <= {name.split(".")[2]}
    elif not name.startswith("clipworks.convert"):  # a .pt checkpoint can be read by PyTorch alone
        assert not engines


@pytest.mark.parametrize("name", sorted(MODULES))
def test_ray_is_imported_only_where_it_is_the_engine(name: str) -> None:
    assert name in ON_RAY or "ray" not in {item.split(".")[0] for item in imports(MODULES[name])}


@pytest.mark.parametrize("statement", ["import clipworks", "from clipworks.cli import main; main(['--help'])"])
def test_a_start_imports_no_engine_no_pictures_no_plots(statement: str) -> None:
    check = (
        f"import sys; {statement}; heavy = {{'numpy', 'PIL', 'openvino', 'onnxruntime', 'torch', 'matplotlib', "
        "'tokenizers', 'huggingface_hub', 'onnx'}; sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64", "ARM64", "i686", "riscv64"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "freebsd14"])
def test_every_platform_gets_one_engine_of_its_own(system: str, machine: str) -> None:
    """OpenVINO where it publishes wheels, ONNX Runtime elsewhere, and never both."""
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    place = {"sys_platform": system, "platform_machine": machine}
    engines = [item.name for item in needed if item.name in ENGINES and item.marker and item.marker.evaluate(place)]
    expected = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",), "win32": ("AMD64",)}
    assert engines == ["openvino" if machine in expected.get(system, ()) else "onnxruntime"]
    assert [Requirement(line).name for line in project["optional-dependencies"]["onnxruntime"]] == ["onnxruntime"]


def test_no_module_does_two_jobs() -> None:
    """A file well past 250 lines is split by job."""
    long = {name: lines for name, path in MODULES.items() if (lines := path.read_text().count("\n")) > 280}
    assert not long
