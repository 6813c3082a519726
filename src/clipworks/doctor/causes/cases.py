"""What is known where a difference begins, for those who look for its cause."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.doctor.pipelines import Inputs, Pipeline, Weights
from clipworks.doctor.stages import Array, Trace

SIDES = ("here", "in the reference")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two pipelines that differ.

    Attributes:
        found: the pipeline's values, in f32 where they are available.
        rough: its values in the precision asked for.
        expected: the reference's.
        inputs: images and texts.
        subject: the pipeline.
        reference: the other one; None where it is a dump.
        weights: of a model that both should be, or None.
    """

    found: Trace
    rough: Trace
    expected: Trace
    inputs: Inputs
    subject: Pipeline
    reference: Pipeline | None
    weights: Weights | None

    def sides(self, stage: str) -> tuple[list[Array], list[Array]]:
        """Both sides' values of a stage, in the order of `SIDES`."""
        return self.found[stage], self.expected[stage]

    def entry(self, stage: str, before: str) -> list[Array] | None:
        """What a step was computed from: the reference's values, for the pipeline was given these; else its own."""
        return self.expected.get(before, self.found.get(before) if stage in self.found else None)
