"""Recipes for vectors of images: how files may have become pixels, and pixels vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from clipworks.bundle.card import ImageSpec, TowerSpec
from clipworks.doctor.causes.geometry import FILTERS, OFFSETS, Size, scale_sides
from clipworks.doctor.causes.layers import ACTIVATIONS
from clipworks.doctor.causes.recipes import Change, Recipes
from clipworks.doctor.causes.tower_runs import TowerRuns
from clipworks.doctor.images import ALPHAS, list_alphas
from clipworks.doctor.joint import Rows
from clipworks.doctor.stages import Array
from clipworks.images.decode import ImageLike, load_image
from clipworks.images.modes import to_rgb
from clipworks.images.resize import transform_image
from clipworks.options import PRECISIONS, ImageOptions

_OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_NORMALISATIONS = {
    "OpenAI's mean and std": _OPENAI,
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std 0.5": ((0.5,) * 3, (0.5,) * 3),
    "mean 0 and std 1": ((0.0,) * 3, (1.0,) * 3),
}
_ROUNDINGS: dict[str, Callable[[float], int]] = {"cut": int, "rounded": round}
_BARS = {"black": 0, "grey": 128, "white": 255}


@dataclass(frozen=True, kw_only=True)
class ImageRecipe:
    """A way from an image file to its vector; None stands for what the model's card says.

    Attributes:
        options: how the file is read.
        alpha: a key of `ALPHAS`.
        side: of the shorter side before the crop; 0 squashes.
        bars: a key of `_BARS`: the image is filled up to a square, not cut.
        filter: a key of `FILTERS`.
        offset: a key of `OFFSETS`.
        rounding: a key of `_ROUNDINGS`, of the longer side.
        swapped: whether red and blue are exchanged.
        normalisation: mean and std of pixels in 0 to 1.
        rescale: factor of the pixels before that.
        tower: the architecture that computes it.
        precision: of the tower.
    """

    options: ImageOptions
    alpha: str | None = None
    side: int | None = None
    bars: str | None = None
    filter: str | None = None
    offset: str | None = None
    rounding: str | None = None
    swapped: bool = False
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    rescale: float = 1.0
    tower: TowerSpec
    precision: str = "f32"


def open_image_recipes(runs: TowerRuns, options: ImageOptions) -> Recipes[ImageRecipe]:
    """The recipes of a model's images, read as ``options`` say."""
    spec, tower = runs.bundle.card.image, runs.spec

    def make(recipe: ImageRecipe, files: Sequence[str]) -> Rows | None:
        return runs.embed([draw_pixels(file, recipe, spec) for file in files], recipe.tower, recipe.precision)

    return Recipes(
        start=ImageRecipe(options=options, tower=tower, precision=runs.precision),
        list_changes=lambda recipe: list_image_changes(recipe, spec, tower, options),
        make=make,
    )


def draw_pixels(image: ImageLike, recipe: ImageRecipe, spec: ImageSpec) -> Array:
    """The pixels of a recipe, ``[size, size, 3]``: uint8, or, as a tower of another mean wants them, float64."""
    whole = _load(image, recipe, spec)
    shape = (recipe.side, recipe.bars, recipe.filter, recipe.offset, recipe.rounding)
    square = transform_image(whole, spec) if shape == (None,) * 5 else _cut(whole, recipe, spec)
    if recipe.swapped:
        square = square[..., ::-1]
    if recipe.normalisation is None and recipe.rescale == 1:
        return np.ascontiguousarray(square)
    mean, std = map(np.array, recipe.normalisation or (spec.mean, spec.std))
    normalised = (square * (recipe.rescale / 255) - mean) / std
    return np.asarray((normalised * np.array(spec.std) + np.array(spec.mean)) * 255)


def list_image_changes(
    recipe: ImageRecipe, spec: ImageSpec, tower: TowerSpec, options: ImageOptions
) -> Iterator[Change[ImageRecipe]]:
    """What others do otherwise than a model's card says: by the shape, the filter, the colours, the file, the tower."""
    yield from _list_shapes(recipe, spec)
    for name in FILTERS:
        if name != spec.interpolation:
            said = f"resized {name}, not {spec.interpolation}"
            yield Change("filter", said, replace(recipe, filter=name))
    yield Change("channels", "red and blue exchanged (BGR)", replace(recipe, swapped=True))
    yield from _list_readings(recipe, options)
    for name, pair in _NORMALISATIONS.items():
        if not np.allclose(pair, (spec.mean, spec.std), atol=1e-4):
            said = f"normalised with {name}"
            yield Change("mean", said, replace(recipe, normalisation=pair))
    for said, factor in (("divided by 255 twice", 1 / 255), ("not divided by 255", 255.0)):
        yield Change("scale", said, replace(recipe, rescale=factor))
    for name, activation in ACTIVATIONS.items():
        if activation != tower.activation:
            other = replace(tower, activation=activation)
            yield Change("tower", f"encoded with {name}", replace(recipe, tower=other))
    for kind in PRECISIONS:
        yield Change("precision", f"encoded in {kind}", replace(recipe, precision=kind))


def _list_shapes(recipe: ImageRecipe, spec: ImageSpec) -> Iterator[Change[ImageRecipe]]:
    own = 0 if spec.resize == "squash" else spec.resize_to
    if own:
        said = f"squashed to {spec.size} x {spec.size}, not cut"
        yield Change("shape", said, replace(recipe, side=0))
    for side in dict.fromkeys((spec.resize_to, spec.size, round(spec.size / 0.875))):
        if side != own:
            said = f"the shorter side brought to {side} and the middle cut out{'' if own else ', not squashed'}"
            yield Change("shape", said, replace(recipe, side=side))
    for name in _BARS:
        said = f"filled up to a square with {name}, not {'cut' if own else 'squashed'}"
        yield Change("shape", said, replace(recipe, bars=name))
    for name in list(OFFSETS)[1:]:
        said = f"cut out with {name}" if name.startswith("offsets") else f"cut out {name}"
        yield Change("offset", said, replace(recipe, offset=name))
    said = "the longer side rounded, not cut to a whole number"
    yield Change("rounding", said, replace(recipe, rounding="rounded"))


def _list_readings(recipe: ImageRecipe, options: ImageOptions) -> Iterator[Change[ImageRecipe]]:
    person, published = ImageOptions(), ImageOptions(as_published=True)
    said = "not turned by EXIF" if options.exif == "apply" else "turned by EXIF"
    turned = ImageOptions(exif="ignore" if options.exif == "apply" else "apply")
    yield Change("reading", said, replace(recipe, options=turned))
    said = "read as a person means them" if options.as_published else "read as published: EXIF, palettes, 16 bits"
    other = person if options.as_published else published
    yield Change("reading", said, replace(recipe, options=other))
    for name in ALPHAS:
        yield Change("alpha", f"alpha {name}", replace(recipe, alpha=name))


def _load(image: ImageLike, recipe: ImageRecipe, spec: ImageSpec) -> Image.Image:
    if recipe.alpha is not None and (ways := list_alphas(image, recipe.options)):
        return ways[recipe.alpha]
    return load_image(image, options=recipe.options, drop_alpha=spec.drop_alpha)


def _cut(image: Image.Image, recipe: ImageRecipe, spec: ImageSpec) -> Array:
    resize = FILTERS[recipe.filter or spec.interpolation]
    side = recipe.side if recipe.side is not None else 0 if spec.resize == "squash" else spec.resize_to
    if recipe.bars is not None:
        size = _fit(image.size, spec.size)
        square = Image.new("RGB", (spec.size, spec.size), (_BARS[recipe.bars],) * 3)
        square.paste(resize(to_rgb(image), size), ((spec.size - size[0]) // 2, (spec.size - size[1]) // 2))
        return np.asarray(square)
    if side == 0:
        return np.asarray(to_rgb(resize(image, (spec.size, spec.size))))
    width, height = scale_sides(image.size, side, _ROUNDINGS[recipe.rounding or "cut"])
    resized = image if image.size == (width, height) else resize(image, (width, height))
    left, top = (OFFSETS[recipe.offset or "offsets rounded"](long - spec.size) for long in (width, height))
    return np.asarray(to_rgb(resized.crop((left, top, left + spec.size, top + spec.size))))


def _fit(size: Size, to: int) -> Size:
    """Width and height with the longer side brought to a length."""
    width, height = (max(1, round(to * side / max(size))) for side in size)
    return width, height
