"""Inputs: pools of varied real pictures and prompts, so that no measurement rests on one zero array."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.cards import ImageInput
from clipworks.errors import ImageError, UsageError
from clipworks.images import Pixels, load_image, transform_image
from clipworks.prompts import read_lines
from clipworks.tokens import Tokenizer

# Enough that caches of values cannot help, few enough to prepare in a moment.
POOL = 64
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic"})


def list_files(folder: Path) -> list[Path]:
    """Every picture file below a folder, by name.

    Raises:
        UsageError: no such folder, or no picture file in it.
    """
    if not folder.is_dir():
        raise UsageError(f"--images {folder} is not a folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise UsageError(f"--images {folder} holds no picture ({', '.join(sorted(_SUFFIXES))})")
    return files


def built_in_pictures() -> list[bytes]:
    """The photographs that come with clipworks, as JPEG files' bytes."""
    folder = importlib.resources.files("clipworks.profiling") / "pictures"
    return [item.read_bytes() for item in sorted(folder.iterdir(), key=lambda item: item.name) if item.is_file()]


def vary_pictures(pictures: Sequence[Image.Image], seed: int) -> Iterator[Image.Image]:
    """Endless different views of a few pictures: random crops, mirrored at random; the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        picture = pictures[int(rng.integers(len(pictures)))]
        share = rng.uniform(0.5, 1.0)
        width, height = max(1, round(picture.width * share)), max(1, round(picture.height * share))
        left, top = rng.integers(picture.width - width + 1), rng.integers(picture.height - height + 1)
        view = picture.crop((int(left), int(top), int(left) + width, int(top) + height))
        yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def make_image_pool(spec: ImageInput, folder: Path | None, seed: int) -> Pixels:
    """Pictures as the image tower takes them.

    Args:
        spec: size and geometry, from the model's card.
        folder: pictures of the user's own; None for views of the built-in ones.
        seed: chooses the views, or the files.

    Returns:
        uint8 ``[POOL, size, size, 3]``, fewer when the folder holds fewer.

    Raises:
        UsageError: the folder is missing or holds no picture.
        ImageError: none of its files can be decoded.
    """
    if folder is None:
        views = vary_pictures([load_image(content) for content in built_in_pictures()], seed)
        return np.stack([transform_image(next(views), spec) for _ in range(POOL)])
    files = list_files(folder)
    np.random.default_rng(seed).shuffle(files)
    squares: list[Pixels] = []
    for path in files:
        try:
            squares.append(transform_image(load_image(path), spec))
        except ImageError:
            continue
        if len(squares) == POOL:
            break
    if not squares:
        raise ImageError(f"--images {folder}: none of its {len(files)} files is a picture that can be decoded")
    return np.stack(squares)


def read_prompts(path: Path | None) -> list[str]:
    """Prompts, one a line: the user's own, or the two dozen that come with clipworks, of one to thirty words.

    Raises:
        TextError: the file cannot be read or holds no text.
    """
    if path is not None:
        return read_lines(path)
    built_in = importlib.resources.files("clipworks.profiling") / "prompts.txt"
    return built_in.read_text(encoding="utf-8").splitlines()


def make_image_batches(pool: Pixels, batch_size: int, seed: int) -> list[Pixels]:
    """Batches of random pictures of a pool: uint8 ``[batch_size, size, size, 3]`` each."""
    rng = np.random.default_rng(seed)
    count = max(4, min(POOL, 256 // batch_size))
    return [pool[rng.integers(len(pool), size=batch_size)] for _ in range(count)]


def make_text_batches(
    tokenizer: Tokenizer, prompts: Sequence[str], batch_size: int, seed: int
) -> list[npt.NDArray[np.int32]]:
    """Batches of random prompts: int32 ``[batch_size, length]`` each, the lengths as they come."""
    rng = np.random.default_rng(seed)
    rows = tokenizer.encode_ragged(prompts)
    return [tokenizer.pad([rows[index] for index in rng.integers(len(rows), size=batch_size)]) for _ in range(POOL)]
