"""Towers, read: tensors in, of a bundle's files or of a checkpoint, and the records of a tower out."""

from __future__ import annotations

from typing import Protocol

from clipworks.bundle.card import TextSpec, TowerSpec
from clipworks.errors import RuntimeUnavailableError
from clipworks.towers.architecture import find_uncovered
from clipworks.towers.folding import FOLDED_MEAN, FOLDED_STD
from clipworks.towers.stored import StoredTower
from clipworks.towers.tensor_file import TensorFile
from clipworks.towers.weights import Array, AttentionPool, ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights


class TensorSource(Protocol):
    """Tensors by the names that towers are stored with: a bundle's file, or a checkpoint's under other names."""

    def take(self, name: str, *shape: int) -> Array:
        """One tensor, which must be there and have this shape; -1 fits any size."""

    def find(self, name: str, *shape: int) -> Array | None:
        """One tensor, as `take`, or None where the tower has no such part."""


def open_tower_file(tower: StoredTower) -> TensorFile:
    """Open the file of a converted tower; errors as `read_tower`."""
    if tower.kind != "safetensors" or tower.card is None:
        raise RuntimeUnavailableError(
            f"{tower.path.name} is no tower that clipworks converted: the card says that it is ready-made ONNX",
            hint="--runtime openvino and onnxruntime run any bundle",
        )
    return TensorFile(tower.path)


def read_tower(tower: StoredTower, file: TensorFile | None = None) -> TowerWeights:
    """Read a converted tower, from its file where that is open already.

    Raises:
        RuntimeUnavailableError: it is ready-made ONNX, or of an architecture that nothing here computes.
        EncodingError: the file cannot be read, or contradicts the card.
    """
    file, card = file or open_tower_file(tower), tower.card
    assert card is not None  # or it could not be opened
    spec = card.image_tower if tower.role == "image" else card.text_tower
    if (fault := find_uncovered(spec, tower.role)) is not None:
        raise RuntimeUnavailableError(f"the card's {tower.role}_tower: {fault}")
    if tower.role == "image":
        return read_image_weights(file, spec, size=card.image.size, dim=card.dim)
    return read_text_weights(file, spec, card.text, dim=card.dim)


def read_image_weights(
    source: TensorSource,
    spec: TowerSpec,
    *,
    size: int,
    dim: int,
    mean: tuple[float, ...] = FOLDED_MEAN,
    std: tuple[float, ...] = FOLDED_STD,
    scale: float = 1.0,
    pool_scale: float = 1.0,
) -> ImageWeights:
    """Read an image tower, by default a folded one; the arguments are as `ImageWeights` and its parts have them.

    Raises:
        ClipworksError: a tensor is missing or has another shape; which error, the source says.
    """
    side, width = spec.patch_size or size, spec.width
    return ImageWeights(
        spec=spec,
        size=size,
        mean=mean,
        std=std,
        scale=scale,
        patch_embed=_linear(source, "patch_embed", side * side * 3, width),
        cls_token=source.take("cls_token", width) if spec.cls_token else None,
        pos_embed=source.take("pos_embed", spec.cls_token + (size // side) ** 2, width),
        norm_pre=_norm(source, "norm_pre", width) if spec.input_norm else None,
        layers=_layers(source, spec),
        norm=_norm(source, "norm", width),
        attn_pool=_attention_pool(source, spec, pool_scale) if spec.pooling == "attention" else None,
        head=_head(source, spec, dim),
    )


def read_text_weights(
    source: TensorSource, spec: TowerSpec, text: TextSpec, *, dim: int, scale: float = 1.0
) -> TextWeights:
    """Read a text tower, as `read_image_weights`; ``text`` says how many tokens and places there are."""
    return TextWeights(
        spec=spec,
        end_id=text.end_id if spec.pooling == "eos" else None,
        pad_id=text.pad_id if spec.mask == "padding" else None,
        scale=scale,
        token_embed=source.take("token_embed", text.vocabulary, spec.width),
        pos_embed=source.take("pos_embed", text.context, spec.width),
        type_embed=source.find("type_embed", spec.width),
        norm_pre=_norm(source, "norm_pre", spec.width) if spec.input_norm else None,
        layers=_layers(source, spec),
        norm=_norm(source, "norm", spec.width) if spec.norm_place == "pre" else None,
        head=_head(source, spec, dim),
    )


def _head(source: TensorSource, spec: TowerSpec, dim: int) -> Linear | None:
    return _linear(source, "head", spec.width, dim) if spec.projection else None


def _attention_pool(source: TensorSource, spec: TowerSpec, scale: float) -> AttentionPool:
    root, width, mlp_dim = "attn_pool.", spec.width, spec.pool_mlp_dim or spec.mlp_dim or -1
    q, k, v, proj = (_linear(source, root + name, width, width) for name in ("q", "k", "v", "proj"))
    return AttentionPool(
        heads=spec.pool_heads or spec.heads or 1,
        scale=scale,
        latent=source.take(f"{root}latent", width),
        q=q,
        k=k,
        v=v,
        proj=proj,
        norm=_norm(source, f"{root}norm", width),
        fc1=_linear(source, f"{root}fc1", width, mlp_dim),
        fc2=_linear(source, f"{root}fc2", mlp_dim, width),
    )


def _layers(source: TensorSource, spec: TowerSpec) -> tuple[Layer, ...]:
    return tuple(_layer(source, f"layers.{index}.", spec.width, spec.mlp_dim or -1) for index in range(spec.layers))


def _layer(source: TensorSource, root: str, width: int, mlp_dim: int) -> Layer:
    q, k, v, proj = (_linear(source, root + name, width, width) for name in ("q", "k", "v", "proj"))
    return Layer(
        norm1=_norm(source, root + "norm1", width),
        q=q,
        k=k,
        v=v,
        proj=proj,
        norm2=_norm(source, root + "norm2", width),
        fc1=_linear(source, root + "fc1", width, mlp_dim),
        fc2=_linear(source, root + "fc2", mlp_dim, width),
    )


def _norm(source: TensorSource, name: str, width: int) -> Norm:
    return Norm(weight=source.take(f"{name}.weight", width), bias=source.find(f"{name}.bias", width))


def _linear(source: TensorSource, name: str, width: int, out: int) -> Linear:
    return Linear(
        weight=source.take(f"{name}.weight", width, out),
        bias=source.find(f"{name}.bias", out),
        weight_scale=source.find(f"{name}.weight_scale", out),
        input_scale=source.find(f"{name}.input_scale"),
        input_zero_point=source.find(f"{name}.input_zero_point"),
    )
