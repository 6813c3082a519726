"""A conversion gives a whole, proven bundle or nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from convert_checkpoints import MODELS, VOCABULARY, describe_huggingface, write_huggingface, write_json

from clipworks.bundle.card import Card, ScoreRule, TextSpec, TowerSpec
from clipworks.bundle.files import Bundle, read_bundle, verify_bundle
from clipworks.bundle.provenance import Published
from clipworks.convert import compare_with_checkpoint, conversion, convert_checkpoint
from clipworks.convert.answers import EXACT
from clipworks.errors import ConversionError

pytestmark = pytest.mark.runtimes

MODEL = MODELS["quick"]
TOWER = TowerSpec(kind="transformer", layers=2, width=16, activation="gelu", mask="causal")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(tmp_path_factory.mktemp("source"), MODEL)


@pytest.fixture(scope="module")
def bundle(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return convert_checkpoint(source, tmp_path_factory.mktemp("bundles") / "small")


def test_the_bundle_is_whole_and_its_card_tells_the_facts(bundle: Bundle, source: Path) -> None:
    assert read_bundle(bundle.folder) == bundle
    verify_bundle(bundle)
    card = bundle.card
    assert sorted(card.files) == ["image.safetensors", "text.safetensors", "tokenizer.json"]
    assert (card.name, card.family, card.dim) == ("small", "clip", 12)
    assert card.score.logit_scale == pytest.approx(100, rel=1e-3)
    assert (card.text.context, card.text.vocabulary, card.text.padding) == (20, VOCABULARY, "none")
    # Counted by hand: patches, class, positions, two norms, three layers of 12 width + 4 width MLP, projection.
    layer = 4 * (24 * 24 + 24) + 2 * 24 * 96 + 96 + 24 + 4 * 24
    assert (card.text_tower.mask, card.text_tower.pooling) == ("causal", "argmax")
    assert card.image_tower == TowerSpec(
        kind="vit",
        layers=3,
        width=24,
        heads=3,
        mlp_dim=96,
        patch_size=8,
        activation="quick_gelu",
        input_norm=True,
        cls_token=True,
        pooling="cls",
        parameters=24 * 3 * 64 + 24 + 17 * 24 + 4 * 24 + 3 * layer + 12 * 24,
    )
    assert card.source.layout == "huggingface"
    assert card.source.files["model.safetensors"].bytes == (source / "model.safetensors").stat().st_size


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_bundle_is_proven_against_its_checkpoint(bundle: Bundle, source: Path, runtime: str) -> None:
    result = compare_with_checkpoint(bundle, source, options=dataclasses.replace(EXACT, runtime=runtime))
    assert result.equal
    assert 0 < result.image_difference <= 2e-6
    assert 0 < result.text_difference <= 2e-6
    assert (result.images, result.texts, result.runtime, result.precision) == (2, 19, runtime, "f32")


def test_the_proof_fails_for_another_checkpoint(bundle: Bundle, tmp_path: Path) -> None:
    """The same sizes and other numbers: the wrong activation alone is enough."""
    other = write_huggingface(tmp_path / "other", MODEL)
    config = describe_huggingface(MODEL)
    config["text_config"]["hidden_act"] = "gelu"
    write_json(other / "config.json", config)
    result = compare_with_checkpoint(bundle, other)
    assert not result.equal
    assert result.image_difference <= 2e-6
    assert result.text_difference > 1e-4


def test_the_proof_fails_for_a_card_that_says_otherwise(bundle: Bundle, source: Path) -> None:
    wrong = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, score=ScoreRule(logit_scale=50.0)))
    with pytest.raises(ConversionError, match=r"says score\.logit_scale is 50\.0; the checkpoint says"):
        compare_with_checkpoint(wrong, source)
    squashed = dataclasses.replace(bundle.card.image, resize="squash")
    wrong = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, image=squashed))
    with pytest.raises(ConversionError, match="the card says"):
        compare_with_checkpoint(wrong, source)


def test_words_come_from_the_card_and_facts_from_the_checkpoint(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    published = Published(imagenet_top1=0.5, source="nowhere")
    score = ScoreRule(logit_scale=1.0)
    known = dataclasses.replace(
        bundle.card, name="known", title="A title", licence="MIT", published=(published,), score=score, towers={}
    )
    made = convert_checkpoint(source, tmp_path / "made", card=known).card
    assert (made.name, made.title, made.licence, made.published) == ("known", "A title", "MIT", (published,))
    assert made.score == bundle.card.score
    assert made.towers == bundle.card.towers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 512}, "contradicts the card of small: dim is 12, not 512"),
        ({"text_tower": TOWER}, "text_tower.activation is 'quick_gelu', not 'gelu'"),
        ({"image_tower": TowerSpec(kind="vit", layers=12, width=24)}, "image_tower.layers is 3, not 12"),
    ],
)
def test_a_card_that_contradicts_the_checkpoint_is_an_error(
    bundle: Bundle, source: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    card: Card = dataclasses.replace(bundle.card, **change)  # type: ignore[arg-type]  # one field of many types
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(source, tmp_path / "made", card=card)
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_kept_unless_told(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "mine.txt").write_text("kept")
    with pytest.raises(ConversionError, match="output exists already; a bundle is written to a new folder"):
        convert_checkpoint(source, output)
    with pytest.raises(ConversionError, match="output is no bundle and is not replaced"):
        convert_checkpoint(source, output, overwrite=True)
    assert (output / "mine.txt").read_text() == "kept"
    (output / "mine.txt").rename(output / "model.json")  # a bundle, whatever is wrong with it
    (output / "old.bin").write_text("goes")
    convert_checkpoint(source, output, overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == [
        "image.safetensors",
        "model.json",
        "text.safetensors",
        "tokenizer.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_an_interrupted_conversion_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path, source: Path | None, _: TextSpec) -> None:
        assert source is None  # OpenAI's own
        assert (path.parent / "text.safetensors").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "write_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(source, tmp_path / "output")
    assert not list(tmp_path.iterdir())


def test_another_vocabulary_than_openai_s_is_an_error(tmp_path: Path) -> None:
    config = describe_huggingface(MODEL)
    folder = write_huggingface(tmp_path / "source", MODEL)
    config["text_config"]["eos_token_id"] = 5
    write_json(folder / "config.json", config)
    with pytest.raises(ConversionError, match="pools at the token 5; allowed: 49407"):
        convert_checkpoint(folder, tmp_path / "output")
    config["text_config"]["vocab_size"] = 100
    write_json(folder / "config.json", config)
    from convert_checkpoints import draw_tensors
    from safetensors.numpy import save_file

    tensors = draw_tensors(MODEL)
    tensors["text_model.embeddings.token_embedding.weight"] = tensors["text_model.embeddings.token_embedding.weight"][
        :100
    ]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConversionError, match="has a vocabulary of 100; allowed: 49408"):
        convert_checkpoint(folder, tmp_path / "output")


def test_a_conversion_is_the_same_every_time(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    again = convert_checkpoint(source, tmp_path / "small")
    assert json.dumps(dataclasses.asdict(again.card)) == json.dumps(dataclasses.asdict(bundle.card))
