"""What is known where a difference begins, for those who look for its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clipworks.doctor.pipelines import Inputs, Pipeline, Weights
from clipworks.doctor.stages import Array, Trace

SIDES = ("here", "in the reference")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two pipelines that differ."""

    found: Trace  # the subject's values, in f32 where that is available
    rough: Trace  # its values in the precision asked for
    expected: Trace
    inputs: Inputs
    subject: Pipeline
    reference: Pipeline | None  # None where it is a dump
    weights: Weights | None  # of a model that both should be

    def sides(self, stage: str) -> tuple[list[Array], list[Array]]:
        """Both sides' values of a stage, in the order of `SIDES`."""
        return self.found[stage], self.expected[stage]

    def contrast(self, describe: Callable[[Trace], str | None], *, partly: bool = False) -> list[str]:
        """One sentence on both sides; nothing where they are alike, or one is not explained and not ``partly`` so."""
        said = [describe(trace) for trace in (self.found, self.expected)]
        if said[0] == said[1] or (None in said and not partly):
            return []
        return ["; ".join(f"{side} {text}" for side, text in zip(SIDES, said, strict=True) if text)]

    def entry(self, stage: str) -> list[Array] | None:
        """What later steps were computed from: the reference's values, which the pipeline was given, else its own."""
        return self.expected.get(stage) or self.found.get(stage)
