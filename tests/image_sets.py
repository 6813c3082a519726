"""Data sets for tests: small images in class folders, and one of every kind of bad file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("cat", "dog", "bird", "fish", "frog", "newt", "horse")


def make_image(seed: int) -> bytes:
    """A PNG of 8 x 8 pixels that no other seed gives."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_images(folder: Path, count: int) -> Path:
    """Write images into class folders, in turns."""
    for number in range(count):
        home = folder / LABELS[number % len(LABELS)]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number:04}.png").write_bytes(make_image(number))
    return folder


def write_labels(path: Path) -> Path:
    """Write the labels, one a line."""
    path.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    return path


def make_bomb() -> bytes:
    """A PNG whose header claims 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_bad_files(folder: Path) -> dict[str, str]:
    """Write one bad file of each kind; return its name and a part of what must be said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = make_image(0)
    (folder / "empty.png").touch()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image at all")
    (folder / "bomb.png").write_bytes(make_bomb())
    (folder / "folder.png").mkdir()
    (folder / "folder.png" / "inner.txt").touch()
    os.mkfifo(folder / "pipe.png")
    return {
        "missing.png": "does not exist",
        "empty.png": "is empty (0 bytes)",
        "truncated.png": "is damaged",
        "text.jpg": "is not an image that can be read: it is text",
        "bomb.png": "may be a decompression bomb",
        "folder.png": "is a folder, not an image",
        "pipe.png": "is no regular file",
    }
