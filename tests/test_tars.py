"""WebDataset tars without Ray: the same images, classes and errors as on it, each image read by itself."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from image_sets import make_image, write_labels
from option_effects import read, run

from clipworks.datasets.names import is_single
from clipworks.datasets.selection import Selection, read_selection
from clipworks.errors import ImageError, UsageError
from clipworks.images.archives import ArchiveMember
from clipworks.results.formats import read_results

FAKE = ("--runtime", "fake")
MEMBERS = {
    "a/1.png": make_image(1),
    "a/1.cls": b"3\n",
    "a/1.json": b"{}",
    "a/2.cls": b"dog",
    "a/2.jpg": make_image(2),
    "a/3.txt": b"only text",
    "a/4.seg.png": make_image(3),
    "b/.5.png": make_image(5),
    "b/4.webp": make_image(4),
}


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # a mode of a test
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: two tars in a folder of their own, class names, and an image."""
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "tars" / "00.tar", MEMBERS)
    write_tar(tmp_path / "tars" / "01.tar", {"x.png": make_image(7), "x.cls": b"0"})
    (tmp_path / "list.txt").write_text("tars/01.tar\ntars/00.tar\n")
    (tmp_path / "y.png").write_bytes(make_image(8))
    write_labels(tmp_path / "labels.txt")
    return tmp_path


def select(*sources: str, limit: int | None = None) -> list[tuple[str, str | None]]:
    return [(one.path, one.truth) for one in read_selection(Selection(sources=sources, limit=limit))]


FIRST = [("tars/00.tar/a/1.png", "3"), ("tars/00.tar/a/2.jpg", "dog"), ("tars/00.tar/b/4.webp", None)]
SECOND = [("tars/01.tar/x.png", "0")]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("tars/00.tar",), FIRST),
        (("tars",), FIRST + SECOND),
        (("tars/*.tar",), FIRST + SECOND),
        (("tars/{00..01}.tar",), FIRST + SECOND),
        (("list.txt",), SECOND + FIRST),
        (("tars/01.tar", "y.png", "tars/00.tar"), [*SECOND, ("y.png", None), *FIRST]),
    ],
)
def test_tars_are_told_by_name_folder_list_or_pattern(
    sources: tuple[str, ...], expected: list[tuple[str, str | None]]
) -> None:
    assert select(*sources) == expected
    assert select(*sources, limit=2) == expected[:2]
    assert not is_single(sources[0])


@pytest.mark.usefixtures("home")
def test_each_image_is_read_by_itself() -> None:
    samples = read_selection(Selection(sources=("tars", "y.png")))
    contents = [sample.member.read() for sample in samples if sample.member is not None]
    assert contents == [make_image(1), make_image(2), make_image(4), make_image(7)]
    assert samples[-1].member is None


def test_what_is_wrong_with_a_tar_stands_behind_its_images(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (home / "tars" / "00.tar").read_bytes()
    (home / "tars" / "00.tar").write_bytes(whole[: 9 * 512 + 100])
    write_tar(home / "tars" / "02.tar", {"readme.txt": b"none"})
    (home / "tars" / "03.tar").write_bytes(b"no tar at all" * 100)
    words = ("classify", "tars", "--labels", "labels.txt", "-o", "r.jsonl", *FAKE)
    assert run(capsys, *words)[0] == 0
    found = [(record.path, record.error) for record in read_results("r.jsonl")]
    assert [path for path, _ in found] == [
        *("tars/00.tar/a/1.png", "tars/00.tar", "tars/01.tar/x.png", "tars/02.tar", "tars/03.tar")
    ]
    assert found[0][1] is None
    assert str(found[1][1]).startswith("tars/00.tar is damaged after 1 images")
    assert found[3][1] == "tars/02.tar holds no image"
    assert found[4][1] == "tars/03.tar is no tar: it is text"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x.tar is no tar: it is empty (0 bytes)"),
        (b"no tar at all", "x.tar is no tar: it is text"),
        (bytes(10240), "x.tar holds no image"),
        (None, "x.tar is damaged after 0 images: "),
    ],
)
def test_tars_without_any_image_end_the_run(
    content: bytes | None, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = (home / "tars" / "00.tar").read_bytes()[:700]
    (home / "x.tar").write_bytes(cut if content is None else content)
    status, _, err = run(capsys, "classify", "x.tar", "--labels", "labels.txt", "-o", "r.jsonl", *FAKE)
    assert (status, err.startswith(f"clipworks: {said}"), Path("r.jsonl").exists()) == (1, True, False)


def test_a_tar_that_ends_within_an_image_is_an_error_of_the_image(home: Path) -> None:
    member = ArchiveMember(archive="tars/00.tar", name="a/1.png", start=512, length=1 << 20)
    with pytest.raises(ImageError, match=r"tars/00\.tar/a/1\.png is damaged: tars/00\.tar ends within it"):
        member.read()
    (home / "tars" / "00.tar").unlink()
    with pytest.raises(ImageError, match=r"tars/00\.tar/a/1\.png cannot be read: No such file"):
        member.read()


@pytest.mark.usefixtures("home")
def test_classify_embed_and_match_take_tars(capsys: pytest.CaptureFixture[str]) -> None:
    read(capsys, "classify", "tars", "--labels", "labels.txt", "-o", "r.jsonl", "--batch-size", "2", *FAKE)
    assert [(record.path, record.truth) for record in read_results("r.jsonl")] == [
        (path, None if truth is None else 1 if truth == "dog" else int(truth)) for path, truth in FIRST + SECOND
    ]
    read(capsys, "embed", "tars/01.tar", "-o", "tarred", *FAKE)
    Path("plain.png").write_bytes(make_image(7))
    read(capsys, "embed", "plain.png", "-o", "plain", *FAKE)
    assert np.array_equal(np.load("tarred/embeddings.npy"), np.load("plain/embeddings.npy"))
    found = json.loads(read(capsys, "match", "tars", "a dog", "--json", *FAKE))
    assert [one["image"] for one in found["matches"]] == [path for path, _ in FIRST + SECOND]


@pytest.mark.parametrize("name", ["z.tar.gz", "z.tgz"])
def test_a_compressed_tar_is_refused_with_the_way_out(name: str, home: Path) -> None:
    write_tar(home / name, MEMBERS, "w:gz")
    with pytest.raises(UsageError, match=r"is compressed, and without Ray allowed: \.tar") as caught:
        select(name)
    assert "gunzip" in str(caught.value.hint)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("source", "root", "said"),
    [
        ("gone.tar", None, "gone.tar does not exist; allowed: a tar, a folder"),
        ("tars/{05..01}.tar", None, r"has the range 05\.\.01; allowed: from low to high"),
        ("tars/9*.tar", None, r"nothing fits the pattern tars/9\*\.tar"),
        ("list.txt", "tars", "--root tars goes with a list; list.txt is tar shards"),
    ],
)
def test_tars_that_cannot_be_taken_are_refused(source: str, root: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_selection(Selection(sources=(source,), root=root))
