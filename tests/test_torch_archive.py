"""PyTorch's files are read without PyTorch, as PyTorch reads them, and nothing in them runs."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch_archives import number, text, write_archive

from clipworks.errors import ConversionError
from clipworks.families.torch_archive import read_archive

GOLDEN = json.loads((Path(__file__).parent / "golden" / "torch_archives.json").read_text(encoding="utf-8"))["files"]


def write_golden(folder: Path, name: str) -> Path:
    path = folder / "weights.pt"
    path.write_bytes(base64.b64decode(GOLDEN[name]["file"]))
    return path


@pytest.mark.parametrize("name", GOLDEN)
def test_every_kind_of_file_gives_the_values_that_pytorch_wrote(tmp_path: Path, name: str) -> None:
    found, expected = read_archive(write_golden(tmp_path, name)), GOLDEN[name]["values"]
    assert set(found) == set(expected)
    for key, values in expected.items():
        wide = np.array(values, np.float64).reshape(found[key].shape)
        np.testing.assert_array_equal(found[key].astype(np.float64), wide)


def test_the_types_are_those_that_pytorch_wrote(tmp_path: Path) -> None:
    found = read_archive(write_golden(tmp_path, "kinds"))
    assert all(str(tensor.dtype) == name for name, tensor in found.items())


class Attack:
    """What runs a command where a pickle is read as any pickle is."""

    def __init__(self, call: Any, *words: Any) -> None:
        self.call, self.words = call, words

    def __reduce__(self) -> Any:
        return self.call, self.words


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (Attack(os.system, "touch ran"), r"(posix|nt)\.system"),
        (Attack(eval, "open('ran', 'w')"), r"__builtin__\.eval"),
        (Attack(getattr, "ran", "encode"), r"__builtin__\.getattr"),
        (Attack(os.makedirs, "ran"), r"os\.makedirs"),
    ],
)
@pytest.mark.parametrize("kind", ["an archive", "before 1.6"])
def test_a_pickle_that_runs_code_is_refused_by_name_and_does_not_run(
    tmp_path: Path, attack: Attack, named: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"weights": attack}, protocol=2)
    path = tmp_path / "weights.pt"
    if kind == "before 1.6":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    with pytest.raises(ConversionError, match=rf"it names {named}, which is no part of a state dict"):
        read_archive(path)
    assert list(tmp_path.iterdir()) == [path]


def rewrite(path: Path, **parts: bytes | None) -> None:
    """Replace members of an archive, or leave them out."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    for name, content in parts.items():
        kept[f"archive/{name.replace('__', '/').replace('_pkl', '.pkl')}"] = content or b""
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in kept.items():
            if body:
                archive.writestr(name, body)


def test_an_archive_that_is_cut_short_or_of_another_kind_is_told(tmp_path: Path) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.float16)}
    path = write_archive(tmp_path / "weights.pt", tensors)
    np.testing.assert_array_equal(read_archive(path)["a"], tensors["a"])
    rewrite(path, data__0=b"123")
    with pytest.raises(ConversionError, match="the storage 0 is cut short: 3 bytes for 6 values"):
        read_archive(path)
    rewrite(write_archive(path, tensors), byteorder=b"big")
    with pytest.raises(ConversionError, match="its numbers are big-endian; allowed: little"):
        read_archive(path)
    rewrite(write_archive(path, tensors), data_pkl=None)
    with pytest.raises(ConversionError, match=r"it is a ZIP file without data\.pkl"):
        read_archive(path)
    rewrite(write_archive(path, tensors), data_pkl=b"\x80\x02" + text("not a state dict") + b".")
    with pytest.raises(ConversionError, match="holds no state dict: a mapping of names to tensors was expected"):
        read_archive(path)
    content = write_archive(path, tensors).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConversionError, match="cannot be read as PyTorch weights: File is not a zip file"):
        read_archive(path)


def test_a_tensor_that_reaches_past_its_storage_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "weights.pt", {"a": np.arange(6, dtype=np.float32)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("archive/data.pkl")
    offset = content.index(b"tQJ\0\0\0\0") + 3
    rewrite(path, data_pkl=content[:offset] + b"\1" + content[offset + 1 :])
    with pytest.raises(ConversionError, match=r"a tensor of shape \[6\] reaches past its storage of 6"):
        read_archive(path)


def test_a_tensor_that_repeats_its_storage_without_end_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "weights.pt", {"a": np.arange(6, dtype=np.float32)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("archive/data.pkl")
    small = b"(" + number(6) + b"t(" + number(1) + b"t"
    assert small in content
    rewrite(path, data_pkl=content.replace(small, b"(" + number(2**30) + b"t(" + number(0) + b"t"))
    with pytest.raises(ConversionError, match=r"a tensor of shape \[1073741824\] reaches past its storage of 6"):
        read_archive(path)


@pytest.mark.parametrize(
    "state",
    [
        b"c__torch__\nRoot\n)\x81]b.",  # a list for its parts
        b"c__torch__\nRoot\n)\x81q\0}(" + text("self") + b"h\0ub.",  # a module that holds itself
    ],
)
def test_a_module_that_is_none_is_refused(tmp_path: Path, state: bytes) -> None:
    path = write_archive(tmp_path / "weights.pt", {"a": np.arange(6, dtype=np.float32)})
    rewrite(path, data_pkl=b"\x80\x02" + state)
    with pytest.raises(ConversionError, match="cannot be read as PyTorch weights"):
        read_archive(path)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_damaged_file_is_an_error_or_gives_tensors(tmp_path: Path, name: str) -> None:
    content, draw = base64.b64decode(GOLDEN[name]["file"]), random.Random(name)
    path = tmp_path / "weights.pt"
    refused = 0
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        path.write_bytes(changed[: draw.randint(len(changed) // 2, len(changed))] if draw.random() < 0.3 else changed)
        try:
            assert all(np.isfinite(tensor.size) for tensor in read_archive(path).values())
        except ConversionError:
            refused += 1
    assert refused
