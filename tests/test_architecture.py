"""The rules of the house that a reader cannot see at a glance: who may import whom, and what a start may cost."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import children
import pytest
from packaging.requirements import Requirement

from clipworks.families.registry import FAMILIES
from clipworks.runtimes.registry import RUNTIMES

PACKAGE = Path(__file__).parent.parent / "src" / "clipworks"
MODULES = {
    ".".join(("clipworks", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# Everybody may import these: they know nobody.
FREE = ("errors", "display", "endings", "options", "urls")
# Room -> what its modules may import of clipworks at any level, beside their own room and those. "store" is the front
# door of that room alone, "store.known" one module of it, "store.*" all of it, "clipworks" the package itself. Every
# module belongs to a room of this table: a new one gets a line here.
ROOMS = {
    "clipworks": "bundle.card loading model scoring",
    "__main__": "cli interrupts",
    # Facts and small tools: they know nobody.
    **dict.fromkeys(FREE, ""),
    "cache": "",
    "interrupts": "",
    "processor": "",
    "scoring": "bundle.card runtimes.protocol",
    "environment": "clipworks processor runtimes.registry",
    "bundle": "cache images.signatures",
    # Images and texts on their way to a tower.
    "images": "bundle.card runtimes.torch.jpeg",
    "text": "bundle.card",
    # Towers: from checkpoints, on runtimes, in the store.
    "towers": "bundle.*",
    "families": "bundle.card images.signatures text.clip_vocabulary text.wordpiece towers.*",
    "runtimes": ("bundle.* cache export.* images._resampling images.resize interrupts processor text.packing towers.*"),
    "export": "bundle.card cache text.packing towers.*",
    "convert": "bundle.* families.* images.decode runtimes.* scoring text.* towers.*",
    "store": "bundle.* cache convert families.refused",
    # One model at work.
    "arguments": "bundle.card images.resize text.tokenizers",
    "loading": "arguments model options runtimes store",
    "model": "arguments bundle.* cache datasets.listing images.* pipeline runtimes scoring text.*",
    "datasets": "images.archives images.signatures text.files text.prompts",
    # The loop knows no model: what is done with a block is given to it.
    "pipeline": "datasets.listing images.decoders processor scoring",
    # What is written and read again.
    "results": "bundle.* datasets.* environment images.decoders interrupts model runtimes",
    "evaluation": "datasets.* results.* text.*",
    # Tasks.
    "tasks": (
        "bundle.* cache datasets.* evaluation.accuracy evaluation.evaluation images.* model pipeline results.* "
        "runtimes scoring text.*"
    ),
    "profiling": (
        "bundle.* datasets.* environment images.* pipeline processor runtimes scoring store tasks.zero_shot text.*"
    ),
    "comparison": (
        "bundle.* datasets.* environment evaluation.accuracy evaluation.evaluation images.* model pipeline profiling.* "
        "results.* runtimes scoring store tasks.* text.*"
    ),
    # Two pipelines side by side: it may run everything below the command line, but measures and writes no results.
    "doctor": "bundle.* convert environment families.* images.* runtimes.* scoring store text.* towers.*",
    "cluster": (
        "bundle.* datasets.* images.* loading model pipeline processor results.* runtimes scoring tasks.* text.*"
    ),
    "serve": (
        "bundle.* clipworks convert.answers environment images.decode model processor runtimes "
        "runtimes.protocol scoring store store.known tasks.zero_shot text.prompts text.tokenizers"
    ),
    # Saved results in, figures out: whatever could run something again is out of its reach.
    "report": (
        "bundle.records cache clipworks comparison.figures comparison.published comparison.comparison environment "
        "doctor.deviation doctor.diagnosis doctor.vector_check evaluation.accuracy evaluation.files "
        "evaluation.evaluation images.* profiling.http_load profiling.profile profiling.search "
        "profiling.statistics results.*"
    ),
    # The entry points may use everything, and nothing imports them.
    "cli": "*",
    "vendor_sample": "*",
}
ENTRY_POINTS = ("cli", "vendor_sample")
# Package -> the only modules or rooms that import it, under clipworks. Ray is of another kind: it brings the
# scheduling.
PACKAGES = {
    "openvino": "runtimes.openvino runtimes.openvino_model",
    "onnxruntime": "runtimes.onnxruntime",
    "torch": "runtimes.torch.*",
    "tensorrt": "",
    "ray": "cluster.cluster cluster.failures cluster.stages cluster.statistics",
}


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


def room_of(name: str) -> str:
    """The room of a module, and of a name in the table."""
    first, _, rest = name.partition(".")
    return (rest.partition(".")[0] or first) if first == "clipworks" else first


def is_allowed(name: str, allowed: str) -> bool:
    """Whether a module, named as under clipworks, is in a list of the table."""
    return any(
        item in ("*", name) or (item.endswith(".*") and f"{name}.".startswith(item.removesuffix("*")))
        for item in allowed.split()
    )


def find_faults(name: str, found: set[str]) -> list[str]:
    """What a module imports and may not."""
    room, faults = room_of(name), []
    if room not in ROOMS:
        return [f"{name}: the table has no room {room!r}; add a line that says what it may import"]
    for item in sorted(found):
        package, _, inner = item.partition(".")
        if package == "clipworks":
            other = room_of(item)
            entry = other in ENTRY_POINTS and room not in (*ENTRY_POINTS, "__main__")
            if other not in (room, *FREE) and (entry or not is_allowed(inner or "clipworks", ROOMS[room])):
                faults.append(f"{name} imports {item}; {room} may import: {ROOMS[room] or 'nothing'}")
        elif package in PACKAGES and not is_allowed(name.removeprefix("clipworks."), PACKAGES[package]):
            faults.append(f"{name} imports {item}; only these may: {PACKAGES[package] or 'none'}")
    return faults


def test_every_module_imports_only_what_its_room_may() -> None:
    """Lower rooms import only what stands below them, packages stay in their modules, and nothing imports an entry."""
    assert [fault for name, path in sorted(MODULES.items()) for fault in find_faults(name, imports(path))] == []


def test_nobody_but_the_registry_knows_a_family() -> None:
    """What reads a layout, converts, stores or examines a model works for whatever family it is of."""
    families = {family.read.__module__ for family in FAMILIES}
    knowing = {name for name, path in MODULES.items() if families & imports(path)}
    assert knowing == {"clipworks.families.registry"}


def test_the_table_of_rooms_names_what_there_is() -> None:
    known = {name.removeprefix("clipworks.") for name in MODULES}
    known |= {"images._resampling", "runtimes.native._towers", "*"}
    known |= {f"{name.rpartition('.')[0]}.*" for name in known if "." in name}
    named = {item for line in (*ROOMS.values(), *PACKAGES.values()) for item in line.split()} | set(ROOMS)
    assert sorted(named - known) == []


@pytest.mark.parametrize(
    ("name", "imported", "fault"),
    [
        ("clipworks.bundle.card", "clipworks.images.resize", "bundle may import: cache"),
        ("clipworks.report.plots", "clipworks.evaluation.truth", "imports clipworks.evaluation.truth; report may"),
        ("clipworks.report.plots", "clipworks.profiling", "imports clipworks.profiling; report may import"),
        ("clipworks.runtimes.openvino", "clipworks", "imports clipworks; runtimes may import"),
        ("clipworks.tasks.classify", "clipworks.cli.terminal", "imports clipworks.cli.terminal; tasks may"),
        ("clipworks", "clipworks.vendor_sample", "imports clipworks.vendor_sample; clipworks may import"),
        ("clipworks.novelty", "clipworks.bundle.card", "the table has no room 'novelty'"),
        ("clipworks.model", "torch.nn", "imports torch.nn; only these may: runtimes.torch"),
        ("clipworks.runtimes.openvino", "onnxruntime", "imports onnxruntime; only these may: runtimes.onnxruntime"),
        ("clipworks.cluster.plan", "ray.data", "imports ray.data; only these may: cluster.cluster"),
        ("clipworks.store.hub", "clipworks.store.known", None),
        ("clipworks.convert.verify", "clipworks.runtimes.probes", None),
        ("clipworks.runtimes.torch.jpeg", "torch", None),
        ("clipworks.cli.match", "clipworks.profiling.search", None),
        ("clipworks.images.modes", "clipworks.errors", None),
    ],
)
def test_an_import_that_is_not_allowed_is_a_fault(name: str, imported: str, fault: str | None) -> None:
    found = find_faults(name, {imported})
    assert (fault is None) == (found == [])
    assert fault is None or fault in found[0]


@pytest.mark.parametrize("statement", ["import clipworks", "from clipworks.cli import main; main(['--help'])"])
def test_a_start_imports_no_runtime_no_images_no_plots(statement: str) -> None:
    check = (
        f"import sys; {statement}; heavy = {{'numpy', 'PIL', 'openvino', 'onnxruntime', 'torch', 'matplotlib', "
        "'tokenizers', 'huggingface_hub', 'onnx'}; sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = children.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64", "ARM64", "i686", "riscv64"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "freebsd14"])
def test_every_platform_gets_one_runtime_of_its_own(system: str, machine: str) -> None:
    """OpenVINO where it publishes wheels, ONNX Runtime elsewhere, and never both."""
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    place = {"sys_platform": system, "platform_machine": machine}
    runtimes = [item.name for item in needed if item.name in PACKAGES and item.marker and item.marker.evaluate(place)]
    expected = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",), "win32": ("AMD64",)}
    assert runtimes == ["openvino" if machine in expected.get(system, ()) else "onnxruntime"]
    assert [Requirement(line).name for line in project["optional-dependencies"]["onnxruntime"]] == ["onnxruntime"]


def test_nobody_asks_a_runtime_for_its_name() -> None:
    """What others want to know of a runtime stands in its row."""
    faults = [
        f"{name}:{node.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        for part in (side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side])
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in RUNTIMES
        if not name.startswith(f"clipworks.runtimes.{part.value}")
    ]
    assert faults == []


def test_no_module_does_two_jobs() -> None:
    """A file well past 250 lines is split by job."""
    long = {name: lines for name, path in MODULES.items() if (lines := path.read_text().count("\n")) > 280}
    assert not long


# Names that two classes still share: whoever works on one of them takes it off.
PENDING: set[str] = set()


def test_no_two_classes_share_a_name() -> None:
    """Private ones too, and those within functions: whoever reads a name knows which class it is."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.lstrip("_"), set()).add(module)
    shared = {name: sorted(modules) for name, modules in sorted(found.items()) if len(modules) > 1}
    assert {name: modules for name, modules in shared.items() if name not in PENDING} == {}
    assert sorted(PENDING - set(shared)) == []
