"""What follows Chinese-CLIP through the commands: Chinese texts and templates, lengths, int8, and who takes it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from chinese_clip_checkpoints import MODELS, PIECES, write_checkpoint
from conftest import EXAMPLE
from serve_app import serving_words, write_uri

from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize, quantize_towers
from clipworks.doctor.inputs import list_images
from clipworks.errors import ClipworksWarning
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.tasks.zero_shot import build_classifier
from clipworks.text.batches import plan_batches
from clipworks.text.prompts import Labels, read_templates
from clipworks.text.tokenizers import open_tokenizer
from clipworks.vendor_sample import clip_sample

pytestmark = pytest.mark.runtimes

OPTIONS = ("--runtime", "onnxruntime", "--precision", "f32")
NAMES = ("黑猫", "白狗", "红苹果")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("commands")
    converted = convert_checkpoint(write_checkpoint(folder / "source", MODELS["base"]), folder / "bundle")
    images = np.random.default_rng(5).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    return quantize_towers(converted, images, texts=[f"一张{name}的照片。" for name in NAMES])


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return Model(bundle, RuntimeOptions(runtime="onnxruntime", precision="f32"))


def test_a_text_s_embedding_does_not_depend_on_longer_ones_beside_it(model: Model) -> None:
    texts = ["猫", "一只黑猫在雪地里的照片", "一张红苹果的照片。" * 5, "dog"]
    many = model.embed_texts(texts)
    alone = np.concatenate([model.embed_texts([text]) for text in texts])
    assert np.abs(many - alone).max() <= 2e-6


def test_texts_are_read_in_lower_case_without_accents(model: Model) -> None:
    lower, upper = model.embed_texts(["photo of a cafe", "Photo OF a CAFÉ"])
    np.testing.assert_array_equal(lower, upper)


def test_batches_are_of_texts_of_like_length(bundle: Bundle, model: Model) -> None:
    rows = open_tokenizer(bundle.tokenizer, bundle.card.text).encode_ragged(["猫" * n for n in (1, 30, 2, 29, 3, 28)])
    plan = plan_batches(rows, size=3, packs=False)
    assert sorted(sorted(places.tolist()) for places in plan) == [[0, 2, 4], [1, 3, 5]]
    assert model.match(EXAMPLE, NAMES).score_kind == "softmax"


def test_words_that_the_vocabulary_lacks_are_told(bundle: Bundle) -> None:
    assert "鼍" not in PIECES
    with pytest.warns(ClipworksWarning, match="cannot read '鼍': words that it does not know are all the same to it"):
        open_tokenizer(bundle.tokenizer, bundle.card.text).encode(["鼍"])


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_classify_and_evaluate_take_the_model_with_chinese_templates(
    bundle: Bundle, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(EXAMPLE.read_bytes())
    results, labels = tmp_path / "results.jsonl", tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    words = ["classify", str(tmp_path), "--labels", str(labels), "-o", str(results), "--model", str(bundle.folder)]
    words += ["--templates", "cn-clip-183", "--workers", "1", "--runtime", "onnxruntime", "--precision", precision]
    assert main(words) == 0, capsys.readouterr().err
    records = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 3
    assert {entry["name"] for entry in records[0]["top"]} == set(NAMES)
    assert main(["evaluate", str(results), "--json"]) == 0


def test_classify_gives_what_match_gives(
    bundle: Bundle, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.png").write_bytes(EXAMPLE.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    words = ["classify", str(tmp_path / "one.png"), "--labels", str(labels), "--templates", "simple-zh", "-o", "-"]
    assert main([*words, "--model", str(bundle.folder), *OPTIONS]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    scores = {f"一张{entry['name']}的照片。": entry["score"] for entry in record["top"]}
    expected = {score.text: score.score for score in model.match(EXAMPLE, list(scores)).scores}
    assert scores == pytest.approx(expected, abs=1e-5)


def test_an_english_template_with_a_chinese_model_is_told(model: Model) -> None:
    labels = Labels(name="given", names=NAMES)
    with pytest.warns(
        ClipworksWarning, match=r"bundle reads Chinese, and the template 'a photo of a \{\}\.' is English"
    ):
        build_classifier(model, labels, read_templates("simple"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_classifier(model, labels, read_templates("simple-zh"))


def test_embed_takes_the_model(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for path in list_images():
        (tmp_path / "images" / Path(path).name).write_bytes(Path(path).read_bytes())
    out = tmp_path / "rows"
    words = ["embed", str(tmp_path / "images"), "-o", str(out), "--model", str(bundle.folder), *OPTIONS]
    assert main(words) == 0, capsys.readouterr().err
    rows = np.concatenate([np.load(path) for path in sorted(out.glob("*.npy"))])
    assert rows.shape == (len(list_images()), 12)


def test_serve_gives_what_the_library_gives(bundle: Bundle, model: Model) -> None:
    words = ("--model", str(bundle.folder), "--runtime", "onnxruntime", "--precision", "f32", "--in-process")
    texts = ["猫", "一只黑猫在雪地里的照片"]
    with serving_words(*words, "--no-access-log") as server:
        answer = server.post("/v1/embeddings", {"input": texts})
        np.testing.assert_allclose(answer.rows, model.embed_texts(texts), atol=1e-6)
        body = {"image": write_uri(EXAMPLE.read_bytes()), "labels": list(NAMES), "templates": "simple-zh"}
        classes = server.post("/v1/classify", body).read()["data"][0]["classes"]
    match = model.match(EXAMPLE, [f"一张{name}的照片。" for name in NAMES])
    assert [one["index"] for one in classes] == [score.index for score in match.scores]
    assert [one["score"] for one in classes] == pytest.approx([score.score for score in match.scores], abs=1e-4)


def test_int8_is_calibrated_on_chinese_prompts_where_nobody_names_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def keep(_: Bundle, role: str, __: str, batches: list[npt.NDArray[Any]]) -> None:
        if role == "text":
            seen.extend("".join(PIECES[number] for number in row[1:-1]) for batch in batches for row in batch)

    monkeypatch.setattr(quantize, "_quantize_tower", keep)
    monkeypatch.setattr(quantize, "write_card", lambda *_: bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the small vocabulary lacks most of their words
        quantize_towers(bundle, np.zeros((16, 32, 32, 3), np.uint8))
    assert len(seen) == 150
    assert "狗" in seen
    assert "一张狗的照片。" in seen


def test_compare_takes_the_model(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for path in list_images():
        (tmp_path / "images" / Path(path).name).write_bytes(Path(path).read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    words = ["compare", str(tmp_path / "images"), "--labels", str(labels), "--templates", "simple-zh"]
    words += ["--model", str(bundle.folder), "--runtime", "onnxruntime", "--precision", "f32,int8"]
    words += ["--duration", "0.1", "--warmup", "0", "--repeats", "1", "--no-footprint", "--strict", "--limit", "3"]
    assert main([*words, "-o", str(tmp_path / "comparison")]) == 0, capsys.readouterr().err
    assert "int8" in (tmp_path / "comparison" / "comparison.md").read_text(encoding="utf-8")


def test_doctor_finds_the_bundle_sound_stage_by_stage(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(bundle.folder), *OPTIONS, "--json"]) == 0
    names = [stage["name"] for stage in json.loads(capsys.readouterr().out)["stages"]]
    assert {"image_layer_1", "text_tokens", "text_layer_2", "text_pooled", "scores"} <= set(names)


def test_the_vendor_s_sample_runs_it(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input_file", str(EXAMPLE), "--strings", "[黑猫,白狗]", "--imgmod_prefix", str(bundle.folder)]
    assert clip_sample.main([*words, "--runtime", "onnxruntime"]) == 0, capsys.readouterr().err
