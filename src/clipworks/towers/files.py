"""Converted towers, read: a bundle's files and its card in, the records of a tower out."""

from __future__ import annotations

import dataclasses

from clipworks.bundle.card import Card, TowerSpec
from clipworks.errors import RuntimeUnavailableError
from clipworks.towers.folding import FOLDED_MEAN, FOLDED_STD
from clipworks.towers.stored import Role, StoredTower
from clipworks.towers.tensor_file import TensorFile
from clipworks.towers.weights import ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights

# What of an architecture the equations here, and the runtimes, compute.
_COVERED: dict[str, tuple[object, ...]] = {
    "activation": ("quick_gelu", "gelu"),
    "norm_place": ("pre",),
    "position": ("learned",),
    "projection_bias": (False,),
}
_COVERED_OF: dict[Role, dict[str, tuple[object, ...]]] = {
    "image": {
        "kind": ("vit",),
        "patch_bias": (False,),
        "input_norm": (True,),
        "cls_token": (True,),
        "mask": ("none",),
        "pooling": ("cls",),
    },
    "text": {"kind": ("transformer",), "input_norm": (False,), "mask": ("causal",), "pooling": ("argmax", "eos")},
}


def open_tower_file(tower: StoredTower) -> TensorFile:
    """Open the file of a converted tower; errors as `read_tower`."""
    if tower.kind != "safetensors" or tower.card is None:
        raise RuntimeUnavailableError(
            f"{tower.path.name} is no tower that clipworks converted: the card says that it is ready-made ONNX",
            hint="--runtime openvino and onnxruntime run any bundle",
        )
    return TensorFile(tower.path)


def read_tower(tower: StoredTower, file: TensorFile | None = None) -> TowerWeights:
    """Read a converted tower.

    Args:
        tower: which one.
        file: its file, where it is open already.

    Raises:
        RuntimeUnavailableError: it is ready-made ONNX, or of an architecture that nothing here computes.
        EncodingError: the file cannot be read, or contradicts the card.
    """
    file, card = file or open_tower_file(tower), tower.card
    assert card is not None  # or it could not be opened
    _check_spec(card.image_tower if tower.role == "image" else card.text_tower, tower.role)
    return _read_image(file, card) if tower.role == "image" else _read_text(file, card)


def _check_spec(spec: TowerSpec, role: Role) -> None:
    """Raise RuntimeUnavailableError for an architecture that no code here computes."""
    said = dataclasses.asdict(spec)
    for name, allowed in {**_COVERED, **_COVERED_OF[role]}.items():
        if said[name] not in allowed:
            raise RuntimeUnavailableError(
                f"the card's {role}_tower: {name} is {said[name]}; allowed: {', '.join(map(str, allowed))}"
            )


def _read_image(file: TensorFile, card: Card) -> ImageWeights:
    spec, size = card.image_tower, card.image.size
    side = spec.patch_size or size
    return ImageWeights(
        spec=spec,
        size=size,
        mean=FOLDED_MEAN,
        std=FOLDED_STD,
        scale=1.0,
        patch_embed=_linear(file, "patch_embed", side * side * 3, spec.width),
        cls_token=file.take("cls_token", spec.width),
        pos_embed=file.take("pos_embed", 1 + (size // side) ** 2, spec.width),
        norm_pre=_norm(file, "norm_pre", spec.width),
        layers=_layers(file, spec.layers, spec.width, spec.mlp_dim or -1),
        norm=_norm(file, "norm", spec.width),
        head=_linear(file, "head", spec.width, card.dim),
    )


def _read_text(file: TensorFile, card: Card) -> TextWeights:
    spec, text = card.text_tower, card.text
    return TextWeights(
        spec=spec,
        end_id=text.end_id if spec.pooling == "eos" else None,
        scale=1.0,
        token_embed=file.take("token_embed", text.vocabulary, spec.width),
        pos_embed=file.take("pos_embed", text.context, spec.width),
        layers=_layers(file, spec.layers, spec.width, spec.mlp_dim or -1),
        norm=_norm(file, "norm", spec.width),
        head=_linear(file, "head", spec.width, card.dim),
    )


def _layers(file: TensorFile, count: int, width: int, mlp_dim: int) -> tuple[Layer, ...]:
    return tuple(_layer(file, f"layers.{index}.", width, mlp_dim) for index in range(count))


def _layer(file: TensorFile, root: str, width: int, mlp_dim: int) -> Layer:
    q, k, v, proj = (_linear(file, root + name, width, width) for name in ("q", "k", "v", "proj"))
    return Layer(
        norm1=_norm(file, root + "norm1", width),
        q=q,
        k=k,
        v=v,
        proj=proj,
        norm2=_norm(file, root + "norm2", width),
        fc1=_linear(file, root + "fc1", width, mlp_dim),
        fc2=_linear(file, root + "fc2", mlp_dim, width),
    )


def _norm(file: TensorFile, name: str, width: int) -> Norm:
    return Norm(weight=file.take(f"{name}.weight", width), bias=file.find(f"{name}.bias"))


def _linear(file: TensorFile, name: str, width: int, out: int) -> Linear:
    return Linear(
        weight=file.take(f"{name}.weight", width, out),
        bias=file.find(f"{name}.bias"),
        weight_scale=file.find(f"{name}.weight_scale"),
        input_scale=file.find(f"{name}.input_scale"),
        input_zero_point=file.find(f"{name}.input_zero_point"),
    )
