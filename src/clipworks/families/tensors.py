"""A checkpoint's tensors: every one of them accounted for, and given under the names that towers are stored with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes  # gives numpy the type bfloat16, which safetensors then uses
import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import ImageSpec, TextSpec, TowerSpec
from clipworks.errors import ConversionError
from clipworks.towers.files import read_image_weights, read_text_weights
from clipworks.towers.weights import Array, ImageWeights, TextWeights

_FLOATS = frozenset(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))


class TensorTable:
    """The tensors of a checkpoint, each of which must be taken exactly once, with the shape that is expected.

    ``origin`` is the file's name, for messages.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], *, origin: str) -> None:
        self.origin = origin
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that has not been taken yet."""
        return tuple(self._find(name).shape)

    def names(self) -> list[str]:
        """The names not taken yet, in order."""
        return sorted(self._left)

    def take(self, name: str, *shape: int) -> Array:
        """Take one tensor as float32; axes of one before those that are expected are left out.

        Raises:
            ConversionError: the tensor is missing, has another shape, is no float, or holds NaN or infinity.
        """
        found = self._find(name)
        if found.shape != (1,) * (found.ndim - len(shape)) + shape:
            raise ConversionError(
                f"{self.origin}: the tensor {name} has shape {list(found.shape)}; "
                f"the configuration and the other tensors ask for {list(shape)}"
            )
        if found.dtype not in _FLOATS:
            raise ConversionError(
                f"{self.origin}: the tensor {name} is {found.dtype}; allowed: float32, float16, bfloat16"
            )
        values = np.ascontiguousarray(found, dtype=np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise ConversionError(f"{self.origin}: the tensor {name} holds a number that is not finite")
        del self._left[name]
        return values

    def take_scalar(self, name: str) -> float:
        """Take a tensor of one element, whatever its rank."""
        shape = self.shape(name)
        if np.prod(shape, dtype=int) != 1:
            raise ConversionError(f"{self.origin}: the tensor {name} has shape {list(shape)}; allowed: one element")
        return float(self.take(name, *shape).reshape(-1)[0])

    def cut(self, name: str, rows: int, *, keep: int) -> None:
        """Leave the first rows of a table that must have so many; ConversionError where it has another number."""
        found = self._find(name)
        if found.ndim == 0 or len(found) != rows:
            said = f"the tensor {name} has shape {list(found.shape)}"
            raise ConversionError(f"{self.origin}: {said}; the configuration asks for {rows} rows")
        self._left[name] = found[:keep]

    def drop(self, names: Iterable[str]) -> None:
        """Leave out tensors that are known and say nothing, where they are there."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Raise ConversionError where a tensor is left over: the model has a part that this family does not know."""
        if self._left:
            names = self.names()
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConversionError(
                f"{self.origin} has the unknown tensor {', '.join(names[:3])}{more}",
                hint="this model has a part that is not known in its family, or more layers than it says",
            )

    def _find(self, name: str) -> npt.NDArray[Any]:
        if name not in self._left:
            raise ConversionError(f"{self.origin} lacks the tensor {name}")
        return self._left[name]


class NamedTensors:
    """The tensors of one tower under the names and in the shapes that `clipworks.towers` stores them with.

    Args:
        table: the checkpoint's.
        names: what the layout calls them. ``layers`` stands before a layer's number; ``norm1``, ``proj`` and the like
            are maps and norms as PyTorch stores them, up to ``.weight`` and ``.bias``, and ``qkv`` or ``kv`` is
            queries, keys and values in one, up to ``weight`` and ``bias``; ``head.weight``, ``pos_embed`` and the like
            are whole names. A part that stands here must be there.
    """

    def __init__(self, table: TensorTable, names: Mapping[str, str]) -> None:
        self._table, self._names = table, names
        self._fused: dict[str, list[Array]] = {}

    def take(self, name: str, *shape: int) -> Array:
        """One tensor, taken from the table; errors as there."""
        theirs = self._names.get(name)
        if name == "patch_embed.weight" and theirs:
            side, width = math.isqrt(shape[0] // 3), shape[1]
            kernel = self._table.take(theirs, width, 3, side, side)
            return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)).reshape(-1, width)
        if theirs:
            is_map = name == "head.weight" and theirs.endswith(".weight")
            return self._table.take(theirs, *shape[::-1]).T if is_map else self._table.take(theirs, *shape)
        root, part, kind = self._split(name)
        if (fused := self._find_fused(part)) is not None:
            place = fused.rpartition(".")[2].index(part[-1])
            return self._take_fused(f"{root}{self._names[fused]}{kind}", fused, place, shape[::-1])
        return self._table.take(f"{root}{self._names[part]}.{kind}", *shape[::-1]).T

    def find(self, name: str, *shape: int) -> Array | None:
        """One tensor, as `take`; None where the tower has no such part."""
        _, part, kind = self._split(name)
        there = part in self._names or self._find_fused(part) is not None
        return self.take(name, *shape) if name in self._names or (kind == "bias" and there) else None

    def count_layers(self) -> int:
        """How many layers there are: one more than the largest number."""
        prefix = f"{self._names['layers']}."
        numbers = {name[len(prefix) :].split(".")[0] for name in self._table.names() if name.startswith(prefix)}
        return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)

    def _split(self, name: str) -> tuple[str, str, str]:
        """``layers.0.q.weight`` as what the layout puts before its ``q``, ``q`` and ``weight``."""
        stem, _, kind = name.rpartition(".")
        if not stem.startswith("layers."):
            return "", stem, kind
        _, number, part = stem.split(".")
        return f"{self._names['layers']}.{number}.", part, kind

    def _find_fused(self, part: str) -> str | None:
        """The name of the map that ``q``, ``attn_pool.k`` and the like are a part of, where the layout has one."""
        if part in self._names or not part or part[-1] not in "qkv":
            return None
        fused = [f"{part[:-1]}{letters}" for letters in ("qkv", "kv") if part[-1] in letters]
        return next((name for name in fused if name in self._names), None)

    def _take_fused(self, theirs: str, fused: str, place: int, shape: tuple[int, ...]) -> Array:
        if theirs not in self._fused:
            count = len(fused.rpartition(".")[2])
            self._fused[theirs] = np.split(self._table.take(theirs, count * shape[0], *shape[1:]), count)
        return self._fused[theirs][place].T


def take_image_tower(
    table: TensorTable, names: Mapping[str, str], spec: TowerSpec, pixels: ImageSpec, dim: int
) -> ImageWeights:
    """Take an image tower out of a checkpoint.

    Args:
        table: the checkpoint's tensors.
        names: what they are called, as `NamedTensors` takes it.
        spec: the architecture that the configuration says.
        pixels: how images become the tower's input.
        dim: width of the embedding.

    Raises:
        ConversionError: a tensor is missing or has another shape than the configuration says.
    """
    tensors = _open_tower(table, names, spec)
    return read_image_weights(
        tensors,
        spec,
        size=pixels.size,
        dim=dim,
        mean=pixels.mean,
        std=pixels.std,
        scale=_scale_scores(spec, spec.heads),
        pool_scale=_scale_scores(spec, spec.pool_heads or spec.heads),
    )


def take_text_tower(
    table: TensorTable, names: Mapping[str, str], spec: TowerSpec, text: TextSpec, dim: int
) -> TextWeights:
    """Take a text tower out of a checkpoint, as `take_image_tower`; ``text`` is how texts become its input."""
    tensors = _open_tower(table, names, spec)
    return read_text_weights(tensors, spec, text, dim=dim, scale=_scale_scores(spec, spec.heads))


def _scale_scores(spec: TowerSpec, heads: int | None) -> float:
    """The factor of an attention's scores: one over the root of a head's width."""
    return float((spec.width // (heads or 1)) ** -0.5)


def _open_tower(table: TensorTable, names: Mapping[str, str], spec: TowerSpec) -> NamedTensors:
    tensors = NamedTensors(table, names)
    if (found := tensors.count_layers()) != spec.layers:
        said = f"the tensors {names['layers']}.* of {table.origin} hold {found}"
        raise ConversionError(f"the configuration says {spec.layers} layers; {said}")
    return tensors
