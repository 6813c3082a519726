"""Pipelines: from images and texts to scores with every stage kept, by a runtime or by the equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from clipworks.bundle.card import ImageSpec, ScoreRule, TextSpec
from clipworks.bundle.files import Bundle
from clipworks.doctor.diagnosis import About
from clipworks.doctor.equations import trace_image, trace_text
from clipworks.doctor.images import Stretch, as_levels, has_size, recover_pixels, trace_images
from clipworks.doctor.joint import trace_joint
from clipworks.doctor.stages import ENTRIES, FIRST_ROWS, Array, Trace, sees_padding
from clipworks.errors import RuntimeUnavailableError
from clipworks.images.decode import ImageLike
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions, RuntimeOptions
from clipworks.runtimes import EMBEDDING, FIRST, POOLED, ROLES, Encoder, Role, find_runtime, open_encoder
from clipworks.runtimes.probes import open_probe
from clipworks.text.tokenizers import Tokenizer, open_tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower
from clipworks.towers.weights import ImageWeights, TextWeights

Weights = tuple[ImageWeights, TextWeights]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What both pipelines are given: images as `load_image` takes them, and texts; those over the context are cut."""

    images: tuple[ImageLike, ...]
    texts: tuple[str, ...]
    options: ImageOptions = DEFAULT_IMAGE_OPTIONS


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A way from images and texts to scores."""

    about: About
    spec: ImageSpec
    text: TextSpec
    tokenizer: Tokenizer
    vocabulary: Path | None  # the tokenizer's file, or None for OpenAI's own
    score: ScoreRule
    # gives a tower's stages: uint8 ``[size, size, 3]`` or int32 ``[length]`` each
    trace_tower: Callable[[Role, Sequence[Array]], Trace]
    layers: bool = True  # whether the stages inside the towers are among them
    sees_padding: bool = False  # whether the text tower sees what fills a text: ids are of the whole context then


def open_bundle_pipeline(bundle: Bundle, options: RuntimeOptions, opened: ExitStack) -> Pipeline:
    """A bundle on a runtime, whose encoders are freed with ``opened``."""
    encoders: dict[Role, Encoder] = {role: open_encoder(bundle, role, options) for role in ROLES}
    for encoder in encoders.values():
        opened.callback(encoder.close)
    actual = encoders["image"]
    tokenizer = open_tokenizer(bundle.tokenizer, bundle.card.text)
    attended = bundle.card.image_tower.pooling == "attention"
    try:
        probes = {role: open_probe(bundle, role, encoder) for role, encoder in encoders.items()}
    except RuntimeUnavailableError:  # towers of other makers, or a runtime that cannot be looked into
        probes = {}

    def trace_tower(role: Role, values: Sequence[Array]) -> Trace:
        batch = np.stack(list(values)) if role == "image" else tokenizer.pad(list(values))
        trace: Trace = {f"{role}_embedding": list(encoders[role](batch))}
        for value in values if role in probes else ():
            found = probes[role](value[None])
            last = len(found) - 3  # without the first rows, the pooled row and the embedding
            names = {FIRST: FIRST_ROWS[role], POOLED: f"{role}_layer_{last}"}
            # The encoder's own embedding counts: it has seen the batch. A pooling by attention is no layer.
            left_out = {EMBEDDING, POOLED} if attended and role == "image" else {EMBEDDING}
            for name, rows in found.items():
                if name not in left_out:
                    trace.setdefault(names.get(name, f"{role}_layer_{name}"), []).append(rows)
            trace.setdefault(f"{role}_pooled", []).append(found[POOLED])
        return trace

    card, precision = bundle.card, _name_precision(actual, bundle)
    return Pipeline(
        about=About(kind="bundle", name=card.name, runtime=actual.runtime, device=actual.device, precision=precision),
        spec=card.image,
        text=card.text,
        tokenizer=tokenizer,
        vocabulary=bundle.tokenizer,
        score=card.score,
        trace_tower=trace_tower,
        layers=bool(probes),
        sees_padding=sees_padding(bundle.card.text, bundle.card.text_tower),
    )


def open_equations(
    about: About, weights: Weights, spec: ImageSpec, text: TextSpec, score: ScoreRule, vocabulary: Path | None
) -> Pipeline:
    """The plain equations with some weights; the vocabulary is OpenAI's own where no file is named."""

    def trace_tower(role: Role, values: Sequence[Array]) -> Trace:
        return trace_image(weights[0], values) if role == "image" else trace_text(weights[1], values)

    return Pipeline(
        about=about,
        spec=spec,
        text=text,
        tokenizer=open_tokenizer(vocabulary, text),
        vocabulary=vocabulary,
        score=score,
        trace_tower=trace_tower,
        sees_padding=sees_padding(text, weights[1].spec),
    )


def read_bundle_weights(bundle: Bundle) -> Weights:
    """The weights of a bundle's f32 towers; raises RuntimeUnavailableError where clipworks did not convert them."""
    image, text = (read_tower(find_tower(bundle, role)) for role in ROLES)
    assert isinstance(image, ImageWeights)  # by their roles
    assert isinstance(text, TextWeights)
    return image, text


def find_bundle_weights(bundle: Bundle) -> Weights | None:
    """The weights of a bundle's f32 towers, or None where clipworks did not convert them."""
    try:
        return read_bundle_weights(bundle)
    except RuntimeUnavailableError:
        return None


def run_pipeline(
    pipeline: Pipeline,
    inputs: Inputs,
    *,
    given: Mapping[str, list[Array]] = MappingProxyType({}),
    before: Trace | None = None,
) -> Stretch:
    """Run a pipeline with every stage kept.

    Args:
        pipeline: which.
        inputs: images and texts.
        given: another pipeline's values: each step starts from them where it can take them, to be judged by itself.
        before: of an earlier run of the same pipeline; a tower that would be given the same again is not run again.
    """
    drawn = trace_images(inputs.images, pipeline.spec, options=inputs.options, given=given)
    rows = pipeline.tokenizer.encode_ragged(inputs.texts, truncate=True)
    ids = list(pipeline.tokenizer.pad(rows) if pipeline.sees_padding else rows)
    trace, fed = {**drawn.trace, "ids": ids}, set(drawn.fed)
    theirs_ids = _choose_ids(ids, given, pipeline)
    if theirs_ids is not ids:
        # What normalises pixels is a part of our image towers: their first stage still follows from that one.
        fed.add("text_tokens" if pipeline.layers else "text_embedding")
    values = {"image": _choose_pixels(trace["pixels"], given, pipeline.spec), "text": theirs_ids}
    for role in ROLES:
        entry = ENTRIES[role]
        if before and _equal(before[entry], values[role]):
            trace |= {name: rows for name, rows in before.items() if name.startswith(f"{role}_")}
        else:
            trace |= pipeline.trace_tower(role, values[role])
    joint = trace_joint(trace, pipeline.score, given=given)
    return Stretch(trace=trace | joint.trace, fed=frozenset(fed | joint.fed))


def _name_precision(encoder: Encoder, bundle: Bundle) -> str:
    """The precision that values have: some runtimes compute in the type that a tower's weights are stored in."""
    stored = encoder.precision == "f32" and find_runtime(encoder.runtime).computes_as_stored
    return "f16" if stored and bundle.card.towers["f32"].weights == "f16" else encoder.precision


def _choose_pixels(own: Sequence[Array], given: Mapping[str, list[Array]], spec: ImageSpec) -> Sequence[Array]:
    """The other pipeline's pixels where the image tower can take them."""
    theirs = as_levels(given.get("pixels"))
    if theirs is None and "pixels" not in given and "normalised" in given and has_size(given["normalised"], spec.size):
        theirs = recover_pixels(given["normalised"], spec)
    return own if theirs is None or not has_size(theirs, spec.size) else theirs


def _choose_ids(own: Sequence[Array], given: Mapping[str, list[Array]], pipeline: Pipeline) -> Sequence[Array]:
    """The other pipeline's ids where the text tower can take them."""
    theirs, text = given.get("ids"), pipeline.text
    least = text.context if pipeline.sees_padding else 1
    if theirs is None or len(theirs) != len(own):
        return own
    for row in theirs:
        if row.ndim != 1 or not least <= len(row) <= text.context or row.min() < 0 or row.max() >= text.vocabulary:
            return own
    return [row.astype(np.int32) for row in theirs]


def _equal(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
