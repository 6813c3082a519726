"""Runs of one tower as it is and with something changed, each batch computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from clipworks.bundle.card import TowerSpec
from clipworks.bundle.files import Bundle
from clipworks.doctor.joint import Rows
from clipworks.doctor.pipelines import find_bundle_weights
from clipworks.doctor.stages import Array, sees_padding
from clipworks.errors import RuntimeUnavailableError
from clipworks.options import AUTO, RuntimeOptions
from clipworks.runtimes import Encoder, Role, open_encoder
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.reference import embed_images, embed_texts
from clipworks.towers.weights import ImageWeights, TextWeights

_BATCH = 16


class TowerRuns:
    """A bundle's tower in any precision that is available, and by the equations where these are to be changed."""

    def __init__(self, bundle: Bundle, role: Role, options: RuntimeOptions, opened: ExitStack) -> None:
        """Open nothing yet; what will be, is closed with ``opened``."""
        self.bundle, self.role = bundle, role
        self.spec = bundle.card.image_tower if role == "image" else bundle.card.text_tower
        self.precision = "f32" if options.precision == AUTO else options.precision
        self._options, self._opened = options, opened
        self._encoders: dict[str, Encoder | None] = {}
        self._known: dict[tuple[object, ...], Rows] = {}
        self._weights: ImageWeights | TextWeights | None = None
        self._read = False

    def embed(self, values: Sequence[Array], spec: TowerSpec, precision: str) -> Rows | None:
        """Embeddings, not normalised; None where this cannot be computed here.

        Args:
            values: pixels ``[size, size, 3]`` each, floats for another mean; or token ids ``[length]`` each.
            spec: the tower's architecture; another than the card's is computed by the equations.
            precision: of the runtime.
        """
        takes = self._takes(values)
        run = self._find_equations(spec) if spec != self.spec or not takes else self._find_runtime(precision)
        if run is None or (precision != "f32" and (spec != self.spec or not takes)):
            return None
        keys = [(spec, precision, takes, value.shape, value.tobytes()) for value in values]
        missing = {key: value for key, value in zip(keys, values, strict=True) if key not in self._known}
        for start in range(0, len(missing), _BATCH):
            part = dict(list(missing.items())[start : start + _BATCH])
            self._known |= zip(part, run(list(part.values())), strict=True)
        return np.stack([self._known[key] for key in keys])

    def find_encoder(self, precision: str) -> Encoder | None:
        """The tower in a precision, or None where that is not available."""
        if precision not in self._encoders:
            try:
                encoder = open_encoder(self.bundle, self.role, dataclasses.replace(self._options, precision=precision))
                self._opened.callback(encoder.close)
                self._encoders[precision] = encoder if encoder.precision == precision else None
            except RuntimeUnavailableError:
                self._encoders[precision] = None
        return self._encoders[precision]

    def _takes(self, values: Sequence[Array]) -> bool:
        """Whether the compiled tower takes such values."""
        if self.role == "image":
            return all(value.dtype == np.uint8 for value in values)
        text = self.bundle.card.text
        whole = sees_padding(text, self.spec)
        return all(len(value) == text.context if whole else 0 < len(value) <= text.context for value in values)

    def _find_runtime(self, precision: str) -> Callable[[Sequence[Array]], Rows] | None:
        encoder = self.find_encoder(precision)
        if encoder is None:
            return None
        if self.role == "image":
            return lambda values: encoder(np.stack(list(values))).astype(np.float64)
        pad = open_tokenizer(self.bundle.tokenizer, self.bundle.card.text).pad
        return lambda values: encoder(pad(list(values))).astype(np.float64)

    def _find_equations(self, spec: TowerSpec) -> Callable[[Sequence[Array]], Rows] | None:
        if not self._read:
            self._read, weights = True, find_bundle_weights(self.bundle)
            self._weights = weights and weights[0 if self.role == "image" else 1]
        if isinstance(self._weights, ImageWeights):
            image = dataclasses.replace(self._weights, spec=spec)
            return lambda values: embed_images(image, np.stack(list(values)))
        if isinstance(self._weights, TextWeights):
            end = self.bundle.card.text.end_id if spec.pooling == "eos" else None
            text = dataclasses.replace(self._weights, spec=spec, end_id=end)
            return lambda values: embed_texts(text, list(values))
        return None
