"""Data sets: what a folder or a list holds, in which order, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipworks.datasets.ground_truth import ClassIndex
from clipworks.datasets.listing import read_dataset, read_pairs
from clipworks.errors import ImageError, UsageError
from clipworks.text.prompts import Labels, read_labels

ODD_NAMES = ["a b.jpg", "c:d.jpg", "e,f.jpg", "ü ☃.jpg", "new\nline.jpg", "tab\there.jpg", 'quote".jpg']


def touch(folder: Path, *names: str) -> None:
    """Make empty files, and the folders that they need."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pairs(source: Path | str, root: Path | None = None) -> list[tuple[str, str | None]]:
    """Path and truth of every sample."""
    return [(sample.path, sample.truth) for sample in read_dataset(source, root=root)]


def test_a_folder_is_read_in_the_order_of_names_with_class_folders_as_truth(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.jpg", "dog/10.png", "dog/deep/cat/1.JPEG", "cat/b.webp", "loose.jpg", ".hidden/x.jpg")
    touch(tmp_path, "dog/notes.txt", "README.md", "dog/.DS_Store")
    found = read_dataset(tmp_path)
    assert [(os.path.relpath(sample.path, tmp_path), sample.truth) for sample in found] == [
        ("cat/b.webp", "cat"),
        ("dog/10.png", "dog"),
        ("dog/2.jpg", "dog"),
        ("dog/deep/cat/1.JPEG", "dog"),
        ("loose.jpg", None),
    ]
    assert found.left_out == 2
    assert all(sample.path == sample.file for sample in found)


def test_odd_names_in_a_folder_survive(tmp_path: Path) -> None:
    touch(tmp_path, *ODD_NAMES)
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).touch()
    names = [Path(sample.path).name for sample in read_dataset(tmp_path)]
    assert sorted(names, key=os.fsencode) == names
    assert set(names) == {*ODD_NAMES, os.fsdecode(b"\xff.jpg")}


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "far/x.jpg", "set/a.jpg")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "circle").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = [os.path.relpath(path, tmp_path / "set") for path, _ in pairs(tmp_path / "set")]
    assert names == ["a.jpg", "gone.jpg", "linked/x.jpg"]


def test_a_list_keeps_its_order_duplicates_and_odd_names(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    names = ["b.jpg", "a b.jpg", "c:d,e.jpg", "ü.jpg", "b.jpg", " lead.jpg"]
    listing.write_bytes(("\ufeff" + "\r\n".join(names) + "\r\n\r\n").encode() + b"\xfe.jpg\n")
    found = read_dataset(listing, root=tmp_path)
    assert [sample.path for sample in found] == [*names, os.fsdecode(b"\xfe.jpg")]
    assert found[1].file == f"{tmp_path}/a b.jpg"
    assert found[0].truth is None
    assert read_dataset(listing)[0].file == "b.jpg"


def test_labels_stand_behind_a_tab_a_comma_or_a_blank(tmp_path: Path) -> None:
    tab, comma, blank = tmp_path / "tab.txt", tmp_path / "comma.csv", tmp_path / "blank.txt"
    tab.write_text("a b.jpg\ttench\nc.jpg\tgreat white shark\n")
    assert pairs(tab) == [("a b.jpg", "tench"), ("c.jpg", "great white shark")]
    comma.write_text('path,label\n"a, b.jpg",3\n"new\nline.jpg","crane, bird"\n')
    assert pairs(comma) == [("a, b.jpg", "3"), ("new\nline.jpg", "crane, bird")]
    blank.write_text("a b.jpg 65\nc.jpg n01440764\n")
    assert pairs(blank) == [("a b.jpg", "65"), ("c.jpg", "n01440764")]


def test_a_number_at_the_end_of_only_some_names_is_no_label(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("photo 1\nphoto two\n")
    assert pairs(listing) == [("photo 1", None), ("photo two", None)]
    listing.write_text("photo 1\nphoto 2\n")
    touch(tmp_path, "photo 1", "photo 2")
    assert pairs(listing, tmp_path) == [("photo 1", None), ("photo 2", None)]


def test_what_is_no_data_set_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "papers/a.pdf")
    for name, content in {
        "none.txt": b"\n \n",
        "photo.png": b"\x89PNG\0",
        "half.txt": b"a.jpg\tdog\nb.jpg\n",
        "ragged.csv": b"a.jpg,1\nb.jpg\n",
        "blank.csv": b"a.jpg,\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    for name, kind, message in [
        ("empty", ImageError, "empty holds no image; known endings"),
        ("papers", ImageError, "papers holds no image; it holds 1 other files"),
        ("missing", UsageError, "missing does not exist; allowed: a folder of images, or a list"),
        ("none.txt", ImageError, "none.txt lists no image"),
        ("photo.png", UsageError, "photo.png is no list of images"),
        ("half.txt", UsageError, "has labels, but not in the line 'b.jpg'"),
        ("ragged.csv", UsageError, r"a line of 1 columns, \['b.jpg'\]"),
        ("blank.csv", UsageError, "without a path or a label"),
    ]:
        with pytest.raises(kind, match=message):
            read_dataset(tmp_path / name)
    with pytest.raises(UsageError, match="goes with a list"):
        read_dataset(tmp_path, root=tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        read_dataset(tmp_path / "half.txt", root=tmp_path / "missing")


def test_the_hash_tells_order_labels_and_names_apart(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    hashes = set()
    for content in ("a.jpg\nb.jpg\n", "b.jpg\na.jpg\n", "a.jpg\t1\nb.jpg\t1\n", "a.jpg\t1\nb.jpg\t2\n", "a.jpg\n"):
        listing.write_text(content)
        hashes.add(read_dataset(listing).hash())
        assert read_dataset(listing).hash() in hashes
    assert len(hashes) == 5
    assert read_pairs(listing) == [("a.jpg", None)]


def test_a_class_is_found_by_wordnet_id_index_or_its_own_name() -> None:
    classes = ClassIndex(read_labels("imagenet-synsets"))
    assert classes.find("n01440764") == classes.find("0") == classes.find("tench, Tinca tinca") == 0
    assert classes.find("Hen") == 8
    assert classes.find("electric_ray,_crampfish,_numbfish,_torpedo") == 5
    assert classes.find("no such class") is None
    assert classes.find("1000") is None
    assert classes.find("n99999999") is None
    with pytest.raises(UsageError, match="'crane' is the name of 2 classes: 134, 517"):
        classes.find("crane")


def test_a_number_that_is_one_class_s_name_and_another_s_index_is_refused() -> None:
    assert ClassIndex(Labels(name="digits", names=("0", "1"))).find("1") == 1
    with pytest.raises(UsageError, match="'1' is the index of one class and the name of another, class 0"):
        ClassIndex(Labels(name="digits", names=("1", "2"))).find("1")


def test_a_wordnet_id_in_the_path_tells_the_class() -> None:
    classes = ClassIndex(read_labels("imagenet"))
    assert classes.find_in_path("train/n01440764/x.JPEG") == 0
    assert classes.find_in_path("n01440764\\x.JPEG") == 0
    assert classes.find_in_path("n01443537_goldfish.JPEG") == 1
    assert classes.find_in_path("n01440764/n01443537/x.jpg") == 1
    assert classes.find_in_path("n01440764/n01443537_12.jpg") == 0
    assert classes.find_in_path("n014407649/x.jpg") is None
    assert classes.find_in_path("xn01440764/x.jpg") is None
    assert classes.find_in_path("n99999999/x.jpg") is None


def test_the_validation_images_of_ilsvrc2012_are_known_by_name() -> None:
    """The first five, as the published ground truth has them, and 50 of each class."""
    classes = ClassIndex(read_labels("imagenet-synsets"))
    known = [classes.find_validation(f"val/ILSVRC2012_val_{number:08d}.JPEG") for number in range(1, 50_001)]
    assert known[:5] == [65, 970, 230, 809, 516]
    assert all(known.count(index) == 50 for index in (0, 134, 517, 999))
    assert classes.find_validation("ILSVRC2012_val_00050001.JPEG") is None
    assert classes.find_validation("ILSVRC2012_val_00000000.JPEG") is None
    assert ClassIndex(Labels(name="two", names=("a", "b"))).find_validation("ILSVRC2012_val_00000001.JPEG") is None
