"""Names become models: built in, known, on the hub, or a folder; and what is published about the known ones holds."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from clipworks.bundle.card import CARD_FORMAT, TowerSpec
from clipworks.bundle.known_model import KnownModel
from clipworks.errors import BundleError, DownloadError, UnknownNameError, UsageError
from clipworks.store import open_bundle
from clipworks.store.known import STARTER_FOLDER, find_known, find_target, known_models
from clipworks.store.sources import choose_files

REQUIRED = {
    "openai/clip-vit-base-patch32",
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-large-patch14-336",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "facebook/metaclip-b32-400m",
    "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
    "wkcn/TinyCLIP-ViT-39M-16-Text-19M-YFCC15M",
    "apple/DFN5B-CLIP-ViT-H-14",
    "apple/DFN5B-CLIP-ViT-H-14-378",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "google/siglip-base-patch16-224",
    "google/siglip-so400m-patch14-384",
    "google/siglip2-base-patch16-224",
    "google/siglip2-so400m-patch14-384",
    "google/siglip2-giant-opt-patch16-384",
    "OFA-Sys/chinese-clip-vit-base-patch16",
    "OFA-Sys/chinese-clip-vit-large-patch14",
    "OFA-Sys/chinese-clip-vit-large-patch14-336px",
    "OFA-Sys/chinese-clip-vit-huge-patch14",
}
# Of which no figure with a source is known.
WITHOUT_A_FIGURE = {"siglip-so400m-16-256-i18n"}
CLIP = [known for known in known_models().values() if known.family == "clip"]
SIGLIP = [known for known in known_models().values() if known.family == "siglip"]
CHINESE = [known for known in known_models().values() if known.family == "chinese-clip"]


def test_the_models_that_the_tool_promises_are_known() -> None:
    assert {source.hub for known in known_models().values() for source in known.sources} >= REQUIRED


def test_no_name_means_two_models() -> None:
    names = [name.lower() for known in known_models().values() for name in known.names]
    # One model may have two layouts in one repository.
    unique = [name for known in known_models().values() for name in {other.lower() for other in known.names}]
    assert len(unique) == len(set(names))


@pytest.mark.parametrize("known", CLIP, ids=lambda known: str(known.name))
def test_the_number_of_parameters_follows_from_the_shapes(known: KnownModel) -> None:
    """Counted from widths, layers and patches; a slip in any of them shows."""
    image, text = known.image_tower, known.text_tower
    assert image.patch_size is not None
    grid = known.image_size // image.patch_size

    def layers(tower: TowerSpec) -> int:
        assert tower.mlp_dim is not None
        attention, norms = 4 * tower.width * (tower.width + 1), 4 * tower.width
        mlp = 2 * tower.width * tower.mlp_dim + tower.width + tower.mlp_dim
        return tower.layers * (attention + mlp + norms)

    patches = 3 * image.patch_size**2 * image.width + image.width * (grid * grid + 2)
    expected_image = patches + layers(image) + 4 * image.width + image.width * known.dim
    vocabulary = (49408 + known.text.context) * text.width
    expected_text = vocabulary + layers(text) + 2 * text.width + text.width * known.dim
    assert (image.parameters, text.parameters) == (expected_image, expected_text)
    assert all(tower.width % (tower.heads or 0) == 0 for tower in (image, text))
    assert known.image is None or known.image.size == known.image_size


@pytest.mark.parametrize("known", CHINESE, ids=lambda known: str(known.name))
def test_the_number_of_chinese_clip_s_parameters_follows_from_the_shapes(known: KnownModel) -> None:
    """The image tower as CLIP's; BERT's has the norm of its first rows, one token type, and none behind the last."""
    image, text = known.image_tower, known.text_tower
    assert image.patch_size is not None
    grid = known.image_size // image.patch_size

    def layers(tower: TowerSpec) -> int:
        assert tower.mlp_dim is not None
        maps = 4 * tower.width * (tower.width + 1) + 2 * tower.width * tower.mlp_dim + tower.width + tower.mlp_dim
        return tower.layers * (maps + 4 * tower.width)

    patches = image.width * (3 * image.patch_size**2 + grid * grid + 2)
    expected_image = patches + layers(image) + 4 * image.width + image.width * known.dim
    tables = (known.text.vocabulary + known.text.context + 1) * text.width
    expected_text = tables + 2 * text.width + layers(text) + text.width * known.dim
    assert (image.parameters, text.parameters) == (expected_image, expected_text)
    assert known.image is not None
    assert (known.image.resize, known.image.drop_alpha, known.image.size) == ("squash", "after", known.image_size)
    # As the makers count them, who count all 512 positions and both token types too.
    published = {"b-16": 188, "l-14": 406, "l-14-336": 407, "h-14": 958}[known.name.removeprefix("chinese-clip-")]
    assert round((known.parameters + 461 * text.width) / 1e6) == published


@pytest.mark.parametrize("known", SIGLIP, ids=lambda known: str(known.name))
def test_the_number_of_siglip_s_parameters_follows_from_the_shapes(known: KnownModel) -> None:
    """As above, with biases everywhere and a pooling of about a layer's size; and its name tells what it is."""
    image, text = known.image_tower, known.text_tower
    assert image.patch_size is not None
    grid = known.image_size // image.patch_size

    def layer(width: int, mlp: int | None) -> int:
        assert mlp is not None
        return 4 * width * (width + 1) + 2 * width * mlp + mlp + width + 4 * width

    patches = image.width * (3 * image.patch_size**2 + 1 + grid * grid)
    pool = layer(image.width, image.mlp_dim) - image.width  # one norm less, and the probe
    expected_image = patches + image.layers * layer(image.width, image.mlp_dim) + 2 * image.width + pool
    embedded = (known.text.vocabulary + known.text.context) * text.width
    projected = 2 * text.width + text.width * known.dim + known.dim
    expected_text = embedded + text.layers * layer(text.width, text.mlp_dim) + projected
    assert (image.parameters, text.parameters) == (expected_image, expected_text)
    assert f"-{image.patch_size}-{known.image_size}" in known.name
    assert f"patch{image.patch_size}-{known.image_size}" in str(known.sources[0].hub)
    second = known.name.startswith("siglip2-")
    assert (known.text.pad_id, known.text.cleaning) == ((0, "lower") if second else (1, "transformers"))
    assert known.text.context == (16 if known.name == "siglip-so400m-14-224" else 64)


@pytest.mark.parametrize("known", known_models().values(), ids=lambda known: str(known.name))
def test_every_known_model_tells_its_licence_and_a_figure_with_its_source(known: KnownModel) -> None:
    assert known.licence
    assert all(0 < figure.imagenet_top1 < 1 and figure.source for figure in known.published)
    assert bool(known.published) != (known.name in WITHOUT_A_FIGURE)
    assert known.format == CARD_FORMAT


@pytest.mark.parametrize("name", ["openai-b-32", "ViT-B/32", "vit-b/32", "openai/clip-vit-base-patch32"])
def test_a_known_model_has_several_names(name: str) -> None:
    target = find_target(name)
    assert (target.name, target.key) == ("openai-b-32", "openai-b-32")


def test_any_hub_id_is_a_name() -> None:
    """With a revision it is another model with a folder of its own."""
    plain, pinned = find_target("some-one/My.CLIP_model"), find_target("some-one/My.CLIP_model@refs/pr/3")
    assert (plain.key, plain.known) == ("some-one--My.CLIP_model", None)
    assert pinned.key == "some-one--My.CLIP_model@refs--pr--3"
    assert [(source.hub, source.revision) for source in pinned.sources] == [("some-one/My.CLIP_model", "refs/pr/3")]


@pytest.mark.parametrize("name", ["opnai-b-32", "", "a/b/c", "../up", "a b", "x/y z"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model .* known: starter, "):
        find_target(name)


def test_a_slip_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'openai-b-32'"):
        open_bundle("openai-b32")


def test_starter_is_always_here() -> None:
    assert open_bundle("starter").card.name == "starter"


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    shutil.copytree(STARTER_FOLDER, tmp_path / "mine")
    assert open_bundle(str(tmp_path / "mine")).folder == tmp_path / "mine"


def test_a_folder_that_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle") as caught:
        open_bundle(str(tmp_path))
    assert "clipworks models convert" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "~/missing"])
def test_a_path_that_is_not_there_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        open_bundle(name)


def test_offline_a_model_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(DownloadError, match="tinyclip-8m-16 is not here") as caught:
        open_bundle("wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", offline=True)
    assert caught.value.hint == "when online, run: clipworks models pull tinyclip-8m-16"


@pytest.mark.parametrize(
    ("names", "layout", "files"),
    [
        (
            ["config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin", "README.md"],
            "huggingface",
            ["config.json", "model.safetensors", "preprocessor_config.json"],
        ),
        (
            [
                "config.json",
                "processor_config.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
            "huggingface",
            [
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "processor_config.json",
            ],
        ),
        (
            # timm's mirrors hold the image tower alone under the name of a whole model
            ["config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors"],
            "open_clip",
            ["open_clip_config.json", "open_clip_model.safetensors"],
        ),
        (
            [
                "config.json",
                "preprocessor_config.json",
                "tokenizer.json",
                "onnx/model.onnx",
                "onnx/vision_model.onnx",
                "onnx/text_model.onnx",
                "onnx/text_model.onnx_data",
                "onnx/text_model_fp16.onnx",
            ],
            "transformers_onnx",
            [
                "config.json",
                "onnx/text_model.onnx",
                "onnx/text_model.onnx_data",
                "onnx/vision_model.onnx",
                "preprocessor_config.json",
                "tokenizer.json",
            ],
        ),
    ],
)
def test_only_the_files_needed_are_taken(names: list[str], layout: str, files: list[str]) -> None:
    choice = choose_files(names)
    assert choice is not None
    assert (choice.layout.name, list(choice.files)) == (layout, files)


def test_a_tokenizer_s_files_are_taken_where_they_are() -> None:
    needed = ["config.json", "model.safetensors", "preprocessor_config.json"]
    own = ["special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json"]
    choice = choose_files([*needed, *own])
    assert choice is not None
    assert choice.files == (*needed, *own[1:])


def test_files_for_pytorch_alone_are_taken_only_on_request() -> None:
    names = ["config.json", "preprocessor_config.json", "pytorch_model.bin"]
    assert choose_files(names) is None
    choice = choose_files(names, torch=True)
    assert choice is not None
    assert choice.files == tuple(names)
    others = ["README.md", "clip_cn_vit-b-16.pt", "vocab.txt"]  # as Chinese-CLIP's folders have them
    choice = choose_files([*names, *others], torch=True)
    assert choice is not None
    assert choice.files == (*names, "vocab.txt")


def test_a_layout_that_a_source_names_is_the_only_one_taken() -> None:
    names = ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert choose_files(names, layout="open_clip") is None


def test_known_records_are_frozen() -> None:
    known = find_known("openai-b-32")
    assert known is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        known.name = "other"  # type: ignore[misc]
