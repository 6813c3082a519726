"""The doctor proves what others do wrong with Chinese-CLIP, each planted in a dump of theirs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chinese_clip_checkpoints import MODELS, write_checkpoint

from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, read_checkpoint
from clipworks.doctor.diagnosis import About
from clipworks.doctor.dumps import Dump, write_dump
from clipworks.doctor.inputs import list_images
from clipworks.doctor.pipelines import Inputs, open_equations, run_pipeline
from clipworks.doctor.stages import Trace
from clipworks.families.checkpoint import Checkpoint
from clipworks.runtimes import list_installed
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.reference import embed_tokens, project_rows, run_layer

pytestmark = pytest.mark.runtimes

TEXTS = ("Photo of a DOG", "一只黑猫在雪地里的照片", "猫", "一只红苹果 " * 20)
Change = Callable[[Checkpoint], Checkpoint]
Edit = Callable[[Checkpoint, Trace], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("doctor") / "source", MODELS["base"])


@pytest.fixture(scope="module")
def bundle(source: Path) -> Bundle:
    return convert_checkpoint(source, source.parent / "bundle")


def change_tower(role: str, **changes: Any) -> Change:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        image, text = checkpoint.image, checkpoint.text
        if role == "image":
            image = dataclasses.replace(image, spec=dataclasses.replace(image.spec, **changes))
        else:
            text = dataclasses.replace(text, spec=dataclasses.replace(text.spec, **changes))
        return dataclasses.replace(checkpoint, image=image, text=text)

    return change


def keep_case(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, text_input=dataclasses.replace(checkpoint.text_input, cleaning="none"))


def crop(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, image_input=dataclasses.replace(checkpoint.image_input, resize="shortest"))


def cut_end(checkpoint: Checkpoint, trace: Trace) -> None:
    tokenizer = open_tokenizer(checkpoint.tokenizer, dataclasses.replace(checkpoint.text_input, context=1000))
    trace["ids"] = [row[:52] for row in tokenizer.encode_ragged(TEXTS)]


def see_padding(checkpoint: Checkpoint, trace: Trace) -> None:
    text = checkpoint.text
    rows = [embed_tokens(text, np.pad(ids, (0, 52 - len(ids)))) for ids in trace["ids"]]
    lengths = [len(ids) for ids in trace["ids"]]
    for index, layer in enumerate(text.layers):
        rows = [run_layer(layer, each, [len(each)], text) for each in rows]
        trace[f"text_layer_{index}"] = [each[:length] for each, length in zip(rows, lengths, strict=True)]
    trace["text_pooled"] = [each[0] for each in rows]
    trace["text_embedding"] = list(project_rows(np.stack(trace["text_pooled"]), text))


def pool_mean(checkpoint: Checkpoint, trace: Trace) -> None:
    trace["text_pooled"] = [rows.mean(axis=0) for rows in trace[f"text_layer_{len(checkpoint.text.layers) - 1}"]]
    trace["text_embedding"] = list(project_rows(np.stack(trace["text_pooled"]), checkpoint.text))


def keep(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint


def leave(_: Checkpoint, __: Trace) -> None:
    pass


TRAPS: dict[str, tuple[Change, Edit, str, str]] = {
    "pre-LN": (change_tower("text", norm_place="pre"), leave, "text_layer_0", "(pre-norm)"),
    "tanh for erf": (change_tower("text", activation="gelu_tanh"), leave, "text_layer_0", "computed with GELU by tanh"),
    "a causal mask": (change_tower("text", mask="causal"), leave, "text_layer_0", "computed with a causal mask"),
    "no mask": (keep, see_padding, "text_layer_0", "computed with padding up to the context that is not masked"),
    "mean pooling": (keep, pool_mean, "text_pooled", "here the [CLS] token's; in the reference the mean of all rows"),
    "not lower-cased": (keep_case, leave, "ids", "in the reference texts are not written in lower case"),
    "[SEP] lost": (keep, cut_end, "ids", "a long text is cut without its end token in the reference"),
    "GELU for QuickGELU": (
        change_tower("image", activation="gelu"),
        leave,
        "image_layer_0",
        "here it is computed with QuickGELU; in the reference it is computed with exact GELU",
    ),
    "crop for squash": (crop, leave, "resized", ""),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_the_doctor_names_each_trap(
    bundle: Bundle, source: Path, tmp_path: Path, trap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, edit, stage, said = TRAPS[trap]
    theirs = change(read_checkpoint(source))
    rules = (theirs.image_input, theirs.text_input, theirs.score, theirs.tokenizer)
    files = tuple(list_images())
    pipeline = open_equations(About(kind="checkpoint", name="theirs"), (theirs.image, theirs.text), *rules)
    trace = run_pipeline(pipeline, Inputs(images=files, texts=TEXTS)).trace
    edit(theirs, trace)
    write_dump(tmp_path / "theirs.npz", Dump(trace=trace, texts=TEXTS, images=files))
    words = ["doctor", "--model", str(bundle.folder), "--reference", str(tmp_path / "theirs.npz")]
    words += ["--tolerance", "1e-5"]  # GELU by tanh is near that by erf
    assert main([*words, "--runtime", "onnxruntime", "--precision", "f32", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert stage in record["begins"]
    proven = [cause["text"] for cause in record["causes"] if cause["proven"]]
    assert any(said in text for text in proven), record["causes"]


@pytest.mark.parametrize("runtime", list_installed(["onnxruntime", "openvino", "torch"]))
def test_a_right_bundle_is_right(bundle: Bundle, source: Path, runtime: str) -> None:
    words = ["doctor", "--model", str(bundle.folder), "--reference", str(source), "--precision", "f32"]
    assert main([*words, "--runtime", runtime, "--json"]) == 0
