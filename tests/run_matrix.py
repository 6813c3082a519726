"""Run tests on each Python that is supported, with the lowest and with the newest dependencies that are allowed.

    python tests/run_matrix.py --python python3.12 --dependencies lowest tests/test_cli.py

Each pair has an environment of its own, made again when pyproject.toml has changed: ``.venv-matrix/3.12-lowest``. What
is not said is all: every Python of ``PYTHONS`` that is found, both kinds of dependencies, every test. A Python that is
not found is left out, which is said.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYTHONS = ("python3.11", "python3.12", "python3.13")
KINDS = ("lowest", "newest")
EXTRAS = ("onnxruntime", "parquet", "report")
"""Extras whose tests run; PyTorch and Ray have environments of their own (see the Makefile)."""
TEST_PACKAGES = ("pytest", "pytest-xdist")
# Where a Python came later than the lowest version that is allowed: the first version that has wheels for it.
FIRST_WHEELS = {"3.13": {"numpy": "2.1.0", "matplotlib": "3.9.2"}}


def list_lowest(version: str) -> Iterator[str]:
    """Each direct dependency in its lowest version, or the first for a Python, as pip's constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    for item in sorted({Requirement(line) for line in lines}, key=str):
        if bound := [one.version for one in item.specifier if one.operator == ">="]:
            yield f"{item.name}=={FIRST_WHEELS.get(version, {}).get(item.name, bound[0])}"


def find_version(python: str) -> str | None:
    """The version of an interpreter, as 3.12; None where there is none of this name."""
    try:
        told = subprocess.run(
            [python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


def make_environment(python: str, version: str, kind: str) -> Path:
    """Make the environment of a pair, if it is not there or pyproject.toml has changed, and return its Python."""
    folder = ROOT / ".venv-matrix" / f"{version}-{kind}"
    mark, program = folder / "made", folder / "bin" / "python"
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == state:
        return program
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    limits = folder / "constraints.txt"
    limits.write_text("\n".join(list_lowest(version)) if kind == "lowest" else "")
    install = [str(program), "-m", "pip", "install", "--disable-pip-version-check", "-c", str(limits)]
    wanted = ["--editable", f".[{','.join(EXTRAS)}]", *TEST_PACKAGES]
    done = subprocess.run([*install, *wanted], check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[done.stderr.find("ERROR:") :], file=sys.stderr)
        done.check_returncode()
    mark.write_text(state)
    return program


def main() -> int:
    """Run, say how each pair went, and return 0, or 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", help="an interpreter; several times for several")
    parser.add_argument("--dependencies", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("tests", nargs="*", help="of pytest: files, and options behind --")
    args = parser.parse_args()
    results: dict[str, str] = {}
    for python in args.python or PYTHONS:
        if (version := find_version(python)) is None:
            results[python] = "left out: it is not here"
            continue
        for kind in args.dependencies:
            print(f"== Python {version}, {kind} dependencies", flush=True)
            try:
                program = make_environment(python, version, kind)
            except subprocess.CalledProcessError:  # pip has said why
                results[f"{version} {kind}"] = "failed: it cannot be installed"
                continue
            command = [str(program), "-m", "pytest", "-n", "2", "--dist", "worksteal", *args.tests]
            done = subprocess.run(command, check=False, cwd=ROOT)
            results[f"{version} {kind}"] = "passed" if done.returncode == 0 else f"failed ({done.returncode})"
    print("\n".join(f"{pair:<14} {said}" for pair, said in results.items()))
    return int(any(said.startswith("failed") for said in results.values()))


if __name__ == "__main__":
    sys.exit(main())
