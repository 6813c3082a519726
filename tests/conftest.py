"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "examples" / "CLIP.png"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; compiled towers are shared within one run."""
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def photo() -> Image.Image:
    """A small RGB picture with structure in both directions."""
    rows, columns = np.mgrid[0:48, 0:64]
    waves = [128 + 120 * np.sin(rows / (3 + band) + columns / (5 - band)) for band in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


@pytest.fixture
def photo_file(photo: Image.Image, tmp_path: Path) -> Path:
    """The same picture as a PNG file."""
    path = tmp_path / "photo.png"
    photo.save(path)
    return path
