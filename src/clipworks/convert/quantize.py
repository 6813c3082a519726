"""int8 towers, made from the f32 towers of a bundle and from inputs like those that they will see.

The recipe: the maps that all rows pass (not those that the pooled rows alone pass in the last layer) and the patch
embedding in int8, weights symmetric per output channel, activations static per tensor; normalisations, softmax,
attention products, residual sums, the pooled rows' maps and the projection in float. What keeps the accuracy:

- large channels of a map's input are made smaller and the weights behind them larger, which is exact: the
  normalisation before takes the factors, or for the output map the values' weights;
- the range of each activation is cut where the error of the map's output is smallest on the calibration inputs;
- weights are rounded one row after another, each making up for the errors of those before;
- the mean of the error that is left is taken out of the bias;
- the patch embedding's input, pixels less 128, is int8 already and loses nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import TowerFiles
from clipworks.bundle.files import Bundle, write_card
from clipworks.convert.rounding import EXACT, balance_channels, choose_scale, round_weights
from clipworks.errors import ConversionError
from clipworks.runtimes import Role
from clipworks.runtimes.probes import open_value_probe
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.architecture import shares_prefixes
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower
from clipworks.towers.tensor_file import write_tensors
from clipworks.towers.weights import Array, ImageWeights, TowerWeights, list_tensors

FILES = TowerFiles(kind="safetensors", image="image.int8.safetensors", text="text.int8.safetensors", weights="int8")
FEWEST_IMAGES = 16
_ROWS = 4096  # kept of each value: enough to tell the directions of 3,072 channels apart


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationRows:
    """What was seen of one value: some rows ``[rows, channels]``, and each channel's largest size over all rows."""

    rows: Array
    largest: Array


@dataclass(frozen=True, kw_only=True)
class MapGroup:
    """The maps that take one value, by name.

    ``before`` is the tensor that can be divided by factors of the value's channels; ``exact`` says that the value is
    made of whole numbers from -128 to 127.
    """

    maps: tuple[str, ...]
    before: str | None = None
    exact: bool = False


_CHINESE_TEMPLATES = ("{}", "一张{}的照片。", "{}的特写照片。", "模糊的{}的照片。", "一幅{}的绘画。")
_CHINESE_NAMES = (
    "狗; 红苹果; 航空母舰; 山地自行车; 大白鲨; 浓缩咖啡; 戴帽子的老人; 婚礼; 地图; 夜里的红绿灯; 网页截图; 波斯猫; "
    "巴黎的街道; 一碗汤面; 小提琴; 电吉他; 小象; 足球比赛; 生日贺卡; 树; 笔记本电脑; 彩色玻璃窗; 手写的便条; "
    "海上的日落; 地铁图; 桥; 手的X光片; 城市天际线; 郁金香; 挖掘机"
)
_TEMPLATES = ("{}", "a photo of a {}.", "a bad photo of the {}.", "a drawing of the large {} in the snow", "{} (2021)")
_NAMES = (
    "dog; red apple; aircraft carrier; mountain bike; great white shark; espresso; old man with a hat; wedding; map; "
    "traffic light at night; screenshot of a web page; Persian cat; street in Paris; bowl of noodle soup; violin; "
    "electric guitar; baby elephant; football match; birthday card; tree; laptop computer; stained glass window; "
    "handwritten note; sunset over the sea; subway map; bridge; X-ray of a hand; city skyline; tulip; excavator"
)


def quantize_towers(bundle: Bundle, images: npt.NDArray[np.uint8], *, texts: Sequence[str] | None = None) -> Bundle:
    """Add int8 towers to a bundle that `convert_checkpoint` made. Takes minutes.

    Args:
        bundle: it gets ``image.int8.safetensors``, ``text.int8.safetensors`` and a new card.
        images: uint8 ``[n, size, size, 3]`` to calibrate on, at least 16, better a hundred, like those that the
            model will see.
        texts: prompts to calibrate on; else 150 everyday ones, in Chinese for a tower of Chinese-CLIP's.

    Returns:
        The bundle, with ``int8`` among its towers.

    Raises:
        ConversionError: too few images, or of another size; or the towers are not ours.
    """
    card, size = bundle.card, bundle.card.image.size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise ConversionError(
            f"calibration images are {images.dtype} {list(images.shape)}; allowed: uint8 [n, {size}, {size}, 3]"
        )
    if len(images) < FEWEST_IMAGES:
        raise ConversionError(
            f"{len(images)} calibration images are too few; allowed: {FEWEST_IMAGES} or more",
            hint="a hundred images like those that the model will see are best",
        )
    if card.towers["f32"].kind != "safetensors":
        raise ConversionError(
            f"{card.name} has ready-made ONNX towers; only those that clipworks converted from a checkpoint become int8"
        )
    templates, names = (_CHINESE_TEMPLATES, _CHINESE_NAMES) if card.family == "chinese-clip" else (_TEMPLATES, _NAMES)
    everyday = [pattern.format(name) for pattern in templates for name in names.split("; ")]
    tokenizer = open_tokenizer(bundle.tokenizer, card.text)
    # SigLIP's shortest context is 16: of the prompts here the longest are cut.
    rows = tokenizer.encode_ragged(everyday if texts is None else texts, truncate=texts is None)
    # Small batches, so that the sampled values of a large tower fit into memory; texts of one length, without padding
    # but where the tower sees it.
    _quantize_tower(bundle, "image", FILES.image, [images[start : start + 4] for start in range(0, len(images), 4)])
    if card.text.padding == "fixed":
        rows = list(tokenizer.pad(rows))
    groups = [[ids for ids in rows if len(ids) == length] for length in sorted(set(map(len, rows)))]
    batches = [np.stack(group[start : start + 32]) for group in groups for start in range(0, len(group), 32)]
    _quantize_tower(bundle, "text", FILES.text, batches)
    return write_card(bundle.folder, dataclasses.replace(card, towers={**card.towers, "int8": FILES}))


def list_groups(weights: TowerWeights) -> list[MapGroup]:
    """The maps of all rows, in the order of computing; a last layer that computes pooled rows alone has few."""
    image = isinstance(weights, ImageWeights)
    groups = [MapGroup(maps=("patch_embed",), exact=True)] if image else []
    pooled = None if weights.spec.pooling == "attention" else len(weights.layers) - 1
    post = weights.spec.norm_place == "post"  # what goes into the maps goes into the residual sum too
    for index in range(len(weights.layers)):
        root = f"layers.{index}."
        before = None if post else f"{root}norm1.weight"
        attention = MapGroup(maps=(f"{root}q", f"{root}k", f"{root}v"), before=before)
        if index == pooled:
            return [*groups, attention] if shares_prefixes(weights.spec) else groups
        groups += [
            attention,
            MapGroup(maps=(f"{root}proj",), before=f"{root}v.weight"),
            MapGroup(maps=(f"{root}fc1",), before=None if post else f"{root}norm2.weight"),
            MapGroup(maps=(f"{root}fc2",)),
        ]
    return groups


def collect_samples(
    bundle: Bundle, role: Role, names: Sequence[str], batches: Sequence[npt.NDArray[Any]], *, seed: int = 0
) -> dict[str, CalibrationRows]:
    """Run an f32 tower on each batch and sample what comes into its maps; ``seed`` is of the choice of rows."""
    watch = open_value_probe(bundle, role, names)
    generator = np.random.default_rng(seed)
    share = -(-_ROWS // len(batches))
    rows: Mapping[str, list[Array]] = {name: [] for name in names}
    largest: dict[str, Array] = {}
    for batch in batches:
        for name, value in watch(batch).items():
            flat: Array = value.reshape(-1, value.shape[-1])
            size = np.abs(flat).max(axis=0)
            largest[name] = np.maximum(largest.get(name, size), size)
            chosen = generator.choice(len(flat), min(share, len(flat)), replace=False)
            rows[name].append(flat[np.sort(chosen)])
    return {name: CalibrationRows(rows=np.concatenate(rows[name]), largest=largest[name]) for name in names}


def _quantize_tower(bundle: Bundle, role: Role, name: str, batches: Sequence[npt.NDArray[Any]]) -> None:
    """Write the int8 version of one tower."""
    weights = read_tower(find_tower(bundle, role))
    groups, tensors = list_groups(weights), dict(list_tensors(weights))
    samples = collect_samples(bundle, role, [group.maps[0] for group in groups], batches)
    factors = {group.maps[0]: _balance(tensors, group, samples[group.maps[0]]) for group in groups}
    for group in groups:
        first = group.maps[0]
        _round_group(tensors, group, samples.pop(first), factors[first])
    temporary = bundle.folder / f".{name}"
    write_tensors(temporary, tensors.items())
    temporary.replace(bundle.folder / name)


def _balance(tensors: dict[str, Array], group: MapGroup, sample: CalibrationRows) -> Array:
    """Move the excess of a value's channels into the weights behind it, where something before it can take them."""
    weights = np.concatenate([tensors[f"{name}.weight"] for name in group.maps], axis=1)
    if group.before is None:
        return np.ones(len(weights), np.float32)
    factors = balance_channels(sample.largest, weights)
    tensors[group.before] = tensors[group.before] / factors  # a norm's weight, or the columns of a map's
    for name in group.maps:
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"] * factors[:, None]
    return factors


def _round_group(tensors: dict[str, Array], group: MapGroup, sample: CalibrationRows, factors: Array) -> None:
    """Bring one value and the weights of every map that takes it to int8."""
    parts = [tensors[f"{name}.weight"] for name in group.maps]
    weights = np.concatenate(parts, axis=1)
    rows = sample.rows / factors
    scale = EXACT if group.exact else choose_scale(rows, float((sample.largest / factors).max()), weights)
    rounded_rows = scale.round(rows)
    rounded = round_weights(rounded_rows, weights)
    lost = rows.mean(axis=0) @ weights - rounded_rows.mean(axis=0) @ rounded.values
    ends = np.cumsum([part.shape[1] for part in parts])
    for name, end, columns in zip(group.maps, ends, parts, strict=True):
        part = slice(end - columns.shape[1], end)
        tensors[f"{name}.weight"] = rounded.weight[:, part]
        tensors[f"{name}.weight_scale"] = rounded.scales[part]
        tensors[f"{name}.input_scale"] = np.array(scale.scale, np.float32)
        tensors[f"{name}.input_zero_point"] = np.array(scale.zero_point, scale.kind)
        if f"{name}.bias" in tensors:
            tensors[f"{name}.bias"] = (tensors[f"{name}.bias"] + lost[part]).astype(np.float32)
        elif name == "patch_embed":  # its bias is in the positions of the patches
            first = 1 if "cls_token" in tensors else 0
            tensors["pos_embed"] = np.concatenate([tensors["pos_embed"][:first], tensors["pos_embed"][first:] + lost])
