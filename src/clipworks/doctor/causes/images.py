"""Causes of differences before the image tower: each recipe that people know is tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.doctor.causes.cases import Case
from clipworks.doctor.causes.geometry import FILTERS, OFFSETS, scale_sides
from clipworks.doctor.images import ALPHAS, as_levels, has_size, list_alphas, recover_pixels
from clipworks.doctor.stages import Array, Trace
from clipworks.images.decode import ImageLike

_CLOSE = 2.0  # levels that a mere change of order may miss by
_NEAR, _FAR = 0.75, 16  # levels that a recipe may miss by in the mean, and at most
_CHANNELS = {"": slice(None), ", red and blue exchanged (BGR)": slice(None, None, -1)}
Bytes = npt.NDArray[np.uint8]


def explain_decoded(stage: str, case: Case) -> list[str]:
    """Whether one side's images are the other's, turned or with other channels."""
    found, expected = case.sides(stage)
    turns: dict[str, Callable[[Array], Array]] = {
        "is not turned as its EXIF orientation says": lambda a: a,
        "is mirrored": lambda a: a[:, ::-1],
        "is turned by 180 degrees": lambda a: a[::-1, ::-1],
        "is upside down": lambda a: a[::-1],
        "has rows and columns exchanged": lambda a: a.transpose(1, 0, 2),
        "is turned by 90 degrees": lambda a: np.rot90(a, 1),
        "is turned by 270 degrees": lambda a: np.rot90(a, 3),
    }
    for (turn, move), (channels, order) in itertools.product(turns.items(), _CHANNELS.items()):
        if _are_close(found, [move(array)[..., order] for array in expected]):
            if turn.startswith("is not"):
                return ["red and blue are exchanged (BGR) on one side: OpenCV reads images so"]
            return [f"an image {turn} on one side{channels}: EXIF orientation; --exif ignore does as the reference"]
    scaled = _are_close(found, [array * 255.0 for array in expected])
    return ["the reference's values lie in 0 to 1, not 0 to 255"] if scaled else []


def explain_resized(stage: str, case: Case) -> list[str]:
    """Which filter gives each side's images; their own shape says the geometry."""
    entry = as_levels(case.entry("decoded"))
    if entry is None:
        return []
    spec = case.subject.spec

    def describe(trace: Trace) -> str:
        arrays = trace[stage]
        shapes = [array.shape[:2] for array in arrays]
        recipe = _find_recipe(arrays, _list_recipes(case, entry, lambda one, at: _list_resized(one, shapes[at])))
        geometry = {_name_geometry(one.shape[:2], shape, spec) for one, shape in zip(entry, shapes, strict=True)}
        return ", ".join([recipe or "no filter that is known", *sorted(geometry - {""})])

    return case.contrast(describe)


def explain_pixels(stage: str, case: Case) -> list[str]:
    """Where each side cut its square out, or, if nobody kept what it was cut from, how it was made from the file."""
    spec = case.subject.spec
    resized = as_levels(case.entry("resized"))
    decoded = as_levels(case.entry("decoded")) if "resized" not in case.expected else None

    def describe(trace: Trace) -> str | None:
        arrays = trace[stage]
        if all(array.size and array.max() <= 1.0 for array in arrays) and arrays[0].dtype.kind == "f":
            return "values in 0 to 1, not 0 to 255"
        levels = as_levels(arrays)
        if levels is None or not has_size(levels, spec.size):
            shape = min(tuple(array.shape) for array in arrays)
            return f"no bytes of [{spec.size}, {spec.size}, 3] but shape {shape}"
        if decoded is not None:
            return _find_square(case, levels, decoded)
        crops = [list(_list_crops(one, spec, wide=True)) for one in resized or ()]
        return None if resized is None else _find_recipe(levels, crops) or "no crop of it"

    return case.contrast(describe)


def explain_normalised(stage: str, case: Case) -> list[str]:
    """Which mean and deviation each side has, by a straight line through its values over the pixels."""
    entry = case.entry("pixels")
    if entry is None:
        return []

    def describe(trace: Trace) -> str:
        arrays = trace[stage]
        if any(one.shape != other.shape for one, other in zip(arrays, entry, strict=True)):
            return f"shape {list(arrays[0].shape)}"
        return _describe_line(np.stack(entry), np.stack(arrays))

    return case.contrast(describe)


def explain_alpha(stage: str, case: Case) -> list[str]:
    """Which way each side's decoded images were freed from alpha, if that tells them apart."""
    ways = [list_alphas(image, case.inputs.options) for image in case.inputs.images]
    names = next((list(way) for way in ways if way), [])

    def describe(trace: Trace) -> str | None:
        pairs = [(array, way) for array, way in zip(trace[stage], ways, strict=True) if way]
        arrays = [array for array, _ in pairs]
        fits = (name for name in names if _are_close(arrays, [np.asarray(way[name]) for _, way in pairs]))
        return next((f"alpha is {name}" for name in fits), None)

    return case.contrast(describe)


def explain_squares(stage: str, case: Case) -> list[str]:
    """How each side made its squares, where nobody kept any stage before the normalised one."""
    spec, decoded = case.subject.spec, as_levels(case.entry("decoded"))
    if decoded is None or "pixels" in case.expected or "resized" in case.expected:
        return []

    def describe(trace: Trace) -> str | None:
        levels = as_levels(trace["pixels"]) if "pixels" in trace else recover_pixels(trace[stage], spec)
        return _find_square(case, levels, decoded) if levels is not None and has_size(levels, spec.size) else None

    return case.contrast(describe)


def _find_square(case: Case, levels: Sequence[Bytes], decoded: Sequence[Bytes]) -> str:
    recipes = _list_recipes(case, decoded, lambda one, _: _list_squares(one, case.subject.spec))
    return _find_recipe(levels, recipes) or "no recipe that is known"


def _list_recipes(
    case: Case, decoded: Sequence[Bytes], make: Callable[[Bytes, int], Iterator[tuple[str, Bytes]]]
) -> list[list[tuple[str, Bytes]]]:
    """What can be made of each image; where nobody kept the decoded one, by every way to treat alpha too."""
    recipes = []
    for place, (one, image) in enumerate(zip(decoded, case.inputs.images, strict=True)):
        tried = list(make(one, place))
        for name, other in _list_alphas(case, image, one) if "decoded" not in case.expected else ():
            tried += [(f"{recipe}{name}", made) for recipe, made in make(other, place)]
        recipes.append(tried)
    return recipes


def _list_alphas(case: Case, image: ImageLike, own: Bytes) -> Iterator[tuple[str, Bytes]]:
    """An image by every way to treat alpha, if any has some; its own pixels where it has none."""
    if any(list_alphas(other, case.inputs.options) for other in case.inputs.images):
        ways = list_alphas(image, case.inputs.options)
        for name in ALPHAS:
            yield f", alpha {name}", np.asarray(ways[name]) if ways else own


def _describe_line(pixels: npt.NDArray[Any], values: npt.NDArray[Any]) -> str:
    """``mean ..., std ...``: the straight line from pixels to values, each channel its own."""
    for channels, order in _CHANNELS.items():
        mean, std, worst = [], [], 0.0
        for channel in range(3):
            x = pixels[..., order][..., channel].reshape(-1).astype(np.float64) / 255
            y = values[..., channel].reshape(-1).astype(np.float64)
            slope, start = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (1.0, float(y.mean()))
            worst = max(worst, float(np.abs(slope * x + start - y).max()) * 255 / max(abs(slope), 1e-12))
            std.append(1 / slope if slope else float("inf"))
            mean.append(-start / slope if slope else float("nan"))
        if worst <= _CLOSE * 255 / 100:
            means, stds = ("/".join(f"{value:.4g}" for value in values) for values in (mean, std))
            text = f"with mean {means} and std {stds}{channels}"
            if min(std) > 20:
                text += ", as values of 0 to 1 that were divided by 255 once more"
            elif max(std) < 0.02:
                text += ", as values of 0 to 255 that were not divided by 255"
            return text
    return "by no mean and std at all"


def _list_resized(image: Bytes, shape: tuple[int, ...]) -> Iterator[tuple[str, Bytes]]:
    """An image in a size by every filter."""
    whole, (height, width) = Image.fromarray(image), shape
    for name, resize in FILTERS.items():
        yield name, np.asarray(resize(whole, (width, height)))


def _list_squares(image: Bytes, spec: ImageSpec) -> Iterator[tuple[str, Bytes]]:
    for to in dict.fromkeys((spec.resize_to, spec.size, round(spec.size / 0.875))):
        size = "" if to == spec.resize_to else f", shorter side to {to}"
        for rule, step in (("", int), (", the longer side rounded", round)):
            for name, resized in _list_resized(image, scale_sides(image.shape[:2], to, step)):
                for crop, square in _list_crops(resized, spec):
                    yield f"{name}{size}{rule}, {crop}", square
    for name, square in _list_resized(image, (spec.size, spec.size)):
        yield f"{name}, both sides to {spec.size} without a crop", square[..., :3]


def _list_crops(resized: Bytes, spec: ImageSpec, *, wide: bool = False) -> Iterator[tuple[str, Bytes]]:
    """Every known way to cut the square out of the middle; ``wide`` adds all places near it."""
    spare = [side - spec.size for side in resized.shape[:2]]
    if min(spare) < 0:
        return
    rules = [(name, tuple(map(offset, spare))) for name, offset in OFFSETS.items()]
    if wide:
        near = itertools.product(*(range(max(m // 2 - 2, 0), min(m // 2 + 3, m) + 1) for m in spare))
        rules += [(f"from row {row}, column {column}", (row, column)) for row, column in near]
    for rule, (top, left) in rules:
        yield rule, resized[top : top + spec.size, left : left + spec.size, :3]


def _find_recipe(arrays: Sequence[Array], recipes: Sequence[Sequence[tuple[str, Bytes]]]) -> str | None:
    """The recipe that gives every sample, the closest one; the first of equals, as some give the same."""
    best, least = None, float("inf")
    for tried in zip(*recipes, strict=True):
        pairs = [(array, made) for array, (_, made) in zip(arrays, tried, strict=True)]
        if any(array.shape != made.shape for array, made in pairs):
            continue
        for channels, order in _CHANNELS.items():
            apart = [np.abs(array.astype(np.float32) - made[..., order]) for array, made in pairs]
            mean = max(float(one.mean()) for one in apart)
            if mean < least and mean <= _NEAR and max(float(one.max()) for one in apart) <= _FAR:
                best, least = f"{tried[0][0]}{channels}", mean
    return best


def _name_geometry(before: tuple[int, ...], after: tuple[int, ...], spec: ImageSpec) -> str:
    if spec.resize == "squash":
        return "" if after == (spec.size, spec.size) else f"not squashed but to {after[1]} x {after[0]}"
    cut, rounded = (scale_sides(before, spec.resize_to, step) for step in (int, round))
    if after == cut:
        return ""
    if after[0] == after[1] and before[0] != before[1]:
        return f"squashed to {after[1]} x {after[0]}"
    return "the longer side rounded" if after == rounded else f"to {after[1]} x {after[0]}, not {cut[1]} x {cut[0]}"


def _are_close(arrays: Sequence[Array], others: Sequence[Array]) -> bool:
    pairs = list(zip(arrays, others, strict=True))
    alike = all(one.shape == other.shape for one, other in pairs)
    return alike and all(np.abs(one.astype(np.float32) - other).max(initial=0) <= _CLOSE for one, other in pairs)
