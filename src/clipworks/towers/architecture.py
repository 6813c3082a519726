"""What of an architecture the equations here and the runtimes compute: tables of what a card may say of a tower."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipworks.bundle.card import TowerSpec
    from clipworks.towers.stored import Role

Allowed = Mapping["Role", tuple[Mapping[str, tuple[object, ...]], ...]]
"""For each tower the kinds that are computed: of some fields of a `TowerSpec` what they may say beside each other."""

_LAYERS: Mapping[str, tuple[object, ...]] = {"norm_place": ("pre",), "position": ("learned",)}
_VIT = {**_LAYERS, "kind": ("vit",), "mask": ("none",)}
_TEXT = {**_LAYERS, "kind": ("transformer",), "input_norm": (False,)}
_CLIP_IMAGE = {
    **_VIT,
    "patch_bias": (False,),
    "input_norm": (True,),
    "cls_token": (True,),
    "pooling": ("cls",),
}
_CLIP_TEXT = {**_TEXT, "mask": ("causal",), "pooling": ("argmax", "eos")}
_PLAIN_PROJECTION = {"projection": (True,), "projection_bias": (False,)}
_CLIP_GELU = {"activation": ("quick_gelu", "gelu")}
_ANY_GELU = {"activation": ("quick_gelu", "gelu", "gelu_tanh")}
_ATTENTION_POOLED = {
    **_VIT,
    "input_norm": (False,),
    "cls_token": (False,),
    "pooling": ("attention",),
}
_WHOLE_TEXT = {**_TEXT, "mask": ("none",), "pooling": ("last",)}

CLIP: Allowed = {
    "image": ({**_CLIP_IMAGE, **_PLAIN_PROJECTION, **_CLIP_GELU},),
    "text": ({**_CLIP_TEXT, **_PLAIN_PROJECTION, **_CLIP_GELU},),
}
"""CLIP's own towers."""
COVERED: Allowed = {
    "image": ({**_CLIP_IMAGE, **_ANY_GELU}, {**_ATTENTION_POOLED, **_ANY_GELU}),
    "text": ({**_CLIP_TEXT, **_ANY_GELU}, {**_WHOLE_TEXT, **_ANY_GELU}),
}
"""What the plain equations and the graphs compute."""


def find_uncovered(spec: TowerSpec, role: Role, allowed: Allowed) -> str | None:
    """What of a tower is not computed: ``activation is relu; allowed: gelu``, by the kind that fits best; or None."""
    said = dataclasses.asdict(spec)
    faults = [
        [
            f"{name} is {said[name]}; allowed: {', '.join(map(str, values))}"
            for name, values in kind.items()
            if said[name] not in values
        ]
        for kind in allowed[role]
    ]
    nearest = min(faults, key=len)
    return nearest[0] if nearest else None


def shares_prefixes(spec: TowerSpec) -> bool:
    """Whether a text's rows see nothing behind them and nothing behind its end: texts need no padding then."""
    return spec.mask == "causal" and spec.pooling in ("argmax", "eos")
