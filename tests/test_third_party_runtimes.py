"""A runtime of another distribution: an entry point and one row, found by its name and nowhere imported before."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLE

from clipworks import runtimes
from clipworks.cli import main
from clipworks.errors import RuntimeUnavailableError, UnknownNameError
from clipworks.options import RuntimeOptions

MODULE = """
import dataclasses

from clipworks.runtimes import Implementation, Runtime
from clipworks.runtimes.fake import FakeEncoder


class ToyEncoder(FakeEncoder):
    runtime = "toy"


def open_encoder(request):
    return ToyEncoder(precision="f32", dim=request.tower.dim)


def load():
    return Implementation(open_encoder=open_encoder, describe_devices=lambda: {"cpu": ["f32"]})


ROW = Runtime(name="toy", load=load, distribution="toy-clip")
"""
Patch = pytest.MonkeyPatch
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: Patch) -> None:
    """A distribution as pip leaves it: a module and metadata in a folder on the path."""
    write_distribution(tmp_path, MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_clip", raising=False)


def write_distribution(folder: Path, module: str) -> None:
    info = folder / "toy_clip-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-clip\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[clipworks.runtimes]\ntoy = toy_clip:ROW\n")
    (folder / "toy_clip.py").write_text(module)


@pytest.mark.usefixtures("install")
def test_a_command_runs_on_it_when_it_is_named(capsys: Printed) -> None:
    assert main(["match", str(EXAMPLE), "a dog", "a cat", "--runtime", "toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"] == "toy"


@pytest.mark.usefixtures("install")
def test_it_is_not_imported_before_and_never_taken_by_auto(capsys: Printed) -> None:
    assert main(["--help"]) == 0
    assert main(["match", str(EXAMPLE), "a dog", "a cat", "--runtime", "fake", "--json"]) == 0
    capsys.readouterr()
    assert "toy_clip" not in sys.modules
    assert runtimes.choose_runtime() != "toy"


@pytest.mark.usefixtures("install")
def test_devices_and_messages_know_it(capsys: Printed) -> None:
    assert main(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = [item for item in found["runtimes"] if item["name"] == "toy"]
    assert (row["version"], row["problem"]) == ("1.2", None)
    assert [(device["name"], device["precisions"]) for device in row["devices"]] == [("cpu", ["f32"])]
    assert found["environment"]["packages"]["toy-clip"] == "1.2"
    with pytest.raises(UnknownNameError, match="unknown runtime 'toi': did you mean 'toy'"):
        runtimes.choose_runtime("toi")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import nothing_of_this_name", "the runtime toy, toy_clip:ROW, cannot be imported: No module named"),
        ("ROW = 5", "toy_clip:ROW is 5; allowed: a clipworks.runtimes.Runtime 'toy'"),
        (MODULE.replace('name="toy"', 'name="other"'), "allowed: a clipworks.runtimes.Runtime 'toy'"),
    ],
)
def test_one_that_is_broken_is_told_when_it_is_named_and_hinders_nobody_else(
    module: str, said: str, tmp_path: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    write_distribution(tmp_path, module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_clip", raising=False)
    with pytest.raises(RuntimeUnavailableError) as caught:
        runtimes.choose_runtime("toy")
    assert said in caught.value.message
    assert main(["devices", "--json"]) == 0
    rows = {item["name"]: item for item in json.loads(capsys.readouterr().out)["runtimes"]}
    assert said in rows["toy"]["problem"]
    assert rows["openvino"]["problem"] is None
    assert main(["match", str(EXAMPLE), "a dog", "--runtime", "fake"]) == 0


def test_a_row_may_need_a_package_that_is_not_there(tmp_path: Path, monkeypatch: Patch) -> None:
    row = MODULE.replace('distribution="toy-clip"', 'package="not.there", install="pip install there"')
    write_distribution(tmp_path, row)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_clip", raising=False)
    with pytest.raises(RuntimeUnavailableError, match="the runtime toy is not installed") as caught:
        runtimes.choose_runtime("toy")
    assert caught.value.hint == "pip install there"
    assert RuntimeOptions(runtime="toy").runtime == "toy"
