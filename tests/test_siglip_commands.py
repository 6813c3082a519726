"""What follows SigLIP through the commands: each text scored by itself, the doctor, and who refuses it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE
from siglip_checkpoints import MODELS, write_huggingface

from clipworks import scoring
from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.vendor_sample import clip_sample

pytestmark = pytest.mark.runtimes

MODEL = dataclasses.replace(MODELS["second"], context=64)
OPTIONS = ("--runtime", "onnxruntime", "--precision", "f32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("commands")
    return convert_checkpoint(write_huggingface(folder / "source", MODEL), folder / "bundle")


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return Model(bundle, RuntimeOptions(runtime="onnxruntime", precision="f32"))


def test_a_text_s_score_does_not_depend_on_the_others(model: Model) -> None:
    alone, beside = (model.match(EXAMPLE, texts) for texts in (["a dog"], ["a cat", "a dog", "two birds"]))
    assert beside.score_kind == "sigmoid"
    found = next(score for score in beside.scores if score.text == "a dog")
    assert found.score == pytest.approx(alone.scores[0].score, abs=1e-7)
    assert abs(sum(score.score for score in beside.scores) - 1) > 0.1
    rule = model.card.score
    expected = 1 / (1 + np.exp(-(rule.logit_scale * found.cosine + rule.logit_bias)))
    assert found.score == pytest.approx(expected, rel=1e-5)


def test_texts_are_read_in_lower_case_and_padded_to_the_context(model: Model) -> None:
    lower, upper = model.embed_texts(["a photo of a dog", "A Photo OF a DOG"])
    np.testing.assert_array_equal(lower, upper)
    many = model.embed_texts(["a dog", "two small birds near the old house", "a photo of a dog", "a cat"])
    alone = model.embed_texts(["a dog"])
    assert np.abs(many[0] - alone[0]).max() <= 2e-6


def test_images_are_squashed(model: Model) -> None:
    """A square image of noise and a wide one of the same noise, each column three times, are nearly the same."""
    noise = np.random.default_rng(3).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    square, wide = model.embed_images([noise, noise.repeat(3, axis=1)])
    cut = model.embed_images(noise[:, 13:27])[0]
    assert square @ wide > 0.99 > square @ cut


def test_match_draws_no_bars_that_would_seem_to_share_out_one(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["match", str(EXAMPLE), "a dog", "a cat", "--model", str(bundle.folder), *OPTIONS]) == 0
    out = capsys.readouterr().out
    assert "█" not in out
    assert "each text is scored by itself: the scores do not add up to 100%" in out


def test_a_score_that_is_small_is_not_shown_as_none(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(scoring, "score", lambda cosines, _: np.full(cosines.shape, 3.2463e-05))
    assert main(["match", str(EXAMPLE), "a dog", "--model", str(bundle.folder), *OPTIONS]) == 0
    assert " 3e-03%  " in capsys.readouterr().out


def test_classify_and_evaluate_take_the_model(
    bundle: Bundle, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "one.png").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "labels.txt").write_text("dog\ncat\nbird\n")
    results, labels = tmp_path / "results.jsonl", tmp_path / "labels.txt"
    words = ["classify", str(tmp_path), "--labels", str(labels), "-o", str(results), "--model", str(bundle.folder)]
    assert main([*words, *OPTIONS]) == 0, capsys.readouterr().err
    record = json.loads(results.read_text().splitlines()[0])
    scores = {entry["name"]: entry["score"] for entry in record["top"]}
    match = model.match(EXAMPLE, [f"a photo of a {name}." for name in scores])
    expected = {score.text.removeprefix("a photo of a ")[:-1]: score.score for score in match.scores}
    assert scores == pytest.approx(expected, abs=1e-6)
    assert main(["evaluate", str(results), "--json"]) == 0


def test_doctor_finds_the_bundle_sound_stage_by_stage(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(bundle.folder), *OPTIONS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [stage["name"] for stage in found["stages"]]
    assert {"image_layer_2", "image_pooled", "text_layer_1", "text_pooled", "scores"} <= set(names)
    assert "image_layer_3" not in names  # the pooling is none


def test_the_vendor_s_commands_refuse_it(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input_file", str(EXAMPLE), "--strings", "[a dog,a cat]", "--imgmod_prefix", str(bundle.folder)]
    assert clip_sample.main([*words, "--runtime", "onnxruntime"]) != 0
    err = capsys.readouterr().err
    assert "bundle scores each text by itself, by a sigmoid; allowed: models whose scores are a softmax" in err
