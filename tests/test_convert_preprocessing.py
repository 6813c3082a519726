"""Preprocessing is read from every form that checkpoints write, and from none that is not known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from convert_checkpoints import MEAN, MODELS, STD, describe_preprocessor, write_huggingface, write_json

from clipworks.bundle.card import ImageSpec
from clipworks.convert import read_checkpoint
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import Fields
from clipworks.families.clip import PROCESSOR
from clipworks.families.preprocessing import (
    read_huggingface_preprocessing,
    read_open_clip_preprocessing,
    settle_preprocessing,
)
from clipworks.store.known import known_models

OPENAI = ImageSpec(size=224, resize="shortest", resize_to=224, drop_alpha="before", mean=tuple(MEAN), std=tuple(STD))
SQUARE = {"height": 224, "width": 224}
SQUASHED = ImageSpec(size=224, resize="squash", resize_to=224, drop_alpha="before", mean=tuple(MEAN), std=tuple(STD))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # OpenAI's models when transformers first had them, then as later versions rewrote the file.
        ({"size": 224, "crop_size": 224, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}, OPENAI),
        ({"size": {"shortest_edge": 224}, "crop_size": SQUARE, "image_processor_type": "CLIPImageProcessor"}, OPENAI),
        ({"image_processor_type": "CLIPImageProcessorFast", "rescale_factor": 0.00392156862745098}, OPENAI),
        ({}, OPENAI),
        ({"size": SQUARE, "do_center_crop": False}, SQUASHED),
        ({"size": SQUARE, "crop_size": SQUARE}, SQUASHED),
        ({"size": [224, 224]}, SQUASHED),
        (
            {"size": {"shortest_edge": 256}, "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": 0.5},
            dataclasses.replace(OPENAI, resize_to=256, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
    ],
)
def test_the_forms_of_transformers(values: dict[str, Any], expected: ImageSpec) -> None:
    assert read_huggingface_preprocessing(Fields(values=values, where="here"), 224, PROCESSOR) == expected


def test_what_the_card_says_of_alpha_holds() -> None:
    """OpenAI's own code drops it after the crop, also for a checkpoint of its weights that is for transformers."""
    card = dataclasses.replace(OPENAI, drop_alpha="after")
    assert settle_preprocessing(OPENAI, card, origin="here") == card
    assert settle_preprocessing(OPENAI, None, origin="here").drop_alpha == "before"
    assert settle_preprocessing(None, card, origin="here") == card
    with pytest.raises(ConversionError, match="the card says"):
        settle_preprocessing(OPENAI, dataclasses.replace(card, resize="squash"), origin="here")
    assert {model.image.drop_alpha for model in known_models().values() if model.image} == {"after"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, "here is for 'SiglipImageProcessor'; allowed: CLIP"),
        ({"do_resize": False}, "do_resize is False"),
        ({"do_normalize": False}, "do_normalize is False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078.*allowed: 1/255"),
        ({"crop_size": 256, "size": 256}, "crops to 256 pixels; the image tower takes 224"),
        ({"size": 192}, "resizes to 192 pixels; the image tower takes 224"),
        ({"size": {"height": 224, "width": 336}}, "size is .*; allowed: a number of pixels, or a square"),
        ({"size": {"height": 256, "width": 256}}, "resizes to 256 pixels"),
        ({"size": {"longest_edge": 224}}, "size is"),
        ({"do_center_crop": False}, "do_center_crop is false and size keeps the image's shape"),
        ({"resample": 0}, "interpolation is 0; allowed: 3 or 'bicubic', 2 or 'bilinear'"),
        ({"image_mean": [0.5]}, r"mean is \[0.5\]; allowed: three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "std is .*; allowed: three numbers over 0"),
    ],
)
def test_what_is_not_known_of_transformers_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_huggingface_preprocessing(Fields(values=values, where="here"), 224, PROCESSOR)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mean": MEAN, "std": STD}, OPENAI),
        ({"mean": MEAN, "std": STD, "interpolation": "random", "resize_mode": None, "size": [224, 224]}, OPENAI),
        ({"resize_mode": "squash", "mode": "RGB", "fill_color": 0}, SQUASHED),
        (
            {"mean": 0.5, "std": 0.5, "interpolation": "bilinear", "size": 224},
            dataclasses.replace(OPENAI, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
    ],
)
def test_the_forms_of_open_clip(values: dict[str, Any], expected: ImageSpec) -> None:
    after = dataclasses.replace(expected, drop_alpha="after")  # open_clip makes RGB of the crop
    assert read_open_clip_preprocessing(Fields(values=values, where="here"), 224) == after


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resize_mode": "longest"}, "resize_mode is 'longest'; allowed: 'shortest', 'squash'"),
        ({"size": 256}, "crops to 256 pixels; the image tower takes 224"),
        ({"mode": "L"}, "mode is 'L'; allowed: 'RGB'"),
        ({"crop_pct": 0.9}, "unknown field 'crop_pct'"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'"),
    ],
)
def test_what_is_not_known_of_open_clip_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_open_clip_preprocessing(Fields(values=values, where="here"), 224)


def test_transformers_5_keeps_preprocessing_within_the_processor(tmp_path: Path) -> None:
    folder, model = write_huggingface(tmp_path, MODELS["quick"]), MODELS["quick"]
    expected = read_checkpoint(folder).image_input
    single = folder / "preprocessor_config.json"
    write_json(folder / "processor_config.json", {"image_processor": json.loads(single.read_text())})
    single.unlink()
    assert read_checkpoint(folder).image_input == expected
    assert describe_preprocessor(model)["size"] == expected.size
