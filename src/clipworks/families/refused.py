"""Models that are refused by name: known, asked for, and not what the families here compute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RefusedModels:
    """Models of one kind, what tells them, and why none of them runs."""

    title: str
    hubs: tuple[str, ...]  # their hub ids
    model_types: tuple[str, ...] = ()  # ``model_type`` in ``config.json`` of the transformers layout
    trunks: tuple[str, ...] = ()  # how ``timm_model_name`` begins in open_clip's layout
    why: str


_CODE = "it needs the code that comes with the model (auto_map), which is never run here"
REFUSED = (
    RefusedModels(
        title="SigLIP 2 NaFlex",
        hubs=("google/siglip2-base-patch16-naflex", "google/siglip2-so400m-patch16-naflex"),
        model_types=("siglip2",),
        trunks=("naflexvit_",),
        why="a NaFlex model, of variable resolution; SigLIP 2 of fixed resolution says 'siglip'",
    ),
    RefusedModels(
        title="Jina-CLIP",
        hubs=("jinaai/jina-clip-v1", "jinaai/jina-clip-v2"),
        model_types=("jina_clip",),
        why=f"{_CODE}: text towers of Jina's own, with rotary or ALiBi positions",
    ),
    RefusedModels(
        title="Nomic Embed Vision",
        hubs=("nomic-ai/nomic-embed-vision-v1", "nomic-ai/nomic-embed-vision-v1.5"),
        why=f"{_CODE}; its text tower is another model, nomic-embed-text",
    ),
    RefusedModels(
        title="EVA-CLIP 8B and 18B",
        hubs=("BAAI/EVA-CLIP-8B", "BAAI/EVA-CLIP-8B-448", "BAAI/EVA-CLIP-18B"),
        why=_CODE,
    ),
    RefusedModels(
        title="EVA02-CLIP E/14",
        hubs=(
            "timm/eva02_enormous_patch14_clip_224.laion2b_s4b_b115k",
            "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k",
        ),
        trunks=("eva02_enormous_",),
        why="its image tower has norms behind the layers' parts, which no other family has",
    ),
    RefusedModels(
        title="CoCa",
        hubs=("laion/CoCa-ViT-B-32-laion2B-s13B-b90k", "laion/CoCa-ViT-L-14-laion2B-s13B-b90k"),
        why="a CoCa model (multimodal_cfg); only plain CLIP converts",
    ),
)


def explain_hub(hub: str) -> str | None:
    """Why the model of a hub id is refused, capital letters or not; None for one that may be taken."""
    found = (one for one in REFUSED if hub.lower() in map(str.lower, one.hubs))
    return next((one.why for one in found), None)


def explain_type(model_type: str) -> str | None:
    """Why a ``model_type`` of the transformers layout is refused; None for one that may be taken."""
    return next((one.why for one in REFUSED if model_type in one.model_types), None)


def explain_trunk(name: str) -> str | None:
    """Why a ``timm_model_name`` of open_clip's layout is refused; None for one that may be taken."""
    return next((one.why for one in REFUSED if one.trunks and name.startswith(one.trunks)), None)
