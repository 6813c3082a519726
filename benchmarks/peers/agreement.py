"""Whether a row computes what the reference does, looked at before anything of it is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]

LIMITS = {"f32": 0.9999, "bf16": 0.999, "f16": 0.999, "int8": 0.99}
"""The least cosine with the f32 reference, of any image or text, that still is the same thing rounded."""


def judge_rows(found: Floats, references: dict[str, Floats], precision: str) -> dict[str, Any]:
    """Compare embeddings with each reference and say which one they are.

    Args:
        found: ``[n, dim]``.
        references: unit rows by name, in the order of preference.
        precision: the row's.

    Returns:
        ``same`` (a name of ``references``, or None), and the least cosine and the mean with the nearest of them.
    """
    if not np.isfinite(found).all():
        return {"same": None, "cosine_min": None, "cosine_mean": None, "why": "not all numbers are finite"}
    rows = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = {name: (rows * expected).sum(axis=1) for name, expected in references.items()}
    name = max(cosines, key=lambda key: float(cosines[key].min()))
    least = float(cosines[name].min())
    return {
        "same": name if least >= LIMITS[precision] else None,
        "cosine_min": least,
        "cosine_mean": float(cosines[name].mean()),
    }


def judge_pixels(found: Floats, references: dict[str, Floats], mean: Floats, std: Floats) -> dict[str, Any]:
    """Compare prepared images with each reference, bit for bit, in steps of 1/255.

    Args:
        found: uint8 ``[n, size, size, 3]``, or float ``[n, 3, size, size]``, normalised.
        references: uint8 ``[n, size, size, 3]`` by name.
        mean: of the normalisation, by channel.
        std: the same.

    Returns:
        ``same`` where every pixel is, the share of pixels that are, and the largest difference.
    """
    if found.dtype != np.uint8:
        found = np.rint((found.transpose(0, 2, 3, 1) * std + mean) * 255)
    differences = {name: np.abs(found - expected.astype(np.float32)) for name, expected in references.items()}
    name = min(differences, key=lambda key: float(differences[key].mean()))
    return {
        "same": name if not differences[name].any() else None,
        "equal": float((differences[name] == 0).mean()),
        "largest": float(differences[name].max()),
    }


def judge_ids(path: Path, expected: list[list[int]]) -> dict[str, Any]:
    """Compare token rows, start and end counted and padding not."""
    found = json.loads(path.read_text(encoding="utf-8"))
    equal = sum(strip_padding(row) == own for row, own in zip(found, expected, strict=True))
    return {"same": "ids" if equal == len(expected) else None, "equal": equal / len(expected)}


def strip_padding(row: list[int]) -> list[int]:
    """A row up to its first end token."""
    end = 49407
    return row[: row.index(end) + 1] if end in row else row
