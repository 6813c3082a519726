"""faster-clip: ClipModel.encode_image, with our image tower in its cache. Its text tower is another model's.

It keeps all weights as int8 and computes with floats.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import IMAGE_BATCH, Array, Client, Settings, cut, scale_rows, take_best


def open_client(settings: Settings) -> Client:
    """Put the checkpoint where the package keeps what it has downloaded."""
    home = settings.folder / "faster_clip"
    place = home / "sentence-transformers__clip-ViT-B-32" / "0_CLIPModel" / "model.safetensors"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(settings.folder / "checkpoint" / "model.safetensors", place)
    os.environ["FASTER_CLIP_CACHE"] = str(home)
    import faster_clip

    model: Any = faster_clip.ClipModel()

    def embed_images(paths: list[str]) -> Array:
        rows = [model.encode_image([Path(path).read_bytes() for path in part]) for part in cut(paths, IMAGE_BATCH)]
        return scale_rows([row for part in rows for row in part])

    return Client(
        embed_images=embed_images,
        classify=lambda paths, head: take_best(embed_images(paths), head, 100.0),
    )
