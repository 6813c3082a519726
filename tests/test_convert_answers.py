"""What others published that a model gives is compared with what it gives; planted answers stand for published ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import EXAMPLE
from convert_checkpoints import MODELS, write_huggingface

import clipworks
from clipworks.bundle.files import Bundle, read_bundle, write_card
from clipworks.bundle.provenance import EmbeddingAnswer, KnownAnswers, ScoreAnswer
from clipworks.cli import main
from clipworks.convert import check_answers, convert_checkpoint, describe_answers, require_answers
from clipworks.convert.answers import IMAGES
from clipworks.errors import ConversionError
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
    assert set(answers) == {"openai-b-32", "openai-b-16", "siglip2-b-16-224"}
    for known in answers.values():
        assert all(sum(value**2 for value in answer.first) < 1 for answer in (*known.texts, *known.images))
        for name in (*(answer.given for answer in known.images), *(answer.image for answer in known.scores)):
            assert (IMAGES / name).read_bytes() == EXAMPLE.read_bytes()
