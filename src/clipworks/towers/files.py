"""Towers, read: tensors in, of a bundle's files or of a checkpoint, and the records of a tower out."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from clipworks.bundle.card import TextSpec, TowerSpec
from clipworks.errors import RuntimeUnavailableError
from clipworks.towers.folding import FOLDED_MEAN, FOLDED_STD
from clipworks.towers.stored import Role, StoredTower
from clipworks.towers.tensor_file import TensorFile
from clipworks.towers.weights import Array, ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights

# What of an architecture the equations here, and the runtimes, compute.
_COVERED: dict[str, tuple[object, ...]] = {
    "activation": ("quick_gelu", "gelu"),
    "norm_place": ("pre",),
    "position": ("learned",),
    "projection_bias": (False,),
}
_VIT = {"kind": ("vit",), "patch_bias": (False,), "input_norm": (True,), "cls_token": (True,)}
_COVERED_OF: dict[Role, dict[str, tuple[object, ...]]] = {
    "image": {**_VIT, "mask": ("none",), "pooling": ("cls",)},
    "text": {"kind": ("transformer",), "input_norm": (False,), "mask": ("causal",), "pooling": ("argmax", "eos")},
}


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
    _check_spec(spec, tower.role)
    if tower.role == "image":
        return read_image_weights(file, spec, size=card.image.size, dim=card.dim)
    return read_text_weights(file, spec, card.text, dim=card.dim)


def _check_spec(spec: TowerSpec, role: Role) -> None:
    """Raise RuntimeUnavailableError for an architecture that no code here computes."""
    said = dataclasses.asdict(spec)
    for name, allowed in {**_COVERED, **_COVERED_OF[role]}.items():
        if said[name] not in allowed:
            raise RuntimeUnavailableError(
                f"the card's {role}_tower: {name} is {said[name]}; allowed: {', '.join(map(str, allowed))}"
            )


def read_image_weights(
    source: TensorSource,
    spec: TowerSpec,
    *,
    size: int,
    dim: int,
    mean: tuple[float, ...] = FOLDED_MEAN,
    std: tuple[float, ...] = FOLDED_STD,
    scale: float = 1.0,
) -> ImageWeights:
    """Read an image tower, by default a folded one; the arguments are as `ImageWeights` has them.

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
        cls_token=source.take("cls_token", width),
        pos_embed=source.take("pos_embed", 1 + (size // side) ** 2, width),
        norm_pre=_norm(source, "norm_pre", width),
        layers=_layers(source, spec),
        norm=_norm(source, "norm", width),
        head=_linear(source, "head", width, dim),
    )


def read_text_weights(
    source: TensorSource, spec: TowerSpec, text: TextSpec, *, dim: int, scale: float = 1.0
) -> TextWeights:
    """Read a text tower, as `read_image_weights`; ``text`` says how many tokens and places there are."""
    return TextWeights(
        spec=spec,
        end_id=text.end_id if spec.pooling == "eos" else None,
        scale=scale,
        token_embed=source.take("token_embed", text.vocabulary, spec.width),
        pos_embed=source.take("pos_embed", text.context, spec.width),
        layers=_layers(source, spec),
        norm=_norm(source, "norm", spec.width),
        head=_linear(source, "head", spec.width, dim),
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
