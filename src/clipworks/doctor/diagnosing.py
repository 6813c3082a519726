"""Diagnosing: run a pipeline beside its reference and say where they part."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping

from clipworks.bundle.files import Bundle, card_hash
from clipworks.convert import check_answers, describe_answers
from clipworks.doctor.causes import explain
from clipworks.doctor.causes.cases import Case
from clipworks.doctor.diagnosis import Diagnosis, Verdict
from clipworks.doctor.dumps import Dump
from clipworks.doctor.inputs import find_blind_spots
from clipworks.doctor.judging import judge, measure_drifts, measure_effect
from clipworks.doctor.pipelines import Inputs, find_bundle_weights, open_bundle_pipeline, run_pipeline
from clipworks.doctor.references import Reference, ReferenceRequest, open_reference
from clipworks.doctor.stages import Trace
from clipworks.environment import describe_environment
from clipworks.errors import RuntimeUnavailableError, UsageError
from clipworks.options import RuntimeOptions


def diagnose(
    bundle: Bundle,
    options: RuntimeOptions,
    choose_inputs: Callable[[Dump | None], Inputs],
    *,
    request: ReferenceRequest,
    tolerances: Mapping[str, float],
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Diagnosis, Dump]:
    """Compare a pipeline with its reference, stage by stage; return what was found, and the pipeline's own stages.

    ``choose_inputs`` gives images and texts, knowing the dump that is the reference, if it is one; ``tolerances`` are
    the user's own, by stage or measure; ``tell`` takes a line of progress.

    Raises:
        UsageError: the two cannot be compared: other inputs, or no stage that both have.
    """
    with contextlib.ExitStack() as opened:
        tell("starting the runtime")
        subject = open_bundle_pipeline(bundle, options, opened)
        reference = open_reference(request, bundle, subject, opened)
        inputs = choose_inputs(reference.dump)
        tell("running the reference")
        expected = _trace_reference(reference, inputs)
        notes = [*reference.notes, *find_blind_spots(inputs, subject, expected)]
        if answers := check_answers(bundle):
            notes.append(f"{bundle.card.name} {describe_answers(answers)}")
        tell(f"running {subject.about.runtime} in {subject.about.precision}")
        own = run_pipeline(subject, inputs).trace
        found = run_pipeline(subject, inputs, given=expected, before=own)
        control = None
        if subject.about.precision != "f32":
            tell(f"running {subject.about.runtime} in f32")
            try:
                plain = open_bundle_pipeline(bundle, dataclasses.replace(options, precision="f32"), opened)
                if plain.about == subject.about:
                    raise RuntimeUnavailableError(f"{plain.about.runtime} runs these towers in {plain.about.precision}")
                control = run_pipeline(plain, inputs, given=expected)
            except RuntimeUnavailableError as error:
                notes.append(f"{error.message}: a fault cannot be told from what the precision loses")
        precisions = (subject.about.precision, reference.about.precision)
        results = judge(found, control, expected, spec=subject.spec, precisions=precisions, own=tolerances)
        if all(result.mark == "missing" for result in results):
            raise UsageError(f"{reference.about.name} has no stage that {subject.about.name} has too")
        begins = tuple(result for result in results if result.mark == "begins")
        verdict: Verdict = "precision" if all(result.precision for result in begins) else "differs"
        tell("looking for causes")
        case = Case(
            found=(found if control is None else control).trace,
            rough=found.trace,
            expected=expected,
            inputs=inputs,
            subject=subject,
            reference=reference.pipeline,
            weights=(reference.weights or find_bundle_weights(bundle)) if begins else None,
        )
        diagnosis = Diagnosis(
            verdict=verdict if begins else "healthy",
            begins=tuple(result.name for result in begins),
            subject=subject.about,
            reference=reference.about,
            images=tuple(
                os.fspath(one) if isinstance(one, str | os.PathLike) else f"image {number}"
                for number, one in enumerate(inputs.images)
            ),
            texts=inputs.texts,
            stages=results,
            causes=tuple(cause for result in begins for cause in explain(result, case)),
            drifts=() if control is None else measure_drifts(found.trace, control.trace),
            effect=measure_effect(own, expected),
            notes=tuple(notes),
            card_sha256=card_hash(bundle.card),
            environment=describe_environment(),
        )
        return diagnosis, Dump(trace=own, texts=inputs.texts, images=diagnosis.images, precision=precisions[0])


def _trace_reference(reference: Reference, inputs: Inputs) -> Trace:
    if reference.pipeline is not None:
        return run_pipeline(reference.pipeline, inputs).trace
    assert reference.dump is not None  # a reference is one of the two
    counts = {"image": len(inputs.images), "text": len(inputs.texts)}
    for name, samples in reference.dump.trace.items():
        branch = "text" if name.startswith("text_") or name == "ids" else "image"
        if name != "logit_scale" and len(samples) != counts[branch]:
            raise UsageError(
                f"{reference.about.name} has {len(samples)} of {name}, but {counts[branch]} "
                f"{'images' if branch == 'image' else 'texts'} are given",
                hint="a dump is compared with the images and texts that it was made from: --images, --texts",
            )
    return reference.dump.trace
