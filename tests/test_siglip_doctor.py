"""The doctor proves what others do wrong with SigLIP, each planted in a dump of theirs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor_traps import keep_only
from siglip_checkpoints import MODELS, write_huggingface

from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, read_checkpoint
from clipworks.doctor.diagnosis import About
from clipworks.doctor.dumps import Dump, write_dump
from clipworks.doctor.inputs import list_images
from clipworks.doctor.pipelines import Inputs, open_equations, run_pipeline
from clipworks.doctor.stages import Trace
from clipworks.families.checkpoint import Checkpoint
from clipworks.text.tokenizers import open_tokenizer

pytestmark = pytest.mark.usefixtures("small_photographs")
MODEL = dataclasses.replace(MODELS["second"], context=40)
TEXTS = ("A photo of a DOG", "two small birds", "a cat")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(tmp_path_factory.mktemp("doctor") / "source", MODEL)


@pytest.fixture(scope="module")
def bundle(source: Path) -> Bundle:
    return convert_checkpoint(source, source.parent / "bundle")


def unpad(trace: Trace) -> None:
    trace["ids"] = [row[: int(np.argmax(row == 1)) + 1] for row in trace["ids"]]


def pad_to_longest(trace: Trace) -> None:
    longest = max(int(np.argmax(row == 1)) + 1 for row in trace["ids"])
    trace["ids"] = [row[:longest] for row in trace["ids"]]


def pad_otherwise(trace: Trace) -> None:
    trace["ids"] = [np.where(row == 0, np.int32(1), row) for row in trace["ids"]]


def end_otherwise(trace: Trace) -> None:
    trace["ids"] = [np.where(row == 1, np.int32(2), row) for row in trace["ids"]]


def leave_out_end(trace: Trace) -> None:
    trace["ids"] = [np.append(row[row != 1], np.int32(0)) for row in trace["ids"]]


IDS: dict[str, tuple[Callable[[Trace], None], str]] = {
    "unpadded": (unpad, "in the reference texts are not filled up to the context of 40"),
    "padded to the longest": (pad_to_longest, " ids, not to the context of 40"),
    "another pad id": (pad_otherwise, "in the reference texts are filled up with 1, not with 0"),
    "another end id": (end_otherwise, "in the reference texts end with 2, not with 1"),
    "no end id": (leave_out_end, "in the reference texts have no end token, 1"),
}


def lose_bias(trace: Trace) -> None:
    scale = float(trace["logit_scale"][0])
    trace["scores"] = [1 / (1 + np.exp(-scale * row)) for row in trace["cosines"]]


def take_softmax(trace: Trace) -> None:
    scale = float(trace["logit_scale"][0])
    powers = [np.exp(scale * row) for row in trace["cosines"]]
    trace["scores"] = [row / row.sum() for row in powers]


def change_text(**changes: Any) -> Callable[[Checkpoint], Checkpoint]:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        text = checkpoint.text
        spec = dataclasses.replace(text.spec, **changes)
        return dataclasses.replace(checkpoint, text=dataclasses.replace(text, spec=spec))

    return change


def crop(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, image_input=dataclasses.replace(checkpoint.image_input, resize="shortest"))


TOWERS: dict[str, tuple[Callable[[Checkpoint], Checkpoint], str, str]] = {
    "erf for tanh": (change_text(activation="gelu"), "text_layer_0", "in the reference it is computed with exact GELU"),
    "a causal mask": (change_text(mask="causal"), "text_layer_0", "in the reference it is computed with a causal mask"),
    "crop for squash": (crop, "resized", ""),
}


def make_dump(
    source: Path,
    path: Path,
    edit: Callable[[Trace], None] = lambda _: None,
    change: Callable[[Checkpoint], Checkpoint] = lambda checkpoint: checkpoint,
) -> Path:
    checkpoint = change(read_checkpoint(source))
    weights, about = (checkpoint.image, checkpoint.text), About(kind="checkpoint", name="theirs")
    rules = (checkpoint.image_input, checkpoint.text_input, checkpoint.score, checkpoint.tokenizer)
    files = tuple(list_images())
    given = Inputs(images=files, texts=TEXTS)
    pipeline = dataclasses.replace(open_equations(about, weights, *rules), sees_padding=True)
    trace = run_pipeline(pipeline, given).trace
    edit(trace)
    write_dump(path, Dump(trace=trace, texts=TEXTS, images=files))
    return path


def examine(
    capsys: pytest.CaptureFixture[str], bundle: Bundle, dump: Path, *more: str
) -> tuple[int, dict[str, Any], str]:
    words = ["doctor", "--model", str(bundle.folder), "--reference", str(dump), "--runtime", "onnxruntime"]
    status = main([*words, "--precision", "f32", "--json", *more])
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, record, "\n".join(cause["text"] for cause in record["causes"] if cause["proven"])


def test_a_sound_dump_is_found_sound(
    source: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, record, said = examine(capsys, bundle, make_dump(source, tmp_path / "theirs.npz"))
    assert (status, record["begins"], said) == (0, [], "")


@pytest.mark.parametrize("trap", IDS)
def test_what_is_wrong_with_ids_is_named(
    trap: str, source: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, expected = IDS[trap]

    def plant(trace: Trace) -> None:
        edit(trace)
        keep_only(trace, "ids")

    status, record, said = examine(capsys, bundle, make_dump(source, tmp_path / "theirs.npz", plant))
    assert (status, record["begins"]) == (1, ["ids"])
    assert expected in said


def test_texts_that_kept_their_case_are_named(
    source: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = dataclasses.replace(bundle.card.text, cleaning="none")

    def plant(trace: Trace) -> None:
        trace["ids"] = list(open_tokenizer(bundle.tokenizer, rules).encode(TEXTS))
        keep_only(trace, "ids")

    _, record, said = examine(capsys, bundle, make_dump(source, tmp_path / "theirs.npz", plant))
    assert record["begins"] == ["ids"]
    assert "in the reference texts are not written in lower case" in said


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lose_bias, "in the reference they are the sigmoid without the logit bias"),
        (take_softmax, "in the reference they are the softmax of the logits"),
    ],
)
def test_scores_by_another_rule_are_named(
    edit: Callable[[Trace], None],
    expected: str,
    source: Path,
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, record, said = examine(capsys, bundle, make_dump(source, tmp_path / "theirs.npz", edit))
    assert record["begins"] == ["scores"]
    assert expected in said


@pytest.mark.parametrize("trap", TOWERS)
def test_a_tower_or_a_transform_that_is_another_is_named(
    trap: str, source: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two GELUs differ by less than what rounding is allowed by default."""
    change, begins, expected = TOWERS[trap]
    dump = make_dump(source, tmp_path / "theirs.npz", change=change)
    _, record, said = examine(capsys, bundle, dump, "--tolerance", "values=2e-5")
    assert record["begins"][0] == begins
    assert expected in said
    assert said
