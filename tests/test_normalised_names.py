"""Names that look the same are the same: composed and decomposed Unicode in folders, lists, labels and truth files."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from clipworks.cli import main
from clipworks.datasets.ground_truth import ClassIndex
from clipworks.datasets.listing import read_dataset
from clipworks.errors import UsageError
from clipworks.evaluation.truth import find_label_set, read_truth
from clipworks.results.records import Record
from clipworks.text.prompts import Labels, read_labels

NAMES = ["café", "niño", "Ǆ한국어 Å", "ǰ"]
FORMS = ["NFC", "NFD"]


def spell(form: str, name: str) -> str:
    return unicodedata.normalize(form, name)  # type: ignore[arg-type]  # NFC or NFD


@pytest.mark.parametrize("labels_form", FORMS)
@pytest.mark.parametrize("folder_form", FORMS)
def test_class_folders_of_a_mac_have_their_accuracy(
    folder_form: str, labels_form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, labels, output = tmp_path / "set", tmp_path / "labels.txt", tmp_path / "r.jsonl"
    labels.write_text("\n".join(spell(labels_form, name) for name in NAMES), encoding="utf-8")
    for name in NAMES:
        (source / spell(folder_form, name)).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(source / spell(folder_form, name) / "a.png")
    words = [str(source), "--labels", str(labels), "--runtime", "fake", "-o", str(output)]
    assert main(["classify", *words]) == 0
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert {Path(record["path"]).parent.name: record["truth"] for record in records} == {
        spell(folder_form, name): place for place, name in enumerate(NAMES)
    }
    # Without what was recorded the folders tell it again.
    for record in records:
        del record["truth"]
    output.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(output), "--labels", str(labels), "--top", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["evaluated"], found["without_truth"]) == (len(NAMES), 0)


def test_lists_and_truth_files_name_classes_and_paths_in_any_form(tmp_path: Path) -> None:
    labels = Labels(name="x", names=tuple(NAMES))
    for form in FORMS:
        truth = tmp_path / f"{form}.tsv"
        truth.write_text(f"a/{spell(form, 'é.png')}\t{spell(form, 'café')}\n", encoding="utf-8")
        for other in FORMS:
            record = Record(index=0, path=f"a/{spell(other, 'é.png')}", truth=None, top=(), error=None)
            assert read_truth(str(truth), labels)(record) == (0, str(truth))
            moved = Record(index=0, path=f"moved/{spell(other, 'é.png')}", truth=None, top=(), error=None)
            assert read_truth(str(truth), labels)(moved) == (0, str(truth))
        assert ClassIndex(labels).find(read_dataset(truth)[0].truth or "") == 0


def test_two_files_that_differ_in_their_form_alone_keep_their_own_truth(tmp_path: Path) -> None:
    truth = tmp_path / "truth.tsv"
    pairs = [(spell("NFC", "é.png"), "café"), (spell("NFD", "é.png"), "niño")]
    truth.write_text("".join(f"{path}\t{name}\n" for path, name in pairs), encoding="utf-8")
    find = read_truth(str(truth), Labels(name="x", names=tuple(NAMES)))
    for place, (path, _) in enumerate(pairs):
        assert find(Record(index=0, path=path, truth=None, top=(), error=None)) == (place, str(truth))
    assert find(Record(index=0, path=f"b/{pairs[0][0]}", truth=None, top=(), error=None)) is None


def test_labels_that_differ_in_their_form_alone_are_two_classes_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(spell(form, "café") for form in FORMS), encoding="utf-8")
    labels = read_labels(str(path))
    assert labels.names == (spell("NFC", "café"),) * 2
    for names in (labels.names, tuple(spell(form, "café") for form in FORMS)):
        with pytest.raises(UsageError, match="is the name of 2 classes: 0, 1"):
            ClassIndex(Labels(name="x", names=names)).find("café")


def test_a_label_set_is_known_by_names_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "clipworks.evaluation.truth.read_labels", lambda name: Labels(name=name, names=("crêpe, pancake", "cat"))
    )
    for form in FORMS:
        assert find_label_set([(0, spell(form, "crêpe")), (1, "cat")]) is not None
