"""Fine-tunes: checkpoints as other tools save them, and LoRA adapters, merged into their base or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from convert_checkpoints import MODELS, draw_tensors, write_huggingface, write_json
from hub_server import Hub, HubRepository, read_files
from option_effects import read, run
from safetensors.numpy import save_file

from clipworks.convert import convert_checkpoint
from clipworks.errors import ConversionError, DownloadError
from clipworks.store.pulling import pull_model

MODEL = MODELS["quick"]
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "someone/base", "use_dora": False}
LAYER = "vision_model.encoder.layers.1.self_attn.q_proj"
WHOLE = "visual_projection.weight"
Array = npt.NDArray[Any]


def draw_halves() -> dict[str, Array]:
    generator = np.random.default_rng(3)
    width = MODEL.image.width
    down, up = generator.normal(size=(4, width)), generator.normal(size=(width, 4))
    return {
        f"base_model.model.{LAYER}.lora_A.weight": down.astype(np.float32),
        f"base_model.model.{LAYER}.lora_B.weight": up.astype(np.float32),
        f"base_model.model.{WHOLE}": generator.normal(size=(MODEL.dim, width)).astype(np.float32),
    }


def write_adapter(folder: Path, tensors: dict[str, Array] | None = None, **changes: Any) -> Path:
    folder.mkdir()
    write_json(folder / "adapter_config.json", {**CONFIG, **changes})
    save_file(draw_halves() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def read_towers(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "image.safetensors").read_bytes(), (folder / "text.safetensors").read_bytes()


@pytest.mark.shows("models convert --base")
@pytest.mark.parametrize(("root", "scaling"), [(False, 8 / 4), (True, 8 / 4**0.5)])
def test_a_lora_adapter_is_merged_into_its_base(
    capsys: pytest.CaptureFixture[str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    root: bool,  # noqa: FBT001  # a row of a table
    scaling: float,
) -> None:
    adapter = write_adapter(tmp_path / "adapter", use_rslora=root)
    status, _, err = run(capsys, "models", "convert", adapter, "-o", tmp_path / "out")
    assert status == 1
    assert f"{adapter} is a LoRA adapter of someone/base, no whole checkpoint" in err
    assert "hint: --base FOLDER" in err
    read(capsys, "models", "convert", adapter, "--base", tiny_checkpoint, "-o", tmp_path / "out")
    halves, tensors = draw_halves(), dict(draw_tensors(MODEL))
    down, up = (halves[f"base_model.model.{LAYER}.lora_{half}.weight"].astype(float) for half in "AB")
    tensors[f"{LAYER}.weight"] = (tensors[f"{LAYER}.weight"] + scaling * (up @ down)).astype(np.float32)
    tensors[WHOLE] = halves[f"base_model.model.{WHOLE}"]
    merged = write_huggingface(tmp_path / "merged", MODEL, tensors)
    read(capsys, "models", "convert", merged, "-o", tmp_path / "expected")
    assert read_towers(tmp_path / "out") == read_towers(tmp_path / "expected")
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert set(card["source"]["files"]) >= {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"}


def test_an_adapter_that_names_a_folder_needs_no_other(tiny_checkpoint: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model_name_or_path=str(tiny_checkpoint))
    convert_checkpoint(adapter, tmp_path / "out")
    convert_checkpoint(tiny_checkpoint, tmp_path / "base")
    assert read_towers(tmp_path / "out")[0] != read_towers(tmp_path / "base")[0]
    assert read_towers(tmp_path / "out")[1] == read_towers(tmp_path / "base")[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3': such an adapter is not merged here; allowed: LORA"),
        ({"use_dora": True}, "use_dora is True"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern is {'q_proj': 4}"),
        ({"lora_alpha": 0}, "lora_alpha is 0; allowed: a number over 0"),
    ],
)
def test_another_adapter_is_refused_by_name(
    tiny_checkpoint: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", **changes)
    with pytest.raises(ConversionError) as caught:
        convert_checkpoint(adapter, tmp_path / "out", base=tiny_checkpoint)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        (f"{LAYER}.lora_magnitude_vector", (24,), "has the unknown tensor"),
        ("other.q_proj.lora_A.weight", (4, 24), "lacks the other half of other.q_proj.lora_A.weight"),
        (f"{LAYER}.lora_B.weight", (24, 5), "has the shapes [24, 5] and [4, 24] for a weight of [24, 24]"),
        ("logit_scale", (3,), "has the unknown tensor logit_scale"),
    ],
)
def test_a_tensor_that_the_base_has_no_place_for_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    tensors = {**draw_halves(), f"base_model.model.{name}": np.ones(shape, np.float32)}
    adapter = write_adapter(tmp_path / "adapter", tensors)
    with pytest.raises(ConversionError) as caught:
        convert_checkpoint(adapter, tmp_path / "out", base=tiny_checkpoint)
    assert said in caught.value.message


def test_only_an_adapter_has_a_base(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="is no adapter; only an adapter has a base"):
        convert_checkpoint(tiny_checkpoint, tmp_path / "out", base=tiny_checkpoint)


def test_the_folder_of_sentence_transformers_converts(hub: Hub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sentence"
    shutil.copytree(tiny_checkpoint, folder / "0_CLIPModel")
    (folder / "modules.json").write_text("[]")
    convert_checkpoint(folder, tmp_path / "out")
    convert_checkpoint(tiny_checkpoint, tmp_path / "plain")
    assert read_towers(tmp_path / "out") == read_towers(tmp_path / "plain")
    files = {f"0_CLIPModel/{name}": content for name, content in read_files(tiny_checkpoint).items()}
    hub.repositories["someone/sentence"] = HubRepository(files={**files, "modules.json": b"[]"})
    assert read_towers(pull_model("someone/sentence").folder) == read_towers(tmp_path / "plain")


def test_a_repository_says_what_it_holds_and_lacks(hub: Hub, tiny_checkpoint: Path) -> None:
    files = read_files(tiny_checkpoint)
    del files["preprocessor_config.json"]
    hub.repositories["someone/tuned"] = HubRepository(files=files)
    with pytest.raises(DownloadError) as caught:
        pull_model("someone/tuned")
    assert "; found: config.json, model.safetensors" in caught.value.message
    assert caught.value.message.endswith("; missing: preprocessor_config.json or processor_config.json")


def test_an_adapter_on_the_hub_is_refused_by_name(hub: Hub) -> None:
    hub.repositories["someone/lora"] = HubRepository(
        files={"adapter_config.json": b"{}", "adapter_model.safetensors": b""}
    )
    with pytest.raises(DownloadError, match=r"someone/lora is an adapter \(adapter_config\.json\)") as caught:
        pull_model("someone/lora")
    assert "--base CHECKPOINT" in str(caught.value.hint)
