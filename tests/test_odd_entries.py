"""A run over a folder ends well whatever stands in it: one error for each entry that is no image, all others done."""

from __future__ import annotations

import errno
import inspect
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipworks.cli import main
from clipworks.datasets.listing import read_dataset, walk_folder
from clipworks.datasets.selection import Selection, read_selection
from clipworks.errors import ImageError
from clipworks.images.files import read_file
from clipworks.profiling.inputs import choose_files

GOOD = ["a.png", "folder.jpg/in.png", "line\nbreak.png", "l" * 250 + ".png", os.fsdecode(b"\xff\xfe.png"), "z.png"]
LOOP = os.strerror(errno.ELOOP)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, str]]:
    """A folder with good images and odd entries; for each of those that have an image's ending, what is said of it."""
    folder = tmp_path / "odd"
    (folder / "folder.jpg").mkdir(parents=True)
    for name in GOOD:
        Image.new("RGB", (9, 9), "red").save(folder / name)
    bad = {"self.jpg": LOOP, "there.jpg": LOOP, "back.jpg": LOOP, "gone.jpg": "does not exist"}
    for name, target in (("self", "self"), ("there", "back"), ("back", "there"), ("gone", "nowhere")):
        (folder / f"{name}.jpg").symlink_to(f"{target}.jpg")
    (folder / "loop").symlink_to("loop")  # by its ending no image, and no folder that could be entered
    (folder / "circle").mkdir()
    (folder / "circle" / "up").symlink_to(folder)
    (folder / "empty.jpg").touch()
    bad["empty.jpg"] = "is empty"
    if Path("/dev/zero").exists():
        (folder / "endless.jpg").symlink_to("/dev/zero")
        bad["endless.jpg"] = "is no regular file"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        os.mkfifo(folder / "pipe")
        bad["pipe.jpg"] = "is no regular file"
    if hasattr(socket, "AF_UNIX"):
        monkeypatch.chdir(folder)  # a socket's path may have 100 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
        bad["socket.png"] = "is no regular file"
    return folder, bad


def run(*words: object) -> int:
    return main([*map(str, words), "--runtime", "fake"])


def read_records(path: Path, folder: Path) -> dict[str, Any]:
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {os.path.relpath(record["path"], folder): record for record in records}


def test_every_odd_entry_is_one_error_and_all_others_are_done(odd: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, bad = odd
    labels = tmp_path / "labels.txt"
    labels.write_text("red\nblue\n", encoding="utf-8")
    assert run("embed", folder, "-o", tmp_path / "vectors") == 0
    assert run("classify", folder, "--labels", labels, "-o", tmp_path / "classes.jsonl") == 0
    for file in (tmp_path / "vectors" / "records.jsonl", tmp_path / "classes.jsonl"):
        found = read_records(file, folder)
        assert set(found) == {*GOOD, *bad}
        for name, said in bad.items():
            assert said in found[name]["error"]
        assert not any("error" in found[name] for name in GOOD)
    rows = np.load(tmp_path / "vectors" / "embeddings.npy")
    assert np.isfinite(rows).all(axis=1).sum() == len(GOOD)


def test_a_folder_below_that_cannot_be_listed_is_one_error(
    odd: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, bad = odd
    list_folder = os.scandir

    def refuse(path: str) -> Any:
        if os.path.basename(path) == "folder.jpg":  # noqa: PTH119
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return list_folder(path)

    monkeypatch.setattr("clipworks.datasets.listing.os.scandir", refuse)  # whoever runs the tests may read every folder
    assert run("embed", folder, "-o", tmp_path / "vectors") == 0
    found = read_records(tmp_path / "vectors" / "records.jsonl", folder)
    assert set(found) == {*GOOD, *bad, "folder.jpg"} - {"folder.jpg/in.png"}
    assert "folder.jpg" in found["folder.jpg"]["error"]
    monkeypatch.setattr("clipworks.datasets.listing.os.scandir", lambda path: refuse(f"{path}/folder.jpg"))
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read_dataset(folder)


def test_files_and_folders_that_may_not_be_read_are_errors_each(tmp_path: Path) -> None:
    for name in ("closed/a.png", "private.png", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "private.png").chmod(0)
    if os.access(tmp_path / "private.png", os.R_OK):  # root, whom no permission stops
        wanted = ["closed/a.png", "private.png", "z.png"]
    else:
        wanted = ["closed", "private.png", "z.png"]
        for name in wanted[:2]:
            with pytest.raises(ImageError, match="may not be read: permission denied"):
                read_file(tmp_path / name)
    found = [os.path.relpath(sample.path, tmp_path) for sample in read_dataset(tmp_path)]
    (tmp_path / "closed").chmod(0o755)  # so that it can be tidied up
    assert found == wanted


def test_what_vanishes_between_listing_and_reading_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    for name in ("a.png", "b.png", "lost/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(folder / name)

    def read_and_delete(*args: Any, **options: Any) -> Any:
        found = read_selection(*args, **options)
        (folder / "b.png").unlink()
        shutil.rmtree(folder / "lost")
        return found

    monkeypatch.setattr("clipworks.datasets.selection.read_selection", read_and_delete)
    assert run("embed", folder, "-o", tmp_path / "vectors") == 0
    found = read_records(tmp_path / "vectors" / "records.jsonl", folder)
    assert "error" not in found["a.png"]
    assert all("does not exist" in found[name]["error"] for name in ("b.png", "lost/c.png"))


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 90)
    deep.mkdir(parents=True)
    (deep / "x.jpg").touch()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        found = list(walk_folder(str(tmp_path)))
    finally:
        sys.setrecursionlimit(usual)
    assert found == [(str(deep / "x.jpg"), "d", False)]


def test_profiling_takes_the_good_images_among_odd_entries(odd: tuple[Path, dict[str, str]]) -> None:
    folder, _ = odd
    files = choose_files(Selection(sources=(str(folder),)), 0)
    assert {os.path.relpath(path, folder) for path in files.paths} == set(GOOD)


def test_names_that_are_too_long_are_refused_in_one_line(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("x" * 5000 + " 3\n", encoding="utf-8")  # a name that no file can have, before a label
    assert [sample.truth for sample in read_dataset(listed)] == ["3"]
    for words in (["embed", "x" * 5000], ["embed", listed, "--root", "y" * 5000]):
        assert run(*words, "-o", tmp_path / "out") == 2
