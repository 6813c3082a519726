"""Chinese-CLIP's towers give on every runtime what transformers gives, its tokenizer what cn_clip gives; traps show."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from chinese_clip_checkpoints import (
    MODELS,
    PIECES,
    describe,
    describe_preprocessing,
    draw_ids,
    draw_images,
    draw_tensors,
    write_checkpoint,
    write_vocabulary,
)
from convert_checkpoints import write_json
from PIL import Image
from torch_archives import write_archive

from clipworks import scoring
from clipworks.bundle.files import Bundle
from clipworks.convert import compare_with_checkpoint, convert_checkpoint, quantize_towers, read_checkpoint
from clipworks.convert.answers import EXACT
from clipworks.errors import BundleError, ConversionError, RuntimeUnavailableError, TextError
from clipworks.families import chinese_clip
from clipworks.families.checkpoint import Checkpoint
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Batch, Role, import_runtime, list_installed, open_encoder
from clipworks.runtimes.auto import choose_for
from clipworks.text.tokenizers import Tokenizer, open_tokenizer
from clipworks.towers import folding
from clipworks.towers.reference import embed_images, embed_texts, embed_tokens, project_rows, run_layer
from clipworks.towers.weights import ImageWeights, Norm, TextWeights

pytestmark = pytest.mark.runtimes

_FILE = json.loads((Path(__file__).parent / "golden" / "chinese_clip.json").read_text(encoding="utf-8"))
GOLDEN, GOLDEN_IDS = _FILE["models"], _FILE["ids"]
LIMIT = 2e-6
RUNTIMES = list_installed(["openvino", "onnxruntime", "torch"])
Floats = npt.NDArray[np.floating[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chinese-clip")


@functools.cache
def convert(folder: Path, name: str) -> tuple[Bundle, Path]:
    source = write_checkpoint(folder / name, MODELS[name])
    return convert_checkpoint(source, folder / f"{name}-bundle"), source


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return read_checkpoint(convert(folder, "base")[1])


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    bundle = convert(folder, "base")[0]
    return open_tokenizer(bundle.tokenizer, bundle.card.text)


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def difference(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    return float(np.abs(unit(found) - unit(expected)).max())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
def test_the_towers_give_the_embeddings_and_scores_of_the_reference(folder: Path, name: str, runtime: str) -> None:
    (bundle, source), expected = convert(folder, name), GOLDEN[name]
    options = dataclasses.replace(EXACT, runtime=runtime, device="cpu")
    batches: dict[Role, Batch] = {"image": draw_images(MODELS[name]), "text": draw_ids(MODELS[name])}
    found = {role: open_encoder(bundle, role, options)(batches[role]) for role in ROLES}
    for role in ROLES:
        assert difference(found[role], expected[role]) <= LIMIT
    scores = scoring.score(scoring.compare(*(scoring.normalise(found[role]) for role in ROLES)), bundle.card.score)
    assert np.abs(scores - expected["scores"]).max() <= bundle.card.score.logit_scale * LIMIT / 4
    assert compare_with_checkpoint(bundle, source, options=options).equal


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_may_be_as_long_as_its_longest_text(folder: Path, runtime: str) -> None:
    bundle, ids = convert(folder, "base")[0], draw_ids(MODELS["base"])
    encoder = open_encoder(bundle, "text", dataclasses.replace(EXACT, runtime=runtime, device="cpu"))
    assert not encoder.packs
    for length in (2, 3, 17):
        found = encoder(np.ascontiguousarray(ids[: length - 1, :length]))
        assert difference(found, GOLDEN["base"]["text"][: length - 1]) <= LIMIT


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_equations_give_the_embeddings_of_the_reference(folder: Path, name: str) -> None:
    checkpoint, expected = read_checkpoint(convert(folder, name)[1]), GOLDEN[name]
    for image, text in (
        (checkpoint.image, checkpoint.text),
        (folding.fold_image(checkpoint.image), folding.fold_text(checkpoint.text)),
    ):
        assert difference(embed_images(image, draw_images(MODELS[name])), expected["image"]) <= LIMIT
        assert difference(embed_texts(text, list(draw_ids(MODELS[name]))), expected["text"]) <= LIMIT


Embed = Callable[[TextWeights], Floats]


def of_spec(**changes: Any) -> Embed:
    """The embeddings of a tower whose architecture alone is another."""
    return lambda tower: embed(dataclasses.replace(tower, spec=dataclasses.replace(tower.spec, **changes)))


def embed(tower: TextWeights) -> Floats:
    return embed_texts(tower, list(draw_ids(MODELS["base"])))


def embed_rows(tower: TextWeights, pool: Callable[[Floats], Floats]) -> Floats:
    """The embeddings of texts without padding whose row behind the last layer is chosen by ``pool``."""
    pooled = []
    for ids in draw_ids(MODELS["base"]):
        rows = embed_tokens(tower, ids[ids != 0])
        for layer in tower.layers:
            rows = run_layer(layer, rows, [len(rows)], tower)
        pooled.append(pool(rows))
    return project_rows(np.stack(pooled), tower)


def pool_as_bert(row: Floats) -> Floats:
    """BERT's pooler of random weights."""
    random = np.random.RandomState(0)
    squeezed: Floats = np.tanh(row @ random.standard_normal((len(row), len(row))))
    return squeezed


TEXT_TRAPS: dict[str, Embed] = {
    "pre-LN": of_spec(norm_place="pre"),
    "eps 1e-5": of_spec(norm_eps=1e-5),
    "BERT's pooler": lambda tower: embed_rows(tower, lambda rows: pool_as_bert(rows[0])),
    "mean pooling": lambda tower: embed_rows(tower, lambda rows: rows.mean(axis=0)),
    "no mask": lambda tower: embed(dataclasses.replace(tower, pad_id=None)),
    "a causal mask": of_spec(mask="causal"),
    "token type row lost": lambda tower: embed(dataclasses.replace(tower, type_embed=None)),
    "no normalisation of the first rows": lambda tower: embed(dataclasses.replace(tower, norm_pre=None)),
    "a normalisation behind the last layer": lambda tower: embed(
        dataclasses.replace(
            tower, norm=Norm(weight=np.ones(tower.spec.width, np.float32), bias=np.zeros(tower.spec.width, np.float32))
        )
    ),
    "tanh for erf": of_spec(activation="gelu_tanh"),
    "QuickGELU": of_spec(activation="quick_gelu"),
}


@pytest.mark.parametrize("trap", TEXT_TRAPS)
def test_the_stored_text_embeddings_tell_each_trap(checkpoint: Checkpoint, trap: str) -> None:
    assert difference(TEXT_TRAPS[trap](checkpoint.text), GOLDEN["base"]["text"]) > 5 * LIMIT


def test_a_second_token_type_or_later_positions_would_show(tmp_path: Path) -> None:
    tensors = draw_tensors(MODELS["base"])
    for name in ("token_type_embeddings", "position_embeddings"):
        changed = dict(tensors)
        changed[f"text_model.embeddings.{name}.weight"] = tensors[f"text_model.embeddings.{name}.weight"][::-1].copy()
        text = read_checkpoint(write_checkpoint(tmp_path / name, MODELS["base"], changed)).text
        assert difference(embed(text), GOLDEN["base"]["text"]) > 5 * LIMIT


IMAGE_TRAPS: dict[str, Callable[[ImageWeights], ImageWeights]] = {
    "GELU for QuickGELU": lambda tower: dataclasses.replace(
        tower, spec=dataclasses.replace(tower.spec, activation="gelu")
    ),
    "another epsilon": lambda tower: dataclasses.replace(tower, spec=dataclasses.replace(tower.spec, norm_eps=1e-3)),
    "SigLIP's mean": lambda tower: dataclasses.replace(tower, mean=(0.5,) * 3),
    "no pre-LN": lambda tower: dataclasses.replace(tower, norm_pre=None),
}


@pytest.mark.parametrize("trap", IMAGE_TRAPS)
def test_the_stored_image_embeddings_tell_each_trap(checkpoint: Checkpoint, trap: str) -> None:
    found = embed_images(IMAGE_TRAPS[trap](checkpoint.image), draw_images(MODELS["base"]))
    assert difference(found, GOLDEN["base"]["image"]) > 5 * LIMIT


def test_heads_of_64_in_the_largest_size_would_show(folder: Path) -> None:
    image = read_checkpoint(convert(folder, "huge")[1]).image
    spec = dataclasses.replace(image.spec, heads=4)
    other = dataclasses.replace(image, spec=spec, scale=40**-0.5)
    assert difference(embed_images(other, draw_images(MODELS["huge"])), GOLDEN["huge"]["image"]) > 5 * LIMIT


@pytest.mark.parametrize("text", GOLDEN_IDS)
def test_texts_become_the_ids_of_cn_clip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode_ragged([text], truncate=True)[0].tolist() == GOLDEN_IDS[text]


def test_the_stored_ids_tell_each_trap_of_the_tokenizer(folder: Path) -> None:
    bundle = convert(folder, "base")[0]
    cased = open_tokenizer(bundle.tokenizer, dataclasses.replace(bundle.card.text, cleaning="none"))
    text = "皮卡丘!Photo of the DOG, CAFÉ\u3000café"
    assert cased.encode_ragged([text])[0].tolist() != GOLDEN_IDS[text]
    long = "一" * 60
    assert GOLDEN_IDS[long][-1] == bundle.card.text.end_id
    assert len(GOLDEN_IDS[long]) == 52
    whole = open_tokenizer(bundle.tokenizer, dataclasses.replace(bundle.card.text, context=100)).encode([long])[0]
    assert whole[:52].tolist() != GOLDEN_IDS[long]  # as transformers' ids would be cut
    assert GOLDEN_IDS["s" * 201] == [101, 100, 102]  # over 200 characters a word is unknown
    assert len(GOLDEN_IDS["s" * 150]) == 52  # and over 100 it is not, as it is in transformers
    literal = GOLDEN_IDS["a photo of [SEP] 2021"]
    assert literal.count(102) == 1  # a token's name in a text is text


def test_a_long_text_is_an_error_unless_it_may_be_cut(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="has 62 tokens; the model takes at most 52, start and end tokens counted"):
        tokenizer.encode(["一" * 60])


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_is_read_from_either_file(folder: Path, tmp_path: Path, name: str) -> None:
    bundle = convert(folder, "base")[0]
    path = tmp_path / name
    if name == "vocab.txt":
        write_vocabulary(path)
    else:
        write_json(path, describe_tokenizer())
    other = open_tokenizer(path, dataclasses.replace(bundle.card.text, file=name))
    for text, ids in GOLDEN_IDS.items():
        assert other.encode_ragged([text], truncate=True)[0].tolist() == ids


def describe_tokenizer(**normalizer: Any) -> dict[str, Any]:
    """A ``tokenizer.json`` as transformers 5 writes it."""
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
            **normalizer,
        },
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "vocab": {piece: number for number, piece in enumerate(PIECES)},
        },
    }


def test_a_folder_with_the_other_tokenizer_file_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "newer", MODELS["base"])
    (source / "vocab.txt").unlink()
    write_json(source / "tokenizer.json", describe_tokenizer())
    bundle = convert_checkpoint(source, tmp_path / "bundle")
    assert bundle.card.text == dataclasses.replace(convert(folder, "base")[0].card.text, file="tokenizer.json")
    text = "一只黑猫在雪地里的照片。"
    assert open_tokenizer(bundle.tokenizer, bundle.card.text).encode([text])[0].tolist() == GOLDEN_IDS[text]


def test_the_card_tells_the_facts(folder: Path) -> None:
    card = convert(folder, "base")[0].card
    assert (card.family, card.dim, card.score.kind) == ("chinese-clip", 12, "softmax")
    assert (card.image.resize, card.image.interpolation, card.image.drop_alpha) == ("squash", "bicubic", "before")
    words, text = card.text, card.text_tower
    assert (words.tokenizer, words.file, words.cleaning, words.context) == ("wordpiece", "vocab.txt", "lower", 52)
    assert (words.pad_id, words.start_id, words.end_id, words.padding) == (0, 101, 102, "none")
    assert (text.norm_place, text.norm_eps, text.mask, text.pooling) == ("post", 1e-12, "padding", "cls")
    assert (text.activation, card.image_tower.activation) == ("gelu", "quick_gelu")


@pytest.mark.parametrize("name", MODELS)
def test_images_are_squashed(folder: Path, tmp_path: Path, name: str) -> None:
    card, size = convert(folder, name)[0].card, MODELS[name].size
    wide = np.random.RandomState(3).randint(0, 256, (60, 100, 3)).astype(np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    squashed = np.asarray(Image.fromarray(wide).resize((size, size), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(load_batch([tmp_path / "wide.png"], card.image)[0], squashed)
    cropped = load_batch([tmp_path / "wide.png"], dataclasses.replace(card.image, resize="shortest"))[0]
    assert (cropped != squashed).any()


def test_native_refuses_the_text_tower_by_name_and_auto_takes_the_next_runtime(folder: Path) -> None:
    bundle = convert(folder, "base")[0]
    assert choose_for(bundle).name != "native"
    if list_installed(["native"]) and import_runtime("native").describe_devices():
        options = RuntimeOptions(runtime="native", precision="f32")
        with pytest.raises(RuntimeUnavailableError, match=r"masks padding \(BERT\), which native does not compute"):
            open_encoder(bundle, "text", options)
        found = open_encoder(bundle, "image", options)(draw_images(MODELS["base"]))
        assert difference(found, GOLDEN["base"]["image"]) <= LIMIT


def test_pytorch_files_load_without_pytorch(folder: Path, tmp_path: Path) -> None:
    source, tensors = write_checkpoint(tmp_path / "torch", MODELS["base"]), draw_tensors(MODELS["base"])
    (source / "model.safetensors").unlink()
    tensors["text_model.pooler.dense.weight"] = np.ones((16, 16), np.float32)  # BERT's, which nothing uses
    write_archive(source / "pytorch_model.bin", tensors)
    text = read_checkpoint(source).text
    np.testing.assert_array_equal(embed(text), embed(read_checkpoint(convert(folder, "base")[1]).text))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("text_config", "hidden_act"), "relu", "hidden_act is 'relu'; allowed"),
        (("text_config", "position_embedding_type"), "relative_key", "is 'relative_key'; allowed: 'absolute'"),
        (("text_config", "is_decoder"), True, "is_decoder is True; allowed: False"),
        (("text_config", "pad_token_id"), 1, "pad_token_id is 1; allowed: 0"),
        (("text_config", "max_position_embeddings"), 32, "max_position_embeddings is 32; allowed: 52 or more"),
        (("text_config", "max_position_embeddings"), 60, r"has shape \[64, 16\]; the configuration asks for 60 rows"),
        (("text_config", "type_vocab_size"), 1, r"has shape \[2, 16\]; the configuration asks for 1 rows"),
        (("text_config", "vocab_size"), 21128, f"has {len(PIECES)} tokens; the configuration says vocab_size 21128"),
        (("text_config", "num_hidden_layers"), 4, "the configuration says 4 layers"),
        (("vision_config", "num_channels"), 1, "num_channels is 1; allowed: 3"),
        (("vision_config", "image_size"), 64, "the image tower takes 64"),
        (("projection_dim",), 8, "visual_projection.weight has shape"),
    ],
)
def test_a_configuration_that_says_otherwise_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    folder, config = write_checkpoint(tmp_path, MODELS["base"]), describe(MODELS["base"])
    place = config
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    write_json(folder / "config.json", config)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"do_center_crop": True, "size": {"shortest_edge": 32}, "crop_size": 32},
            "Chinese-CLIP squashes images, both sides to 32 pixels; it asks for the shorter side and a crop",
        ),
        ({"image_processor_type": "CLIPImageProcessor"}, "is for 'CLIPImageProcessor'; allowed: ChineseCLIPFeature"),
        ({"resample": 0}, "the interpolation is 0; allowed"),
        ({"size": {"height": 64, "width": 64}}, "the image tower takes 32"),
        ({"do_normalize": False}, "do_normalize is False"),
    ],
)
def test_preprocessing_that_says_otherwise_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_checkpoint(tmp_path, MODELS["base"])
    write_json(folder / "preprocessor_config.json", describe_preprocessing(MODELS["base"]) | changes)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


def test_preprocessing_without_a_size_means_a_crop_to_transformers_and_is_refused(tmp_path: Path) -> None:
    folder, said = write_checkpoint(tmp_path, MODELS["base"]), describe_preprocessing(MODELS["base"])
    write_json(
        folder / "preprocessor_config.json", {key: said[key] for key in said if key not in ("size", "do_center_crop")}
    )
    with pytest.raises(ConversionError, match="crops to 224 pixels; the image tower takes 32"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", {"do_lower_case": False}, "do_lower_case is False; allowed: True"),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"}, "'CLIPTokenizer'; allowed: 'BertTokenizer'"),
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}, "tokenize_chinese_chars is False; allowed: True"),
        ("tokenizer.json", describe_tokenizer(lowercase=False), "normalizer: lowercase is False; allowed: True"),
        ("tokenizer.json", describe_tokenizer() | {"normalizer": None}, "normalizer is None; allowed: a BertNormal"),
        ("tokenizer.json", describe_tokenizer() | {"model": {"type": "BPE"}}, "no vocabulary of WordPiece: its model"),
    ],
)
def test_a_tokenizer_that_says_otherwise_is_refused(
    tmp_path: Path, name: str, content: dict[str, Any], message: str
) -> None:
    folder = write_checkpoint(tmp_path, MODELS["base"])
    if name == "tokenizer.json":
        (folder / "vocab.txt").unlink()
    write_json(folder / name, content)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


def test_a_folder_without_a_vocabulary_or_with_another_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, MODELS["base"])
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").replace("[SEP]", "[END]")
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ConversionError, match=r"no vocabulary of BERT's: it lacks \[SEP\]"):
        read_checkpoint(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(ConversionError, match=r"has neither vocab\.txt nor tokenizer\.json"):
        read_checkpoint(folder)


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    tensors = draw_tensors(MODELS["base"]) | {"text_model.encoder.relative.weight": np.ones(2, np.float32)}
    folder = write_checkpoint(tmp_path, MODELS["base"], tensors)
    with pytest.raises(ConversionError, match=r"the unknown tensor text_model\.encoder\.relative\.weight"):
        read_checkpoint(folder)


def test_a_card_with_a_cleaning_that_the_rules_lack_is_refused(folder: Path) -> None:
    bundle = convert(folder, "base")[0]
    with pytest.raises(BundleError, match="cleaning is open_clip; allowed beside the tokenizer wordpiece: none or lo"):
        open_tokenizer(bundle.tokenizer, dataclasses.replace(bundle.card.text, cleaning="open_clip"))


def test_int8_towers_are_near_the_floats(folder: Path, tmp_path: Path) -> None:
    source = convert(folder, "base")[1]
    images = np.random.default_rng(5).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    texts = [f"{word}的照片{end}" for word in "猫狗雪地红苹果" for end in ("", "。", "在雪地里")]
    bundle = quantize_towers(convert_checkpoint(source, tmp_path / "bundle"), images, texts=texts)
    batches: dict[Role, Batch] = {"image": images, "text": draw_ids(MODELS["base"])}
    for role in ROLES:
        exact, rounded = (
            unit(
                open_encoder(bundle, role, RuntimeOptions(runtime="onnxruntime", device="cpu", precision=precision))(
                    batches[role]
                )
            )
            for precision in ("f32", "int8")
        )
        assert np.median((exact * rounded).sum(axis=1)) > 0.999


def test_the_family_reads_the_vocabulary_beside_the_configuration(folder: Path) -> None:
    assert chinese_clip.find_vocabulary(convert(folder, "base")[1]).name == "vocab.txt"
