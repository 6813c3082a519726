"""What `make test-matrix` installs: every dependency in the lowest version that pyproject.toml allows."""

from __future__ import annotations

import sys
import tomllib

import pytest
import run_matrix
from packaging.requirements import Requirement
from packaging.version import Version


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_dependency_gets_a_lowest_version_that_is_allowed(version: str) -> None:
    project = tomllib.loads((run_matrix.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    allowed = {item.name: item.specifier for item in map(Requirement, lines) if item.name != project["name"]}
    lowest = dict(line.split("==") for line in run_matrix.list_lowest(version))
    assert set(lowest) == set(allowed)
    assert all(allowed[name].contains(Version(found)) for name, found in lowest.items())
    assert set(run_matrix.EXTRAS) <= set(project["optional-dependencies"])


def test_a_python_that_is_not_here_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_matrix.py", "--python", "python0.0"])
    assert run_matrix.main() == 0
    assert capsys.readouterr().out == "python0.0      left out: it is not here\n"


def test_the_version_of_a_python_is_told_without_its_patch() -> None:
    assert run_matrix.find_version(sys.executable) == f"{sys.version_info[0]}.{sys.version_info[1]}"
