"""Retrieval: ranks are those of a plain sort, ties keep the given order, missing ranked cost what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from image_sets import make_image

from clipworks.cli import main
from clipworks.errors import UsageError
from clipworks.loading import load
from clipworks.options import RuntimeOptions
from clipworks.pipeline import LoopOptions
from clipworks.scoring import normalise
from clipworks.tasks import retrieve as retrieval
from clipworks.tasks.retrieve import rank_captions, rank_images, read_captions, retrieve

FAKE = ("--runtime", "fake")


def test_ranks_are_those_of_a_plain_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """With coarse vectors, so that many cosines tie, and queries in several parts."""
    monkeypatch.setattr(retrieval, "_QUERIES", 7)
    chances = np.random.default_rng(2)
    images = chances.integers(-1, 2, (23, 3)).astype(np.float32)
    texts = chances.integers(-1, 2, (61, 3)).astype(np.float32)
    owners = chances.integers(-1, 23, 61)
    cosines = images @ texts.T
    found = rank_captions(images, texts, owners)
    for place, row in enumerate(cosines):
        order = np.argsort(-row, kind="stable")
        mine = set(np.flatnonzero(owners == place))
        others = [text for text in order if text not in mine]
        if not mine:
            assert np.isinf(found[place])
            continue
        first = next(text for text in order if text in mine)
        before = [text for text in others if (-row[text], text) < (-row[first], first)]
        assert found[place] == 1 + len(before)
    found = rank_images(images, texts, owners)
    for place, owner in enumerate(owners):
        ranked = np.argsort(-cosines[:, place], kind="stable").tolist()
        assert found[place] == (np.inf if owner < 0 else 1 + ranked.index(owner))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three ranked with two captions each, one of them missing."""
    for number in range(2):
        (tmp_path / f"{number}, a.png").write_bytes(make_image(number))
    lines = [f"{name}\tcaption {turn} of {name}" for turn in range(2) for name in ("0, a.png", "gone.png", "1, a.png")]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_recall_is_that_of_the_embeddings(pairs: Path, tmp_path: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    captions = read_captions(str(pairs), root=str(tmp_path))
    assert [sample.path for sample in captions.images] == ["0, a.png", "gone.png", "1, a.png"]
    assert captions.owners.tolist() == [0, 1, 2, 0, 1, 2]
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        wrong = retrieve(
            model,
            captions,
            ks=(1, 2, 6),
            options=LoopOptions(batch_size=2),
            report=lambda *told: progress.append(told),
        )
        skip = retrieve(model, captions, ks=(1, 2, 6), errors="skip")
        images = model.embed_images([tmp_path / "0, a.png", tmp_path / "1, a.png"])
        texts = model.embed_texts(captions.texts)
    assert progress[-3:] == [("captions", 6, 6), ("images", 2, 3), ("images", 3, 3)]
    for found, kept, lost in [(wrong, texts, 1), (skip, texts[[0, 2, 3, 5]], 0)]:
        owners = np.array([0, -1, 1, 0, -1, 1] if lost else [0, 1, 0, 1])
        ranks = [rank_captions(images, kept, owners), rank_images(images, kept, owners)]
        for direction, expected, queries in zip(
            (found.image_to_text, found.text_to_image), ranks, (2 + lost, len(kept)), strict=True
        ):
            assert direction.queries == queries
            assert [item.correct for item in direction.recall] == [(expected <= k).sum() for k in (1, 2, 6)]
            assert [item.count for item in direction.recall] == [queries] * 3
        assert found.image_to_text.candidates == len(kept)
        assert found.text_to_image.candidates == 2
        assert [path for path, _ in found.errors] == ["gone.png"]
        assert "does not exist" in found.errors[0][1]


def test_a_model_that_knows_its_captions_finds_them_all() -> None:
    rows = normalise(np.random.default_rng(0).standard_normal((40, 16)))
    owners = np.arange(40)
    assert rank_captions(rows, rows, owners).tolist() == [1] * 40
    assert rank_images(rows, rows, owners).tolist() == [1] * 40


@pytest.mark.shows("retrieve --top", "retrieve --errors", "retrieve --json")
def test_the_command_prints_both_ways(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["retrieve", str(pairs), "--root", str(tmp_path), *FAKE]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "image to text  3 queries, 6 candidates, median rank" in out
    assert "text to image  6 queries, 2 candidates, median rank" in out
    assert len(re.findall(r"^  (?:image to text|text to image) +(?:1|5|10) +\d+\.\d\d% \(", out, re.MULTILINE)) == 6
    assert "1 images could not be read: counted as wrong" in out
    assert main([*words, "--json", "--top", "1,2", "--errors", "skip"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["k"] for item in found["text_to_image"]["recall"]] == [1, 2]
    assert found["text_to_image"]["queries"] == 4


def test_what_is_no_list_of_captions_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare.txt").write_text("a.png\nb.png\n")
    for source, said in (
        ("https://x.org/pairs.txt", "https://x.org/pairs.txt is a URL; allowed: files of this machine"),
        ("-", "- is standard input; allowed: the file of a list: path, tab, caption a line"),
        ("nowhere.txt", "nowhere.txt does not exist; allowed: a list: path, tab, caption a line"),
    ):
        assert main(["retrieve", source, *FAKE]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "gone.csv").write_text("image,caption\na.png,a dog\n")
    assert main(["retrieve", str(tmp_path / "bare.txt"), *FAKE]) == 2
    assert "has no captions; allowed: path, tab, caption a line" in capsys.readouterr().err
    assert main(["retrieve", str(tmp_path / "gone.csv"), *FAKE]) == 2
    assert "none of the 1 images of" in capsys.readouterr().err
    assert main(["retrieve", str(pairs), "--top", "0", *FAKE]) == 2
    assert "--top is '0'; allowed" in capsys.readouterr().err
    with load("starter", RuntimeOptions(runtime="fake")) as model, pytest.raises(UsageError, match="k is 0"):
        retrieve(model, read_captions(str(pairs)), ks=(0,))
