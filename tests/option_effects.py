"""Which options the commands have, which tests show their effects, and fakes that say what an option has changed.

A test that fails when an option does nothing names it: ``@pytest.mark.shows("match --top", "match TEXT")`` on the test,
or `row` for one line of its table. `test_option_effects` holds these names against the parsers.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clipworks.cli import COMMANDS, main
from clipworks.profiling import profiler
from clipworks.profiling.measurement import measure
from clipworks.profiling.profile import Load, Run
from clipworks.runtimes import EncoderRequest, Implementation, fake, import_runtime
from clipworks.runtimes.fake import FakeEncoder
from clipworks.vendor_sample import arguments, clip_sample, eval_topk, make_input_npz, profilers

FOLDER = Path(__file__).parent

VENDOR: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[list[str]], int]]] = {
    "clip_sample": (clip_sample.add_arguments, clip_sample.main),
    "make_input_npz": (make_input_npz.add_arguments, make_input_npz.main),
    "clip_image_prof": (functools.partial(profilers.add_arguments, target="image"), profilers.profile_image),
    "clip_text_prof": (functools.partial(profilers.add_arguments, target="text"), profilers.profile_text),
    "eval_topk": (eval_topk.add_arguments, eval_topk.main),
}
"""The commands of the vendor's sample: what declares their arguments, and what runs them."""


def list_options() -> Iterator[str]:
    """Every option and positional argument of every command, as ``classify --top`` and ``models info NAME``."""
    yield from ("clipworks --version", "clipworks --traceback")  # taken off before a command's parser sees them
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"clipworks.cli.{command}").add_arguments(parser)
        yield from _walk(command, parser)
    for command, (add_arguments, _) in VENDOR.items():
        parser = arguments.make_parser(command, None)  # which may declare what all of them have
        add_arguments(parser)
        yield from _walk(command, parser)


def _walk(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield from _walk(f"{command} {name}", one)
        elif not isinstance(action, argparse._HelpAction):
            yield f"{command} {max(action.option_strings, key=len, default=action.metavar or action.dest)}"


def list_shown() -> dict[str, list[str]]:
    """The options that tests name, each with these tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        if "shows(" in (text := path.read_text(encoding="utf-8")) or "option_effects" in text:
            for test, option in _list_marks(importlib.import_module(path.stem)):
                found.setdefault(option, []).append(f"{path.name}::{test}")
    return found


def _list_marks(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name, test in vars(module).items():
        if name.startswith("test_"):
            for mark in getattr(test, "pytestmark", ()):
                rows = mark.args[1] if mark.name == "parametrize" else ()
                marks = [mark, *(one for values in rows for one in getattr(values, "marks", ()))]
                yield from ((name, option) for one in marks if one.name == "shows" for option in one.args)


def row(options: str, *values: Any, marks: tuple[pytest.MarkDecorator, ...] = ()) -> Any:
    """One line of a table: the options that it shows, with commas between them, and the test's values."""
    names = [name.strip() for name in options.split(",")]
    return pytest.param(*values, id=options, marks=(pytest.mark.shows(*names), *marks))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command, the vendor's too, in this process; its status, stdout and stderr."""
    command, *rest = map(str, words)
    try:
        status = VENDOR[command][1](rest) if command in VENDOR else main([command, *rest])
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def read(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command prints to stdout; it must end well."""
    status, out, err = run(capsys, *words)
    assert status == 0, err
    return out


def skip_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no measurement warm up, whatever it is told: that takes a second of the test's time."""

    def measure_at_once(calls: Any, load: Load, **options: Any) -> Run:
        return measure(calls, dataclasses.replace(load, warmup_s=0.0), **options)

    monkeypatch.setattr(profiler, "measure", measure_at_once)


class Recorder:
    """Stands in for the runtime ``fake``: offers every device and precision, and keeps what it is asked.

    Attributes:
        runtimes: that were imported, others than this one among them.
        requests: for the encoders that were opened.
        batches: that they were given, with the role of the encoder; staged or not.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[EncoderRequest] = []
        self.batches: list[tuple[str, Any]] = []
        self.runtimes: set[str] = set()
        monkeypatch.setattr("clipworks.runtimes.import_runtime", self._import)
        monkeypatch.setattr(fake, "IMPLEMENTATION", fake.IMPLEMENTATION._replace(open_encoder=self._open))

    def _import(self, name: str) -> Implementation:
        self.runtimes.add(name)
        return import_runtime(name)

    def _open(self, request: EncoderRequest) -> FakeEncoder:
        self.requests.append(request)
        precision, device = request.options.precision, request.options.device
        encoder = _Recorded(precision="f32" if precision == "auto" else precision, dim=request.tower.dim)
        encoder.device = "cpu" if device == "auto" else device
        encoder.record = lambda batch: self.batches.append((request.tower.role, batch))
        return encoder

    def of(self, role: str) -> list[Any]:
        """The batches of one role's encoders."""
        return [batch for name, batch in self.batches if name == role]


class _Recorded(FakeEncoder):
    record: Callable[[Any], None]

    def __call__(self, batch: Any) -> Any:
        self.record(batch)
        return super().__call__(batch)
