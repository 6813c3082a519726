"""Inputs: pools of varied real images and prompts, so that no measurement rests on one zero array."""

from __future__ import annotations

import functools
import importlib.resources
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.datasets.selection import Selection, read_selection
from clipworks.errors import ImageError, UsageError
from clipworks.images.decode import load_image, prepare_image
from clipworks.images.resize import Pixels, transform_image
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions
from clipworks.text.files import read_lines
from clipworks.text.tokenizers import Tokenizer

# Enough that caches of values cannot help, few enough to prepare in a moment.
POOL = 64


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Image files that can be decoded, at most `POOL`, and what was left out."""

    source: str  # what they are of
    paths: tuple[Path, ...]  # in random order
    left_out: int  # files looked at that are no images


def choose_files(selection: Selection, seed: int, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> ImageFiles:
    """Choose files of a selection at random, each decoded once to make sure of it.

    Raises UsageError and ImageError as `read_selection`, UsageError for tars, and ImageError where none can be decoded.
    """
    found = read_selection(selection)
    if found.members:
        raise UsageError(f"--images {found.source} is a tar; allowed: images, folders of them, patterns, lists")
    # A pipe would wait for whoever writes into it.
    files = [Path(sample.file) for sample in found if os.path.isfile(sample.file)]  # noqa: PTH113  # any name
    np.random.default_rng(seed).shuffle(files)
    good: list[Path] = []
    left_out = 0
    for path in files:
        if len(good) == POOL:
            break
        try:
            load_image(path, options=options)
            good.append(path)
        except ImageError:
            left_out += 1
    if not good:
        raise ImageError(f"--images {found.source}: none of its {len(found)} files is an image that can be decoded")
    return ImageFiles(source=found.source, paths=tuple(good), left_out=left_out)


def built_in_images() -> list[bytes]:
    """The photographs that come with clipworks, as JPEG files' bytes."""
    folder = importlib.resources.files("clipworks.profiling") / "images"
    return [item.read_bytes() for item in sorted(folder.iterdir(), key=lambda item: item.name) if item.is_file()]


def vary_images(images: Sequence[Image.Image], seed: int) -> Iterator[Image.Image]:
    """Endless different views of a few images: random crops, mirrored at random; the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        image = images[int(rng.integers(len(images)))]
        share = rng.uniform(0.5, 1.0)
        width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        view = image.crop((int(left), int(top), int(left) + width, int(top) + height))
        yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def make_image_pool(
    spec: ImageSpec, files: ImageFiles | None, seed: int, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS
) -> Pixels:
    """Images as the image tower takes them, uint8 ``[n, size, size, 3]``: `POOL` views, or one of each file."""
    if files is None:
        return _view_built_in(spec, seed)
    return np.stack([prepare_image(path, spec, options=options) for path in files.paths])


@functools.lru_cache(maxsize=1)  # a comparison opens the same towers again and again
def _view_built_in(spec: ImageSpec, seed: int) -> Pixels:
    views = vary_images([load_image(content) for content in built_in_images()], seed)
    pool = np.stack([transform_image(next(views), spec) for _ in range(POOL)])
    pool.flags.writeable = False
    return pool


def read_prompts(path: Path | None, *, encoding: str | None = None) -> list[str]:
    """Prompts, one a line: those of a file, as `read_lines`, or the two dozen that come with clipworks."""
    if path is not None:
        return read_lines(path, encoding=encoding)
    built_in = importlib.resources.files("clipworks.profiling") / "prompts.txt"
    return built_in.read_text(encoding="utf-8").splitlines()


def make_image_batches(pool: Pixels, batch_size: int, seed: int) -> list[Pixels]:
    """Batches of random images of a pool: uint8 ``[batch_size, size, size, 3]`` each."""
    rng = np.random.default_rng(seed)
    count = max(4, min(POOL, 256 // batch_size))
    return [pool[rng.integers(len(pool), size=batch_size)] for _ in range(count)]


def make_text_batches(
    tokenizer: Tokenizer, prompts: Sequence[str], batch_size: int, seed: int, *, truncate: bool
) -> list[npt.NDArray[np.int32]]:
    """Batches of random prompts: int32 ``[batch_size, length]`` each, the lengths as they come."""
    rng = np.random.default_rng(seed)
    rows = tokenizer.encode_ragged(prompts, truncate=truncate)
    return [tokenizer.pad([rows[index] for index in rng.integers(len(rows), size=batch_size)]) for _ in range(POOL)]
