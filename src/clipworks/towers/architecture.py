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

_LAYERS: Mapping[str, tuple[object, ...]] = {"norm_place": ("pre",)}
_VIT = {**_LAYERS, "kind": ("vit",), "mask": ("none",)}
_TEXT = {**_LAYERS, "kind": ("transformer",), "input_norm": (False,), "rotation": (None,)}
_BERT = {**_TEXT, "norm_place": ("post",), "input_norm": (True,), "mask": ("padding",), "pooling": ("cls",)}
_GELU = {"activation": ("quick_gelu", "gelu", "gelu_tanh")}
COVERED: Allowed = {
    "image": (
        {
            **_VIT,
            **_GELU,
            "patch_bias": (False,),
            "input_norm": (True,),
            "cls_token": (True,),
            "rotation": (None,),
            "pooling": ("cls",),
        },
        {**_VIT, **_GELU, "pooling": ("attention",)},
    ),
    "text": (
        {**_TEXT, **_GELU, "mask": ("causal",), "pooling": ("argmax", "eos")},
        {**_TEXT, **_GELU, "mask": ("none",), "pooling": ("last",)},
        {**_BERT, **_GELU},
    ),
}
"""What the plain equations, the graphs and the runtimes compute: the towers of all families."""


def find_uncovered(spec: TowerSpec, role: Role) -> str | None:
    """What of a tower is not computed: ``activation is relu; allowed: gelu``, by the kind that fits best; or None."""
    said = dataclasses.asdict(spec)
    faults = [
        [
            f"{name} is {said[name]}; allowed: {', '.join(map(str, values))}"
            for name, values in kind.items()
            if said[name] not in values
        ]
        for kind in COVERED[role]
    ]
    nearest = min(faults, key=len)
    return nearest[0] if nearest else None


def shares_prefixes(spec: TowerSpec) -> bool:
    """Whether a text's rows see nothing behind them and nothing behind its end: texts need no padding then."""
    return spec.mask == "causal" and spec.pooling in ("argmax", "eos")
