"""Embedding: the rows are the model's own, errors keep their places, and any end leaves a folder to resume from."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sets import make_image, write_bad_files, write_images

from clipworks.cli import main
from clipworks.datasets.listing import read_dataset
from clipworks.errors import UsageError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.pipeline import LoopOptions
from clipworks.tasks.embed import embed
from clipworks.tasks.runs import RunOptions

COUNT = 30


@pytest.fixture
def fake() -> Iterator[Model]:
    with load("starter", RuntimeOptions(runtime="fake"), towers=("image",)) as model:
        yield model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("embed") / "set", COUNT)


def sized(batch_size: int, **options: Any) -> RunOptions:
    return RunOptions(loop=LoopOptions(batch_size=batch_size), **options)


def read_records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_bytes().splitlines()]


def test_the_rows_are_the_models_own_in_order(images: Path, tmp_path: Path, fake: Model) -> None:
    dataset = read_dataset(images)
    progress = embed(fake, dataset, tmp_path / "out", sized(4))
    assert (progress.done, progress.total, progress.failed, progress.whole) == (COUNT, COUNT, 0, True)
    rows = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
    assert (rows.dtype, rows.shape) == (np.float32, (COUNT, fake.card.dim))
    assert np.array_equal(rows, fake.embed_images([sample.file for sample in dataset]))
    records = read_records(tmp_path / "out")
    assert [item["path"] for item in records] == [sample.path for sample in dataset]
    assert [item["truth"] for item in records] == [sample.truth for sample in dataset]


def test_bad_files_are_rows_of_nan_with_their_reason(tmp_path: Path, fake: Model) -> None:
    expected = write_bad_files(tmp_path / "set")
    (tmp_path / "set" / "fine.png").write_bytes(make_image(1))
    names = ["fine.png", *expected, "fine.png"]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    dataset = read_dataset(tmp_path / "list.txt", root=tmp_path / "set")
    assert embed(fake, dataset, tmp_path / "out", sized(3)).failed == len(expected)
    rows = np.load(tmp_path / "out" / "embeddings.npy")
    records = read_records(tmp_path / "out")
    assert np.isnan(rows[1:-1]).all()
    assert np.array_equal(rows[0], rows[-1])
    assert np.isfinite(rows[0]).all()
    for record in records[1:-1]:
        assert expected[str(record["path"])] in str(record["error"])
    assert embed(fake, dataset, tmp_path / "out", sized(3)).failed == len(expected)


def test_a_folder_cut_anywhere_is_continued_to_the_same_bytes(images: Path, tmp_path: Path, fake: Model) -> None:
    dataset = read_dataset(images)
    embed(fake, dataset, tmp_path / "whole", sized(4))
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    chances = random.Random(5)
    out = tmp_path / "cut"
    for _ in range(12):
        done = embed(fake, dataset, out, sized(4, restart=True, stop=lambda: chances.random() < 0.2))
        for name in ("embeddings.npy", "records.jsonl"):
            content = (out / name).read_bytes()
            (out / name).write_bytes(content[: chances.randrange(len(content) + 1)])
        again = embed(fake, dataset, out, sized(4))
        assert again.whole
        assert again.before <= done.done
        assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 250)
    words = ["embed", str(tmp_path / "set"), "--batch-size", "4", "--runtime", "fake", "-o"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "clipworks", *words, str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    records = out / "records.jsonl"
    while process.poll() is None and (not records.exists() or records.stat().st_size < 1000):
        time.sleep(0.0005)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"cannot reshape|mmap length|smaller|end of file|EOF"):
        np.load(out / "embeddings.npy", mmap_mode="r")  # what is not whole cannot be taken for it
    assert main([*words, str(out)]) == 0
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_parquet_table_holds_the_same(tmp_path: Path, fake: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("clipworks.results.parquet._GROUP", 3)
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(make_image(number))
    (tmp_path / "list.csv").write_text("".join(f"{n}.png,{n % 2}\n" for n in (0, 1, 9, 2, 3, 4, 5, 6)))
    dataset = read_dataset(tmp_path / "list.csv", root=tmp_path)
    embed(fake, dataset, tmp_path / "npy", sized(2))
    embed(fake, dataset, tmp_path / "table", sized(2, format="parquet"))
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == ["embeddings.parquet", "run.json"]
    rows = np.load(tmp_path / "npy" / "embeddings.npy")
    table = pq.read_table(tmp_path / "table" / "embeddings.parquet").to_pylist()
    assert [row["index"] for row in table] == list(range(8))
    assert [row["truth"] for row in table] == ["0", "1", "1", "0", "1", "0", "1", "0"]
    for place, row in enumerate(table):
        if place == 2:
            assert row["embedding"] is None
            assert "does not exist" in row["error"]
        else:
            assert row["error"] is None
            assert np.array_equal(np.float32(row["embedding"]), rows[place])
    again = embed(fake, dataset, tmp_path / "table", sized(2, format="parquet"))
    assert (again.before, again.failed) == (8, 1)


def test_what_is_not_ours_or_not_the_same_is_refused(images: Path, tmp_path: Path, fake: Model) -> None:
    dataset = read_dataset(images)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "file").touch()
    embed(fake, dataset, tmp_path / "out", sized(4))
    for folder, size, message in [
        (tmp_path / "mine", 4, "mine is not empty, and no run can resume it"),
        (tmp_path / "file", 4, "file is a file; allowed: a folder's name"),
        (tmp_path / "out", 5, "run.json was begun with other settings: batch_size was 4 and is 5"),
        (tmp_path / "out", 0, "batch size is 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            embed(fake, dataset, folder, sized(size))
    with pytest.raises(UsageError, match="unknown format 'csv'"):
        embed(fake, dataset, tmp_path / "out", RunOptions(format="csv"))


@pytest.mark.shows("embed --json")
def test_the_command_says_how_it_went(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", str(images), "-o", str(tmp_path / "out"), "--runtime", "fake", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["done"] == COUNT
    assert err == f"{tmp_path / 'out'}: {COUNT} images, all could be read\n"
    assert main(words) == 0
    assert "complete already" in capsys.readouterr().err
