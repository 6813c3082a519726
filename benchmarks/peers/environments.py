"""Each peer's own environment: made once, pinned, measured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from peers.rows import ENVIRONMENTS, Row

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".venv-peers"
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
"""What `python -m venv` brings itself; not counted."""


def make_environment(name: str) -> Path:
    """Make a peer's environment, unless it is there as it is pinned; return its interpreter."""
    wanted = ENVIRONMENTS[name]
    home, python = HOME / name, HOME / name / "bin" / "python"
    stamp = home / "installed.json"
    own = [hash_source(), (ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    asked = json.dumps([*wanted.packages, *wanted.extra, *([wanted.option, *own] if not wanted.packages else [])])
    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8"))["asked"] == asked:
        return python
    shutil.rmtree(home, ignore_errors=True)  # what an older form needed must not be counted
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # a build takes along what an older one left there
    run(sys.executable, "-m", "venv", str(home))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, *(wanted.packages or [str(ROOT)]))
    sizes = {"installed_mb": measure_folder(home)}
    if wanted.option:
        run(*pip, f"{ROOT}[{wanted.option}]")
        sizes["installed_with_option_mb"] = measure_folder(home)
    if wanted.extra:
        run(*pip, *wanted.extra)
    stamp.write_text(json.dumps({"asked": asked, **sizes}), encoding="utf-8")
    return python


def measure_size(row: Row) -> float:
    """MB (10^6 bytes) that a row and all that it needs took when it was installed, before anything of ours."""
    stamp = json.loads((HOME / row.peer / "installed.json").read_text(encoding="utf-8"))
    return float(stamp["installed_with_option_mb" if row.optional else "installed_mb"])


def measure_folder(home: Path) -> float:
    """MB of an environment's packages, compiled Python code included, its installer left out."""
    (folder,) = (home / "lib").glob("python*/site-packages")
    total = 0
    for path in folder.rglob("*"):
        top = path.relative_to(folder).parts[0]
        if top not in INSTALLERS and top.partition("-")[0] not in INSTALLERS and path.is_file():
            total += path.lstat().st_size
    return total / 1e6


def list_versions(name: str, packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of some packages."""
    script = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({d.metadata['Name'].lower().replace('-', '_'): d.version for d in m.distributions()}))"
    )
    python = HOME / name / "bin" / "python"
    found = json.loads(subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout)
    return {package: found[package] for package in packages if package in found}


def hash_source(folder: str = "src") -> str:
    """The SHA-256 of clipworks' source, or of a part of it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".c", ".h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def describe_surroundings() -> dict[str, str]:
    """The variables of a worker's process: our modules, no model hub, no progress bars."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "benchmarks"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "true",
        "CLIPWORKS_CACHE": str(HOME / "cache"),
        "DO_NOT_TRACK": "1",
    }


def run(*words: str) -> None:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
