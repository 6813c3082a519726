"""References: what a pipeline can be compared with."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.files import CARD_FILE, Bundle
from clipworks.doctor import pipelines
from clipworks.doctor.diagnosis import About
from clipworks.doctor.dumps import SUFFIX, Dump, read_dump
from clipworks.doctor.pipelines import Pipeline, Weights, open_bundle_pipeline, open_equations
from clipworks.errors import ConversionError, RuntimeUnavailableError, UsageError
from clipworks.families.registry import read_checkpoint
from clipworks.options import AUTO, DEFAULT_RUNTIME_OPTIONS, RuntimeOptions
from clipworks.runtimes import find_runtime, list_defaults, list_installed
from clipworks.store import expand_home, open_bundle
from clipworks.text.clip_vocabulary import VOCABULARY

EQUATIONS = "equations"


@dataclass(frozen=True, kw_only=True)
class ReferenceRequest:
    """What was asked for as the reference."""

    # `EQUATIONS`, a dump's file, a checkpoint's folder or file, a bundle's folder or a model's name; None for the
    # equations, or the model itself where a runtime is named
    what: str | None = None
    config: Path | None = None  # the checkpoint's configuration, where it is not beside the weights
    runtime: str | None = None
    device: str | None = None
    precision: str | None = None  # of a reference that is a bundle, None for f32; of a dump, what it was computed in
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS  # of the subject, for what is not the reference's own
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What was asked for: a pipeline or a dump, and the weights where they are known, to try suspicions with."""

    about: About
    pipeline: Pipeline | None = None
    dump: Dump | None = None
    weights: Weights | None = None
    notes: tuple[str, ...] = ()


def open_reference(asked: ReferenceRequest, bundle: Bundle, subject: Pipeline, opened: ExitStack) -> Reference:
    """Open what was asked for, to be compared with one pipeline.

    Raises:
        UsageError: the options do not go together, or there is nothing to compare with.
    """
    given = (asked.runtime, asked.device, asked.precision)
    named = asked.what not in (None, EQUATIONS)
    path = expand_home(asked.what or EQUATIONS)
    if asked.config is not None and not (named and path.suffix != SUFFIX and _is_checkpoint(path)):
        raise UsageError(f"--reference-config goes with a reference that is a checkpoint, not with {path}")
    if asked.what is None:
        default = given == (None, None, None)
        return (_open_default if default else _open_runtime)(bundle, asked, subject, opened)
    if not named:
        _refuse(given, f"--reference {EQUATIONS}")
        return _open_equations(bundle)
    if path.suffix == SUFFIX:
        _refuse(given[:2], "a dump")
        dump = read_dump(path, bundle.card)
        about = About(kind="dump", name=str(path), precision=asked.precision or dump.precision)
        return Reference(about=about, dump=dump, notes=() if asked.precision else dump.notes)
    if _is_checkpoint(path):
        _refuse(given, "a checkpoint")
        return _open_checkpoint(path, asked, bundle)
    return _open_runtime(open_bundle(asked.what, offline=asked.offline), asked, subject, opened)


def _open_default(bundle: Bundle, asked: ReferenceRequest, subject: Pipeline, opened: ExitStack) -> Reference:
    try:
        return _open_equations(bundle)
    except RuntimeUnavailableError as error:
        runtimes = [name for name in list_installed(list_defaults()) if name != subject.about.runtime]
        if not runtimes and subject.about.precision == "f32":
            others = (find_runtime(name) for name in reversed(list_defaults()) if name != subject.about.runtime)
            raise UsageError(
                f"there is nothing to compare with: {error.message}",
                hint=f"another runtime is enough ({next(others).install}); --reference takes a checkpoint or a dump",
            ) from None
        runtime = runtimes[0] if runtimes else subject.about.runtime
        options = dataclasses.replace(asked.options, runtime=runtime or AUTO, device=AUTO, precision="f32")
        found = open_bundle_pipeline(bundle, options, opened)
        note = f"{error.message}; the reference is the same file in f32 on {runtime}: only the towers' ends are seen"
        return Reference(about=found.about, pipeline=found, notes=(note,))


def _open_equations(bundle: Bundle) -> Reference:
    weights, card = pipelines.read_bundle_weights(bundle), bundle.card
    # Of a model with OpenAI's vocabulary the bundle's own file is among what may be wrong.
    own = card.text.tokenizer != "clip" or card.text.vocabulary != VOCABULARY
    about = About(kind="equations", name=card.name)
    vocabulary = bundle.tokenizer if own else None
    found = open_equations(about, weights, card.image, card.text, card.score, vocabulary)
    note = "the reference has the bundle's own weights and card: --reference CHECKPOINT tells whether these are right"
    return Reference(about=about, pipeline=found, weights=weights, notes=(note,))


def _open_checkpoint(path: Path, asked: ReferenceRequest, bundle: Bundle) -> Reference:
    notes: tuple[str, ...] = ()
    try:
        checkpoint = read_checkpoint(path, config=asked.config)
    except ConversionError:  # perhaps for want of preprocessing alone; if not, the same error comes again
        checkpoint = read_checkpoint(path, config=asked.config, preprocessing=bundle.card.image)
        notes = (f"{path} does not say how images are prepared: both sides go by the bundle's card",)
    weights, about = (checkpoint.image, checkpoint.text), About(kind="checkpoint", name=str(path))
    inputs = (checkpoint.image_input, checkpoint.text_input)
    found = open_equations(about, weights, *inputs, checkpoint.score, checkpoint.tokenizer)
    return Reference(about=about, pipeline=found, weights=weights, notes=notes)


def _open_runtime(bundle: Bundle, asked: ReferenceRequest, subject: Pipeline, opened: ExitStack) -> Reference:
    options = dataclasses.replace(
        asked.options,
        runtime=asked.runtime or subject.about.runtime or AUTO,
        device=asked.device or (AUTO if asked.runtime else subject.about.device) or AUTO,
        precision=asked.precision or "f32",
    )
    pipeline = open_bundle_pipeline(bundle, options, opened)
    notes = ("both sides are the same model, runtime and precision",) if pipeline.about == subject.about else ()
    return Reference(
        about=pipeline.about, pipeline=pipeline, weights=pipelines.find_bundle_weights(bundle), notes=notes
    )


def _is_checkpoint(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and not (path / CARD_FILE).is_file())


def _refuse(given: tuple[str | None, ...], what: str) -> None:
    names = ("--reference-runtime", "--reference-device", "--reference-precision")
    options = [name for name, value in zip(names, given, strict=False) if value is not None]
    if options:
        raise UsageError(f"{options[0]} goes with a reference that is a bundle, not with {what}")
