"""A bundle is read whole or refused with the file that is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from clipworks.bundle import card as cards
from clipworks.bundle import files as bundle
from clipworks.bundle.card_json import card_from_json, card_to_json
from clipworks.errors import BundleError

CARD = cards.Card(
    name="tiny",
    title="a card for tests",
    licence="MIT",
    dim=8,
    family="clip",
    score=cards.ScoreRule(logit_scale=100.0),
    image=cards.ImageSpec(size=16, resize_to=16, drop_alpha="before", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    text=cards.TextSpec(tokenizer="clip", context=77, pad_id=0, vocabulary=49408),
    image_tower=cards.TowerSpec(kind="vit", layers=1, width=8),
    text_tower=cards.TowerSpec(kind="transformer", layers=1, width=8),
    towers={"f32": cards.TowerFiles(kind="onnx", image="image.onnx", text="text.onnx")},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("image.onnx", "text.onnx", "tokenizer.json"):
        (tmp_path / name).write_text(f"the content of {name}")
    bundle.write_card(tmp_path, CARD)
    return tmp_path


def test_a_card_survives_json() -> None:
    assert card_from_json(card_to_json(CARD), origin="test") == CARD


def test_a_written_bundle_reads_and_verifies(folder: Path) -> None:
    found = bundle.read_bundle(folder)
    assert set(found.card.files) == {"image.onnx", "text.onnx", "tokenizer.json"}
    bundle.verify_bundle(found)


def test_a_changed_byte_is_found_by_its_hash(folder: Path) -> None:
    path = folder / "text.onnx"
    path.write_text(path.read_text().replace("content", "comment"))
    with pytest.raises(BundleError, match=r"text\.onnx has SHA-256"):
        bundle.verify_bundle(bundle.read_bundle(folder))


def test_a_short_or_missing_file_is_found_when_the_card_is_read(folder: Path) -> None:
    (folder / "image.onnx").write_text("short")
    with pytest.raises(BundleError, match=r"image\.onnx has 5 bytes, its card says"):
        bundle.read_bundle(folder)
    (folder / "image.onnx").unlink()
    with pytest.raises(BundleError, match=r"image\.onnx is missing"):
        bundle.read_bundle(folder)


def test_a_folder_without_a_card_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no model\.json"):
        bundle.read_bundle(tmp_path)


def edit(folder: Path, change: dict[str, object]) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


IMAGE = {"size": 16, "resize_to": 16, "drop_alpha": "after", "mean": [0, 0, 0], "std": [1, 1, 1]}
FILES = {"kind": "onnx", "image": "image.onnx", "text": "text.onnx"}
TEXT = {"tokenizer": "clip", "context": 77, "pad_id": 0, "vocabulary": 49408}
TOWER = {"kind": "vit", "layers": 1, "width": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has card format 2; this clipworks reads 3"),
        ({"format": 99}, "card format 99"),
        ({"dim": "wide"}, "dim must be of type int"),
        ({"dim": 0}, "dim is 0; allowed: 1 to"),
        ({"score": {"logit_scale": float("inf")}}, "logit_scale is inf; allowed: above 0 and finite"),
        ({"files": {"../x": {"sha256": "", "bytes": 0}}}, r"'\.\./x' is not a file name"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"text": {"context": 77}}, "text has no field tokenizer"),
        (
            {"image": {"size": 16, "resize_to": 16, "mean": [0.5] * 3, "std": [0.5] * 3}},
            "image has no field drop_alpha",
        ),
        ({"image": IMAGE | {"drop_alpha": "never"}}, "drop_alpha is 'never'; allowed: before, after"),
        ({"image": IMAGE | {"mean": [0.5]}}, "mean has 1 items; allowed: 3"),
        ({"image": IMAGE | {"std": [1, 0, 1]}}, "std is 0.0; allowed: above 0"),
        ({"image": IMAGE | {"resize_to": 15}}, "resize_to is 15; allowed: 16 to"),
        ({"image": IMAGE | {"size": 0}}, "size is 0; allowed: 1 to 1000000"),
        ({"text": TEXT | {"tokenizer": "words"}}, "tokenizer is 'words'; allowed: clip, siglip, wordpiece, file"),
        ({"text": TEXT | {"pad_id": 49408}}, "pad_id is 49408; allowed: 0 to 49407"),
        ({"text": TEXT | {"end_id": 49408}}, "end_id is 49408; allowed: 0 to 49407"),
        ({"text": TEXT | {"padding": "left"}}, "padding is 'left'; allowed: none, fixed"),
        ({"image_tower": TOWER | {"heads": 3}}, "image_tower: the width 8 does not divide among 3 heads"),
        ({"text_tower": TOWER | {"pooling": "first"}}, "pooling is 'first'; allowed: cls, argmax, eos"),
        ({"text_tower": TOWER | {"norm_eps": 0}}, "norm_eps is 0.0; allowed: above 0"),
        ({"text_tower": TOWER | {"cls_token": 1}}, "cls_token must be of type bool, not 1"),
        ({"score": {"kind": "argmax", "logit_scale": 1}}, "kind is 'argmax'; allowed: softmax, sigmoid"),
        ({"prefix_lengths": [8]}, "prefix_lengths is 8; allowed: 1 to 7"),
        ({"towers": {"f32": FILES | {"kind": "tflite"}}}, "kind is 'tflite'; allowed: safetensors, onnx"),
        ({"towers": {"int8": FILES}}, "names no f32 towers"),
        ({"towers": {"f32": FILES | {"image": "other.onnx"}}}, r"records no hash for other\.onnx"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_by_field(folder: Path, change: dict[str, object], message: str) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=message):
        bundle.read_bundle(folder)


def test_a_card_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        bundle.read_bundle(folder)


def test_the_hash_of_a_card_changes_with_any_fact() -> None:
    assert bundle.card_hash(CARD) != bundle.card_hash(
        dataclasses.replace(CARD, score=cards.ScoreRule(logit_scale=99.0))
    )
