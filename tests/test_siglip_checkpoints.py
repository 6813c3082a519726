"""SigLIP checkpoints are read without guessing: what contradicts, is missing or is not known is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_checkpoints import write_json
from siglip_checkpoints import MODELS, TRUNKS, draw_tensors, write_huggingface, write_open_clip

from clipworks.convert import convert_checkpoint, read_checkpoint
from clipworks.errors import BundleError, ConversionError
from clipworks.families import siglip
from clipworks.text.tokenizers import open_tokenizer

MODEL = MODELS["second"]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siglip, "TRUNKS", siglip.TRUNKS | TRUNKS)


def edit_json(path: Path, edit: Edit) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    edit(values)
    write_json(path, values)


def set_to(*path: str, value: Any) -> Edit:
    def edit(values: dict[str, Any]) -> None:
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = value

    return edit


def drop(*path: str) -> Edit:
    def edit(values: dict[str, Any]) -> None:
        for name in path[:-1]:
            values = values[name]
        del values[path[-1]]

    return edit


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("config.json", set_to("model_type", value="siglip2"), "model_type is 'siglip2': a NaFlex model"),
        ("config.json", set_to("auto_map", value={"AutoModel": "x.Y"}), "needs the code that comes with the model"),
        (
            "config.json",
            set_to("vision_config", "vision_use_head", value=False),
            "vision_use_head is False; allowed: True",
        ),
        ("config.json", set_to("vision_config", "num_channels", value=4), "num_channels is 4; allowed: 3"),
        ("config.json", set_to("text_config", "projection_size", value=32), "projection_size is 32; allowed: 24"),
        ("config.json", drop("text_config", "projection_size"), "projection_size is 20; allowed: 24"),
        ("config.json", set_to("text_config", "hidden_act", value="relu"), "hidden_act is 'relu'"),
        ("config.json", set_to("text_config", "num_hidden_layers", value=3), "the configuration says 3 layers"),
        ("config.json", set_to("vision_config", "patch_size", value=16), "patch_embedding.weight has shape"),
        (
            "preprocessor_config.json",
            set_to("size", value={"shortest_edge": 32}),
            "do_center_crop is false and size keeps the image's shape",
        ),
        (
            "preprocessor_config.json",
            lambda values: values.update(size={"shortest_edge": 32}, do_center_crop=True, crop_size=32),
            "SigLIP squashes images, both sides to 32 pixels; it asks for the shorter side and a crop",
        ),
        (
            "preprocessor_config.json",
            set_to("image_processor_type", value="Siglip2ImageProcessor"),
            "is for 'Siglip2ImageProcessor'; allowed: SiglipFeatureExtractor",
        ),
        (
            "tokenizer_config.json",
            set_to("tokenizer_class", value="CLIPTokenizer"),
            "tokenizer_class is 'CLIPTokenizer'; allowed: SiglipTokenizer, Siglip2Tokenizer, GemmaTokenizer",
        ),
        ("tokenizer_config.json", set_to("pad_token", value="</s>"), "pad_token is '</s>'; allowed: '<pad>'"),
        ("tokenizer_config.json", set_to("add_bos_token", value=True), "add_bos_token is True; allowed: False"),
        ("tokenizer_config.json", set_to("add_eos_token", value=False), "add_eos_token is False; allowed: True"),
    ],
)
def test_a_transformers_folder_that_says_otherwise_is_refused(
    tmp_path: Path, file: str, edit: Edit, message: str
) -> None:
    folder = write_huggingface(tmp_path / "source", MODEL)
    edit_json(folder / file, edit)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            set_to("vision_cfg", "timm_model_name", value="naflexvit_base_patch16_siglip"),
            "timm_model_name is 'naflexvit_base_patch16_siglip': a NaFlex model, of variable resolution",
        ),
        (
            set_to("vision_cfg", "timm_model_name", value="eva02_enormous_patch14_clip_224"),
            "'eva02_enormous_patch14_clip_224': its image tower has norms behind the layers' parts",
        ),
        (
            set_to("vision_cfg", "timm_model_name", value="vit_odd_siglip"),
            "timm_model_name is 'vit_odd_siglip'; allowed: vit_base_patch32_siglip_256, ",
        ),
        (
            set_to("vision_cfg", "timm_model_name", value="vit_base_patch16_siglip_gap_224"),
            "'vit_base_patch16_siglip_gap_224'; allowed",
        ),
        (set_to("vision_cfg", "image_size", value=64), "image_size is 64; its timm_model_name is 'vit_test31"),
        (set_to("vision_cfg", "timm_pool", value="avg"), "timm_pool is 'avg', which is not covered; allowed: 'map'"),
        (drop("vision_cfg", "timm_pool"), "vision_cfg has no field timm_pool; every SigLIP has"),
        (drop("text_cfg", "no_causal_mask"), "text_cfg has no field no_causal_mask"),
        (drop("text_cfg", "proj_bias"), "text_cfg has no field proj_bias"),
        (set_to("text_cfg", "pool_type", value="argmax"), "pool_type is 'argmax', which is not covered"),
        (set_to("text_cfg", "tokenizer_kwargs", value={}), "tokenizer_kwargs is {}, which is not covered"),
        (set_to("text_cfg", "hf_model_name", value="nllb"), "hf_model_name is 'nllb', which is not covered"),
        (set_to("text_cfg", "mystery", value=1), "has the unknown field 'mystery'"),
        (set_to("embed_dim", value=32), "embed_dim is 32; allowed: 24, the image tower's width"),
        (set_to("text_cfg", "vocab_size", value=999), "token_embedding.weight has shape"),
    ],
)
def test_an_open_clip_folder_that_says_otherwise_is_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    folder = write_open_clip(tmp_path / "source", MODEL)
    edit_json(folder / "open_clip_config.json", lambda values: edit(values["model_cfg"]))
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logit_bias", "lacks the tensor logit_bias"),
        ("vision_model.head.probe", "lacks the tensor vision_model.head.probe"),
        (
            "vision_model.embeddings.patch_embedding.bias",
            "lacks the tensor vision_model.embeddings.patch_embedding.bias",
        ),
        ("text_model.head.bias", "lacks the tensor text_model.head.bias"),
        ("vision_model.head.attention.in_proj_bias", "lacks the tensor vision_model.head.attention.in_proj_bias"),
    ],
)
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, name: str, message: str) -> None:
    tensors = draw_tensors(MODEL)
    del tensors[name]
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(write_huggingface(tmp_path / "source", MODEL, tensors))


def test_a_tensor_too_many_is_named(tmp_path: Path) -> None:
    tensors = {**draw_tensors(MODEL), "vision_model.head.extra": np.zeros(3, np.float32)}
    with pytest.raises(ConversionError, match=r"has the unknown tensor vision_model\.head\.extra"):
        read_checkpoint(write_huggingface(tmp_path / "source", MODEL, tensors))


@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json"])
def test_a_tokenizer_that_is_missing_is_named(tmp_path: Path, file: str) -> None:
    folder = write_huggingface(tmp_path / "source", MODEL)
    (folder / file).unlink()
    with pytest.raises(ConversionError, match=f"{file} is missing"):
        read_checkpoint(folder)


def test_a_gemma_file_that_begins_texts_with_a_token_is_made_to_end_them(tmp_path: Path) -> None:
    """As libraries do that read the settings beside it; the ids then are those of the file that does so itself."""
    texts = ["a dog", "A DOG", "two  cats, 3 birds", "<bos> ünïcode 的"]
    right = convert_checkpoint(write_huggingface(tmp_path / "right", MODEL), tmp_path / "first")
    folder = write_huggingface(tmp_path / "raw", MODEL)
    edit_json(
        folder / "tokenizer.json",
        lambda values: values.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
            }
        ),
    )
    made = convert_checkpoint(folder, tmp_path / "second")
    rows = [open_tokenizer(bundle.tokenizer, bundle.card.text).encode(texts, truncate=True) for bundle in (right, made)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0][:, -1] == 0).all()
    np.testing.assert_array_equal(rows[0][0], rows[0][1])  # in lower case
    with pytest.raises(BundleError, match=r"makes the ids \[2\] of an empty text; the card says \[1\]"):
        open_tokenizer(folder / "tokenizer.json", made.card.text)


def test_a_vocabulary_that_is_larger_than_the_model_leaves_no_bundle(tmp_path: Path) -> None:
    tensors = draw_tensors(MODEL)
    name = "text_model.embeddings.token_embedding.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][:900])
    folder = write_huggingface(tmp_path / "source", MODEL, tensors)
    edit_json(folder / "config.json", set_to("text_config", "vocab_size", value=900))
    with pytest.raises(BundleError, match="has 1000 tokens, but the model only 900"):
        convert_checkpoint(folder, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_published_sizes_stand_under_the_names_of_timm() -> None:
    assert len(siglip.TRUNKS) - len(TRUNKS) == 16
    assert siglip.TRUNKS["vit_so400m_patch14_siglip_384"] == siglip.Trunk(1152, 27, 16, 4304, 14, "gelu")
    assert siglip.TRUNKS["vit_giantopt_patch16_siglip_256"] == siglip.Trunk(1536, 40, 16, 6144, 16, "gelu_tanh")
    assert siglip.TRUNKS["vit_base_patch32_siglip_256"].activation == "gelu_tanh"
    assert siglip.TRUNKS["vit_large_patch16_siglip_384"].activation == "gelu"
