"""What others published that a model gives is compared with what it gives; planted answers stand for published ones."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
from conftest import EXAMPLE
from convert_checkpoints import MODELS, write_huggingface

import clipworks
from clipworks.bundle.card import ScoreRule
from clipworks.bundle.card_json import card_from_json, card_to_json
from clipworks.bundle.files import Bundle, read_bundle, write_card
from clipworks.bundle.provenance import EmbeddingAnswer, KnownAnswers, RuleAnswer, ScoreAnswer
from clipworks.cli import main
from clipworks.convert import check_answers, convert_checkpoint, describe_answers, list_missing, require_answers
from clipworks.convert.answers import IMAGES, runs_towers
from clipworks.doctor.inputs import list_images
from clipworks.errors import BundleError, ConversionError
from clipworks.options import RuntimeOptions
from clipworks.store.known import known_models

TEXTS = ("a diagram", "a dog", "a cat")


@pytest.fixture(scope="module")
def answered(clip_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model whose card has, as published, what it gives itself by another way: `clipworks.load`."""
    with clipworks.load(clip_bundle, RuntimeOptions(precision="f32")) as model:
        rows, pixels = model.embed_texts(TEXTS), model.embed_images(EXAMPLE)
        scores = {score.text: score.score for score in model.match(EXAMPLE, TEXTS).scores}
        card = model.card
    tolerance, source = 1e-5, "this test"
    answers = KnownAnswers(
        texts=tuple(
            EmbeddingAnswer(given=text, first=tuple(map(float, row[:5])), tolerance=tolerance, source=source)
            for text, row in zip(TEXTS, rows, strict=True)
        ),
        images=(
            EmbeddingAnswer(
                given="CLIP.png", first=tuple(map(float, pixels[0, :5])), tolerance=tolerance, source=source
            ),
        ),
        scores=(
            ScoreAnswer(
                image="CLIP.png",
                texts=TEXTS,
                scores=tuple(scores[text] for text in TEXTS),
                tolerance=tolerance,
                source=source,
            ),
        ),
    )
    folder = tmp_path_factory.mktemp("answered")
    for file in clip_bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return write_card(folder, dataclasses.replace(card, answers=answers))


def plant(bundle: Bundle, **wrong: object) -> Bundle:
    """The bundle with other answers in its card."""
    answers = dataclasses.replace(bundle.card.answers, **wrong)  # type: ignore[arg-type]  # one field of many types
    return dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, answers=answers))


def test_right_answers_are_found_right(answered: Bundle) -> None:
    checks = check_answers(answered)
    assert [check.given for check in checks] == [*TEXTS, "CLIP.png", "CLIP.png"]
    assert all(check.right for check in checks)
    assert describe_answers(checks) == "gives 5 of 5 known answers"
    require_answers(answered)


def test_a_wrong_text_is_named_with_its_distance_and_source(answered: Bundle) -> None:
    first, *others = answered.card.answers.texts
    off = dataclasses.replace(first, first=(first.first[0], first.first[1] + 0.25, *first.first[2:]))
    with pytest.raises(
        ConversionError,
        match=r"gives 4 of 5 known answers: 'a diagram' is off by 2\.5e-01; allowed: 1e-05 \(this test\)",
    ):
        require_answers(plant(answered, texts=(off, *others)))


def test_a_wrong_image_and_a_wrong_score_are_found(answered: Bundle) -> None:
    (image,), (score,) = answered.card.answers.images, answered.card.answers.scores
    turned = dataclasses.replace(image, first=image.first[::-1])
    checks = check_answers(plant(answered, images=(turned,)))
    assert [check.right for check in checks] == [True, True, True, False, True]
    turned_scores = dataclasses.replace(score, scores=(score.scores[1], score.scores[0], score.scores[2]))
    checks = check_answers(plant(answered, scores=(turned_scores,)))
    assert [check.right for check in checks] == [True, True, True, True, False]


def test_another_model_s_weights_do_not_give_the_answers(answered: Bundle, tmp_path: Path) -> None:
    """They are found when a checkpoint is converted with the card, and nothing is left behind."""
    other = write_huggingface(tmp_path / "other", dataclasses.replace(MODELS["quick"], seed=99))
    card, output = answered.folder / "model.json", tmp_path / "out"
    assert main(["models", "convert", str(other), "--card", str(card), "-o", str(output)]) == 1
    assert not output.exists()
    made = convert_checkpoint(other, output, card=answered.card)
    assert not any(check.right for check in check_answers(made))


def test_verify_tells_of_the_answers(answered: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify", str(answered.folder)]) == 0
    assert f"{answered.card.name} gives 5 of 5 known answers\n" in capsys.readouterr().out
    for file in answered.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = dataclasses.replace(answered.card.answers.texts[0], first=(1.0,))
    write_card(tmp_path, plant(answered, texts=(first,)).card)
    assert main(["models", "verify", str(tmp_path)]) == 1
    assert "gives 2 of 3 known answers: 'a diagram' is off by" in capsys.readouterr().out


def test_doctor_notes_the_answers(answered: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(answered.folder), "--precision", "f32", "--json"]) == 0
    assert f"{answered.card.name} gives 5 of 5 known answers" in capsys.readouterr().out


def test_a_card_without_answers_has_nothing_to_check(clip_bundle: Path) -> None:
    assert check_answers(read_bundle(clip_bundle)) == ()


def test_the_answers_of_known_models_can_be_checked() -> None:
    """Each image is here, and the same as the one in the examples; each row begins a unit vector."""
    answers = {name: known.answers for name, known in known_models().items() if known.answers != KnownAnswers()}
    siglip = {"siglip-b-16-224", "siglip2-b-16-224", "siglip2-so400m-16-256"}
    assert set(answers) == {"openai-b-32", "openai-b-16", "chinese-clip-b-16", *siglip}
    missing = {name: list_missing(known) for name, known in answers.items() if list_missing(known)}
    assert missing == {
        "chinese-clip-b-16": ("pokemon.jpeg",),
        "siglip-b-16-224": ("000000039769.jpg",),
        "siglip2-b-16-224": ("image.jpeg",),
    }
    for known in answers.values():
        assert all(sum(value**2 for value in answer.first) < 1 for answer in (*known.texts, *known.images))
        names = {*(answer.given for answer in known.images), *(answer.image for answer in known.scores)}
        for name in names - set(list_missing(known)):
            assert (IMAGES / name).read_bytes() == EXAMPLE.read_bytes()
    assert [name for name, known in answers.items() if not runs_towers(known)] == [
        "chinese-clip-b-16",
        "siglip-b-16-224",
        "siglip2-so400m-16-256",
    ]


@pytest.fixture(scope="module")
def elsewhere(answered: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model with answers about a photograph that does not come with clipworks."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for file in answered.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "images").mkdir()
    content = Path(list_images()[0]).read_bytes()
    (folder / "images" / "theirs.jpg").write_bytes(content)
    with clipworks.load(answered.folder, RuntimeOptions(precision="f32")) as model:
        row = model.embed_images(list_images()[0])[0]
        scores = {score.text: score.score for score in model.match(list_images()[0], TEXTS).scores}
    image = EmbeddingAnswer(
        given="theirs.jpg",
        first=tuple(map(float, row[:4])),
        tolerance=1e-5,
        source="they",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    score = ScoreAnswer(
        image="theirs.jpg", texts=TEXTS, scores=tuple(scores[text] for text in TEXTS), tolerance=1e-5, source="they"
    )
    answers = KnownAnswers(texts=answered.card.answers.texts[:1], images=(image,), scores=(score,))
    return write_card(folder, dataclasses.replace(answered.card, answers=answers))


@pytest.mark.shows("models verify --answers")
def test_answers_of_an_image_that_only_the_user_has_are_checked_when_it_is_given(
    elsewhere: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models", "verify", str(elsewhere.folder)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "gives 1 of 1 known answers\n" in out
    assert "more answers are known of theirs.jpg: --answers FOLDER says where that is" in out
    require_answers(elsewhere)
    assert main([*words, "--answers", str(elsewhere.folder / "images")]) == 0
    out = capsys.readouterr().out
    assert "gives 3 of 3 known answers\n" in out
    assert "more answers" not in out
    wrong = dataclasses.replace(elsewhere.card.answers.scores[0], scores=(0.1, 0.2, 0.7))
    checks = check_answers(plant(elsewhere, scores=(wrong,)), images=elsewhere.folder / "images")
    assert [check.right for check in checks] == [True, True, False]
    (tmp_path / "theirs.jpg").write_bytes(Path(list_images()[1]).read_bytes())
    assert main([*words, "--answers", str(tmp_path)]) == 1
    assert "theirs.jpg is not the image that the answer is known for" in capsys.readouterr().err
    assert main([*words, "--answers", str(tmp_path / "none")]) == 2
    assert "none is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scale", "bias", "wrong"),
    [
        (109.93, -15.93, ()),  # rounded
        (109.99, -15.99, ()),  # cut off
        (109.86, -15.86, ()),
        (110.2, -15.9, ("logit scale",)),
        (109.9, -15.6, ("logit bias",)),
        (4.7, 15.9, ("logit scale", "logit bias")),  # the logarithm; the other sign
    ],
)
def test_a_printed_scale_and_bias_may_differ_by_one_of_the_last_digit(
    scale: float, bias: float, wrong: tuple[str, ...], answered: Bundle
) -> None:
    printed = RuleAnswer(logit_scale="109.9", logit_bias="-15.9", source="a notebook")
    rule = ScoreRule(kind="sigmoid", logit_scale=scale, logit_bias=bias)
    card = dataclasses.replace(answered.card, answers=KnownAnswers(rules=(printed,)), score=rule)
    checks = check_answers(dataclasses.replace(answered, card=card))
    assert tuple(check.given for check in checks if not check.right) == wrong
    whole = dataclasses.replace(card, answers=KnownAnswers(rules=(RuleAnswer(logit_scale="110", source="x"),)))
    (check,) = check_answers(dataclasses.replace(answered, card=whole))
    assert (check.right, check.tolerance) == (abs(scale - 110) <= 1, 1.0)


def test_a_printed_figure_is_a_number(answered: Bundle) -> None:
    printed = RuleAnswer(logit_scale="about 110", source="x")
    card = dataclasses.replace(answered.card, answers=KnownAnswers(rules=(printed,)))
    with pytest.raises(BundleError, match="logit_scale is 'about 110'; allowed: a decimal number as it was printed"):
        card_from_json(card_to_json(card), origin="model.json")
