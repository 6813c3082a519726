"""Checkpoints are read without guessing: what contradicts, is missing or is not known is an error that names it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from convert_checkpoints import (
    MODELS,
    VOCABULARY,
    describe_huggingface,
    describe_open_clip,
    draw_tensors,
    rename_open_clip,
    write_huggingface,
    write_json,
    write_open_clip,
)
from safetensors.numpy import save_file
from torch_archives import write_archive

from clipworks.bundle.card import ImageSpec
from clipworks.convert import read_checkpoint
from clipworks.errors import ConversionError, UsageError
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.clip import read_clip
from clipworks.families.opening import open_openai
from clipworks.towers.weights import Array

MODEL = MODELS["quick"]
OTHER = ImageSpec(size=32, resize_to=32, drop_alpha="before", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def read_head(checkpoint: Checkpoint) -> Array:
    assert checkpoint.image.head is not None
    return checkpoint.image.head.weight


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    write_json(path, values)


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    """Compare two checkpoints tensor by tensor; when alpha is dropped is a matter of the library that each is for."""
    order = expected.image_input.drop_alpha
    assert dataclasses.replace(found.image_input, drop_alpha=order) == expected.image_input
    assert found.score.logit_scale == pytest.approx(expected.score.logit_scale)
    for tower in ("image", "text"):
        ours, theirs = getattr(found, tower), getattr(expected, tower)
        assert ours.spec == dataclasses.replace(theirs.spec, pooling=ours.spec.pooling)
        np.testing.assert_array_equal(ours.pos_embed, theirs.pos_embed)
        np.testing.assert_array_equal(ours.head.weight, theirs.head.weight)
        for layer, other in zip(ours.layers, theirs.layers, strict=True):
            np.testing.assert_array_equal(layer.k.weight, other.k.weight)
            np.testing.assert_array_equal(layer.fc2.bias, other.fc2.bias)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "huggingface", MODEL)


@pytest.fixture
def open_clip(tmp_path: Path) -> Path:
    return write_open_clip(tmp_path / "open_clip", MODEL)


def test_the_facts_come_from_the_configuration(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    assert checkpoint.layout == "huggingface"
    assert checkpoint.image.spec.activation == checkpoint.text.spec.activation == "quick_gelu"
    assert (checkpoint.text.spec.pooling, checkpoint.text.end_id) == ("argmax", None)
    assert checkpoint.score.logit_scale == pytest.approx(np.exp(4.6052))
    assert (checkpoint.image.spec.heads, checkpoint.image.spec.mlp_dim) == (3, 96)
    assert read_head(checkpoint).shape == (24, 12)
    assert (checkpoint.image_input.size, checkpoint.image_input.interpolation) == (32, "bicubic")


def test_an_end_token_other_than_2_is_pooled_where_it_first_stands(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_huggingface(tmp_path, MODELS["exact"]))
    assert (checkpoint.text.spec.pooling, checkpoint.text.end_id) == ("eos", VOCABULARY - 1)


def test_fields_left_out_mean_what_transformers_means(folder: Path) -> None:
    """As transformers 5 writes them: only what differs from its defaults."""

    def edit(values: dict[str, Any]) -> None:
        for tower in ("text_config", "vision_config"):
            for field in ("hidden_act", "layer_norm_eps"):
                del values[tower][field]
        del values["text_config"]["eos_token_id"]

    edit_json(folder / "config.json", edit)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.image.spec.activation == "quick_gelu"
    assert checkpoint.text.spec.norm_eps == 1e-5
    assert (checkpoint.text.spec.pooling, checkpoint.text.end_id) == ("eos", 49407)


def test_each_tower_keeps_its_own_activation(folder: Path) -> None:
    edit_json(folder / "config.json", lambda values: values["text_config"].update(hidden_act="gelu"))
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.image.spec.activation, checkpoint.text.spec.activation) == ("quick_gelu", "gelu")


def test_the_old_second_configuration_is_read_as_transformers_reads_it(folder: Path) -> None:
    text = describe_huggingface(MODEL)["text_config"]
    edit_json(folder / "config.json", lambda values: values.update(text_config_dict=text, text_config={}))
    assert read_checkpoint(folder).text.spec.pooling == "argmax"
    edit_json(folder / "config.json", lambda values: values.update(text_config={"hidden_act": "gelu"}))
    with pytest.raises(ConversionError, match=r"contradicts itself: text_config.hidden_act is 'gelu'"):
        read_checkpoint(folder)


def test_bfloat16_weights_become_the_same_numbers(tmp_path: Path) -> None:
    brief = {name: array.astype(ml_dtypes.bfloat16) for name, array in draw_tensors(MODEL).items()}
    checkpoint = read_checkpoint(write_huggingface(tmp_path, MODEL, brief))
    expected = brief["visual_projection.weight"].astype(np.float32)
    assert read_head(checkpoint).dtype == np.float32
    np.testing.assert_array_equal(read_head(checkpoint).T, expected)


def test_shards_are_one_checkpoint(folder: Path) -> None:
    expected = read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(draw_tensors(MODEL))
    shards = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, part in shards.items():
        save_file({name: draw_tensors(MODEL)[name] for name in part}, folder / file)
    index = folder / "model.safetensors.index.json"
    write_json(index, {"weight_map": {name: file for file, part in shards.items() for name in part}})
    found = read_checkpoint(folder)
    assert_same(found, expected)
    assert [path.name for path in found.files] == [index.name, *shards, "config.json"]
    edit_json(index, lambda values: values["weight_map"].update(extra="b.safetensors"))
    with pytest.raises(ConversionError, match="lack the tensor extra"):
        read_checkpoint(folder)
    edit_json(index, lambda values: values["weight_map"].update(extra="../b.safetensors"))
    with pytest.raises(ConversionError, match=r"names the shard '\.\./b\.safetensors'"):
        read_checkpoint(folder)


def test_position_buffers_are_known(folder: Path) -> None:
    """Checkpoints from before transformers 4.31 carry them."""
    tensors = draw_tensors(MODEL)
    for tower in ("text_model", "vision_model"):
        tensors[f"{tower}.embeddings.position_ids"] = np.arange(4)[None]
    save_file(tensors, folder / "model.safetensors")
    assert read_head(read_checkpoint(folder)).shape[1] == MODEL.dim


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        (None, "model_type", "blip", "model_type is 'blip'; allowed: 'siglip', 'chinese_clip', 'clip'"),
        (None, "projection_dim", 16, r"visual_projection.weight has shape \[12, 24\].*\[16, 24\]"),
        (
            "vision_config",
            "num_hidden_layers",
            4,
            r"the configuration says 4 layers; the tensors vision_model\..* hold 3",
        ),
        ("text_config", "num_hidden_layers", 1, r"the configuration says 1 layers; the tensors text_model\..* hold 2"),
        ("vision_config", "hidden_size", 48, r"patch_embedding.weight has shape \[24, 3, 8, 8\]"),
        ("vision_config", "image_size", 40, "crops to 32 pixels; the image tower takes 40"),
        ("vision_config", "image_size", [32, 40], r"image_size is \[32, 40\]"),
        ("vision_config", "patch_size", 16, r"patch_embedding.weight has shape"),
        ("vision_config", "num_channels", 1, "num_channels is 1; allowed: 3"),
        ("text_config", "vocab_size", 49406, r"token_embedding.weight has shape \[49408, 16\].*\[49406, 16\]"),
        ("text_config", "max_position_embeddings", 77, r"position_embedding.weight has shape \[20, 16\]"),
        ("text_config", "intermediate_size", 32, r"fc1.weight has shape \[64, 16\]"),
        ("text_config", "num_attention_heads", 3, "width 16 does not divide among 3 heads"),
        ("text_config", "hidden_act", "gelu_new", "hidden_act is 'gelu_new'; allowed: 'quick_gelu', 'gelu'"),
        ("text_config", "eos_token_id", 49408, "eos_token_id is 49408"),
        ("text_config", "layer_norm_eps", 0, "layer_norm_eps is 0"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_an_error(
    folder: Path, section: str | None, field: str, value: object, message: str
) -> None:
    edit_json(folder / "config.json", lambda values: (values[section] if section else values).update({field: value}))
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


def test_an_image_size_that_contradicts_the_positions_is_an_error(folder: Path) -> None:
    edit_json(folder / "config.json", lambda values: values["vision_config"].update(image_size=40))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConversionError, match=r"position_embedding.weight has shape \[17, 24\].*\[26, 24\]"):
        read_checkpoint(folder, preprocessing=dataclasses.replace(OTHER, size=40, resize_to=40))


def test_a_missing_an_unknown_and_a_broken_tensor_are_named(folder: Path) -> None:
    tensors = draw_tensors(MODEL)
    name = "vision_model.encoder.layers.1.mlp.fc1.bias"
    save_file({key: array for key, array in tensors.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=f"lacks the tensor {name}"):
        read_checkpoint(folder)
    save_file({**tensors, "vision_model.adapter.weight": tensors[name]}, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=r"unknown tensor vision_model\.adapter\.weight"):
        read_checkpoint(folder)
    save_file({**tensors, name: np.full_like(tensors[name], np.nan)}, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=f"{name} holds a number that is not finite"):
        read_checkpoint(folder)
    save_file({**tensors, name: tensors[name].astype(np.int32)}, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=f"{name} is int32; allowed: float32, float16, bfloat16"):
        read_checkpoint(folder)


def test_a_damaged_weights_file_is_an_error(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConversionError, match=r"model\.safetensors cannot be read as safetensors"):
        read_checkpoint(folder)


def test_a_folder_without_a_checkpoint_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds no checkpoint; expected config\.json with model\.safetensors"):
        read_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        read_checkpoint(tmp_path / "nowhere")


def test_a_bare_state_dict_needs_its_configuration(open_clip: Path, tmp_path: Path) -> None:
    weights = (open_clip / "open_clip_model.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(ConversionError, match="has no configuration beside it"):
        read_checkpoint(weights)
    found = read_checkpoint(weights, config=open_clip / "open_clip_config.json")
    assert found.layout == "open_clip"


def test_preprocessing_may_come_from_the_caller_but_not_contradict(folder: Path) -> None:
    with pytest.raises(ConversionError, match=r"preprocessor_config\.json says ImageSpec.*the card says ImageSpec"):
        read_checkpoint(folder, preprocessing=OTHER)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConversionError, match=r"nothing says how to preprocess images: .*preprocessor_config\.json"):
        read_checkpoint(folder)
    assert read_checkpoint(folder, preprocessing=OTHER).image_input == OTHER


def test_a_folder_with_both_layouts_reads_safetensors_before_pytorch_files(folder: Path, open_clip: Path) -> None:
    """As LAION publishes them: both configurations, and weights of either or both."""
    for file in open_clip.iterdir():
        file.rename(folder / file.name)
    assert read_checkpoint(folder).layout == "huggingface"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert read_checkpoint(folder).layout == "open_clip"


@pytest.mark.parametrize("text_root", ["", "text."])
def test_open_clip_and_hugging_face_give_the_same_records(folder: Path, tmp_path: Path, text_root: str) -> None:
    found = read_checkpoint(write_open_clip(tmp_path / text_root, MODEL, text_root=text_root))
    assert found.layout == "open_clip"
    assert_same(found, read_checkpoint(folder))
    orders = (found.image_input.drop_alpha, read_checkpoint(folder).image_input.drop_alpha)
    assert orders == ("after", "before")


def test_without_quick_gelu_open_clip_means_gelu(open_clip: Path) -> None:
    edit_json(open_clip / "open_clip_config.json", lambda values: values["model_cfg"].pop("quick_gelu"))
    assert read_checkpoint(open_clip).image.spec.activation == "gelu"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"module.{name}",
        lambda name: (
            f"_image_encoder.{name}"
            if name.startswith("visual.")
            else f"_logit_scale.{name}"
            if name == "logit_scale"
            else f"_text_encoder.{name}"
        ),
    ],
    ids=["data-parallel", "TinyCLIP"],
)
def test_names_of_wrappers_are_taken_off(open_clip: Path, folder: Path, wrap: Callable[[str], str]) -> None:
    tensors = {wrap(name): array for name, array in rename_open_clip(draw_tensors(MODEL)).items()}
    save_file(tensors, open_clip / "open_clip_model.safetensors")
    assert_same(read_checkpoint(open_clip), read_checkpoint(folder))


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        (None, "multimodal_cfg", {}, "CoCa"),
        (None, "init_logit_bias", -10, "init_logit_bias is -10, which is not covered"),
        (None, "mask_image", True, "mask_image is True"),
        ("vision_cfg", "timm_model_name", "vit_base_mci_224", "timm_model_name is 'vit_base_mci_224'"),
        ("vision_cfg", "layers", [3, 4, 6, 3], "a ResNet; only ViT"),
        ("vision_cfg", "no_ln_pre", True, "no_ln_pre is True"),
        ("vision_cfg", "ls_init_value", 1e-5, "ls_init_value is 1e-05"),
        ("vision_cfg", "attentional_pool", True, "attentional_pool is True"),
        ("vision_cfg", "pool_type", "avg", "pool_type is 'avg', which is not covered; allowed: 'tok'"),
        ("vision_cfg", "shape_memory", 1, r"unknown field 'shape_memory' \(1\)"),
        ("vision_cfg", "layers", 4, "the configuration says 4 layers; the tensors .* hold 3"),
        ("text_cfg", "heads", 3, "width 16 does not divide among 3 heads"),
        ("text_cfg", "hf_model_name", "roberta-base", "hf_model_name is 'roberta-base'"),
        ("text_cfg", "hf_tokenizer_name", "bert-base-uncased", "hf_tokenizer_name is 'bert-base-uncased'"),
        ("text_cfg", "pool_type", "last", "text_cfg.pool_type is 'last'"),
        ("text_cfg", "no_causal_mask", True, "no_causal_mask is True"),
        ("text_cfg", "embed_cls", True, "embed_cls is True"),
        ("text_cfg", "vocab_size", 32000, r"token_embedding.weight has shape \[49408, 16\]"),
        ("text_cfg", "norm_kwargs", {"eps": 2}, "norm_kwargs"),
    ],
)
def test_what_is_not_covered_of_open_clip_is_refused_by_name(
    open_clip: Path, section: str | None, field: str, value: object, message: str
) -> None:
    def edit(values: dict[str, Any]) -> None:
        model = values["model_cfg"]
        (model[section] if section else model).update({field: value})

    edit_json(open_clip / "open_clip_config.json", edit)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(open_clip)


def test_a_bare_model_configuration_needs_preprocessing(open_clip: Path) -> None:
    """open_clip's own model_configs have no preprocess_cfg."""
    write_json(open_clip / "open_clip_config.json", describe_open_clip(MODEL)["model_cfg"])
    with pytest.raises(ConversionError, match=r"nothing says how to preprocess images: .*preprocess_cfg"):
        read_checkpoint(open_clip)
    assert read_checkpoint(open_clip, preprocessing=OTHER).image_input == OTHER


def test_openai_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    """Heads are 64 wide and the activation is QuickGELU in all of OpenAI's models; the file says the rest."""
    tensors = {
        **rename_open_clip(draw_tensors(MODELS["openai"])),
        "input_resolution": np.array(32),
        "context_length": np.array(8),
        "vocab_size": np.array(VOCABULARY),
    }
    save_file(tensors, tmp_path / "ViT.safetensors")
    checkpoint = read_clip(open_openai(tmp_path / "ViT.safetensors", None))
    assert (checkpoint.image.spec.heads, checkpoint.text.spec.heads) == (2, 1)
    assert (checkpoint.image.size, checkpoint.image.spec.activation) == (32, "quick_gelu")
    assert checkpoint.image_input.mean == (0.48145466, 0.4578275, 0.40821073)
    assert checkpoint.text.spec.pooling == "argmax"


def test_an_openai_resnet_is_refused(tmp_path: Path) -> None:
    save_file({"visual.layer1.0.conv1.weight": np.zeros((1, 1), np.float32)}, tmp_path / "RN50.safetensors")
    with pytest.raises(ConversionError, match=r"no ViT of OpenAI's: it lacks the tensor visual\.proj"):
        read_clip(open_openai(tmp_path / "RN50.safetensors", None))


def test_a_file_that_is_no_checkpoint_is_not_called_one(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # neither a ZIP archive nor a pickle
    with pytest.raises(
        ConversionError, match=r"pytorch_model\.bin holds no weights; allowed: \.safetensors, its index"
    ):
        read_checkpoint(folder)


def test_pytorch_files_are_read_without_pytorch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    write_archive(folder / "pytorch_model.bin", draw_tensors(MODEL))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert_same(read_checkpoint(folder), expected)


def test_pytorch_files_give_the_same_records(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    expected = read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    state = {name: torch.from_numpy(array) for name, array in draw_tensors(MODEL).items()}
    torch.save(state, folder / "pytorch_model.bin")
    assert_same(read_checkpoint(folder), expected)
    brief = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    torch.save({"state_dict": brief}, folder / "pytorch_model.bin")
    found = read_head(read_checkpoint(folder)).T
    np.testing.assert_array_equal(found, brief["visual_projection.weight"].float().numpy())


def test_a_pickle_that_runs_code_is_refused(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Path}, folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"pytorch_model\.bin cannot be read as PyTorch weights: it names"):
        read_checkpoint(folder)


def test_openai_archives_are_torchscript(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = rename_open_clip(draw_tensors(MODELS["openai"]))
    root = torch.nn.Module()
    for name, array in tensors.items():
        module = root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        half = torch.from_numpy(array).half()
        module.register_parameter(last, torch.nn.Parameter(half, requires_grad=False))
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(root), str(tmp_path / "ViT.pt"))
    checkpoint = read_checkpoint(tmp_path / "ViT.pt")
    assert checkpoint.layout == "openai"
    np.testing.assert_array_equal(
        read_head(checkpoint).T, tensors["visual.proj"].T.astype(np.float16).astype(np.float32)
    )
