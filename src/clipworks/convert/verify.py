"""Prove that a bundle computes what its checkpoint means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import TextSpec
from clipworks.bundle.files import Bundle
from clipworks.convert.answers import EXACT
from clipworks.convert.conversion import compare_facts, describe_checkpoint
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.registry import read_checkpoint
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder
from clipworks.towers.reference import embed_images, embed_texts

LIMIT = 2e-6  # of unit embeddings' entries in f32; measured differences are ten times smaller


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """How far a bundle's embeddings lie from those of the checkpoint's equations, and what ran it.

    Attributes:
        image_difference: largest absolute difference of unit image embeddings, over all entries.
        text_difference: the same of text embeddings.
        images: number of images compared.
        texts: number of token rows compared, one of each length that the tower takes.
        limit: the largest difference that counts as equal.
    """

    image_difference: float
    text_difference: float
    images: int
    texts: int
    limit: float
    runtime: str
    device: str
    precision: str

    @property
    def equal(self) -> bool:
        """Whether both differences are within the limit."""
        return max(self.image_difference, self.text_difference) <= self.limit


def compare_with_checkpoint(
    bundle: Bundle,
    source: Path,
    *,
    config: Path | None = None,
    options: RuntimeOptions = EXACT,
    images: int = 2,
    texts: int | None = None,
    seed: int = 0,
) -> VerifyResult:
    """Run a bundle and the plain equations on the same inputs and compare the unit embeddings.

    The inputs are images (smooth, noisy, dark and bright) and token rows. The equations are run in float64 straight
    from the checkpoint's tensors, by code that shares nothing with what writes the graphs.

    Args:
        bundle: the bundle.
        source: the checkpoint that it was made from.
        config: the checkpoint's configuration, where it is not beside the weights.
        options: what runs the bundle.
        images: how many; one takes the reference a second with ViT-B/32 and a minute with ViT-L/14@336.
        texts: number of token rows, of lengths spread from the shortest to the longest; None for one of each length.
        seed: of the random inputs.

    Raises:
        ConversionError: the checkpoint cannot be read, or the card says something else than it.
        RuntimeUnavailableError: the runtime is not there.
    """
    card = bundle.card
    checkpoint = read_checkpoint(source, config=config, preprocessing=card.image)
    _check_card(bundle, checkpoint)
    generator = np.random.default_rng(seed)
    drawn = _draw_images(generator, images, card.image.size)
    ids, lengths = _draw_ids(generator, card.text)
    chosen = np.unique(np.linspace(0, len(ids) - 1, texts or len(ids)).round().astype(int))
    ids, lengths = ids[chosen], lengths[chosen]
    image_encoder = open_encoder(bundle, "image", options)
    text_encoder = open_encoder(bundle, "text", options)
    expected_images = embed_images(checkpoint.image, drawn)
    alone = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    expected_texts = embed_texts(checkpoint.text, alone if card.text.padding == "none" else list(ids))
    found_texts = [text_encoder(ids)]  # all in one batch, padded to the context
    if card.text.padding == "none":  # and each by itself, at its own length
        found_texts.append(np.concatenate([text_encoder(row[None]) for row in alone]))
    result = VerifyResult(
        image_difference=_largest_difference(image_encoder(drawn), expected_images),
        text_difference=max(_largest_difference(found, expected_texts) for found in found_texts),
        images=images,
        texts=len(ids),
        limit=LIMIT,
        runtime=image_encoder.runtime,
        device=image_encoder.device,
        precision=image_encoder.precision,
    )
    image_encoder.close()
    text_encoder.close()
    return result


def _check_card(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """Compare the facts that the card has beside the towers with the checkpoint."""
    described = describe_checkpoint(checkpoint, name=bundle.card.name)
    for fact, found, said in compare_facts(described, bundle.card, ("dim", "score", "text")):
        raise ConversionError(f"the card of {bundle.folder} says {fact} is {said!r}; the checkpoint says {found!r}")


def _draw_images(generator: np.random.Generator, count: int, size: int) -> npt.NDArray[np.uint8]:
    """Images with structure at all scales: waves of random direction and colour, with noise."""
    rows, columns = (sides[..., None, None] for sides in np.mgrid[0:size, 0:size] / size)
    images = np.empty((count, size, size, 3), np.uint8)
    for image in images:
        down, across, strength = generator.normal(size=(3, 8, 3))
        light = (strength * np.sin(8 * (down * rows + across * columns))).sum(axis=-2)
        noise = generator.normal(scale=0.3, size=(size, size, 3))
        image[:] = np.clip(128 + 40 * (light + noise + generator.normal()), 0, 255)
    return images


def _draw_ids(generator: np.random.Generator, text: TextSpec) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Token rows of every length, from start and end alone up to the context, and the lengths."""
    first, last = ([] if token is None else [token] for token in (text.start_id, text.end_id))
    words = np.setdiff1d(np.arange(text.vocabulary), [text.pad_id, *first, *last])
    least = len(first + last)
    lengths = np.arange(least, text.context + 1)
    ids = np.full((len(lengths), text.context), text.pad_id, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = [*first, *generator.choice(words, length - least), *last]
    return ids, lengths


def _largest_difference(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float64]) -> float:
    units = [rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (found.astype(np.float64), expected)]
    return float(np.abs(units[0] - units[1]).max())
