"""The command line: one module a command; each parses, calls one function of the library, and prints.

Not even argparse is imported until a command is chosen, so that help is there at once. Data goes to stdout,
everything else to stderr.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from clipworks import __version__, interrupts
from clipworks.cli.terminal import can_redraw, find_width, show_text
from clipworks.cli.words import parse_words
from clipworks.display import fold_text
from clipworks.errors import ClipworksError, ClipworksWarning, TextError, unknown_name

if TYPE_CHECKING:
    import argparse


class CommandModule(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit status."""


# Each is a module of this room, beside one line for the overview.
COMMANDS = {
    "match": "rank texts by how well they fit an image",
    "classify": "classify a data set into a results file; resumes where it stopped",
    "compare": "what each runtime and precision costs in accuracy and buys in speed",
    "completion": "make bash, zsh or fish complete commands, options and names",
    "devices": "what this machine offers, how quick it is, and what auto takes",
    "doctor": "where scores begin to differ from a reference's, stage by stage",
    "embed": "embed a data set into a folder of vectors; resumes where it stopped",
    "evaluate": "accuracy, classes, confusions and calibration of a results file",
    "models": "list, pull, verify and convert models",
    "profile": "measure an encoder or the pipeline: throughput, latency percentiles",
    "report": "show saved results on one page: tables, plots, environment",
    "retrieve": "how well images find their captions, and captions their images",
    "serve": "serve models over HTTP: embeddings, classification, reranking, a page",
}

NESTED = ("models",)
"""Those that have subcommands."""

_OVERVIEW = """\
usage: clipworks COMMAND [OPTION ...]

{purpose}

commands:
{commands}

options:
{options}
"""
_PURPOSE = "Match, classify, check and measure CLIP on the hardware you have."
_OPTIONS = {
    "-h, --help": "show this help; clipworks help COMMAND explains a command",
    "--version": "show the version",
    "--traceback": "show Python's traceback when a command fails",
}


# What writing meets where there is no room, or nothing to write to.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)
# What a command's user can do where the library names an argument of its call: with the option, and without.
_HINTS = {
    "base": ("--base FOLDER names its base's checkpoint", None),
    "max_pixels": ("--max-pixels N raises the limit", None),
    "truncate": ("shorten it, or let it be cut: --truncate", "shorten it"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, or the process's own, and return the exit status.

    That is 0, 1 for a run that failed, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM.
    """
    return run_guarded("clipworks", _run, argv)


def run_guarded(program: str, run: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a program so that whatever goes wrong is one line on stderr and an exit status; see `main`.

    ``run`` takes the arguments without --traceback, and returns the exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in words
    if traceback:
        words.remove("--traceback")
    if argv is None:
        interrupts.install(program)
    _prepare_streams()
    try:
        try:
            with interrupts.borrowing(), _noting():
                status = run(words)
        finally:
            sys.stdout.flush()  # here, so that a broken pipe is met where it is handled
        return interrupts.resolve(status)
    except BrokenPipeError:  # the reader has gone, as with `| head`: nobody is left to tell
        _silence_stdout()
        return 141
    except ClipworksError as error:
        if traceback:
            raise
        hint = error.hint if error.argument is None else _HINTS[error.argument][1]
        return _report(program, error.message, hint, error.exit_status)
    except KeyboardInterrupt:
        if traceback:
            raise
        return interrupts.resolve(_report(program, "interrupted", None, 130))
    except Exception as error:  # whatever is left: one line for the user, the whole with --traceback
        if traceback:
            raise
        return _report(program, *_explain(error), 1)


@contextlib.contextmanager
def _noting() -> Iterator[None]:
    """Show each warning of ours in one line on stderr, once; the vendor's commands hold theirs back themselves."""
    said: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, ClipworksWarning):
            before(message, category, filename, lineno, file, line)
        elif (text := show_text(str(message))) not in said:
            said.add(text)
            clear = "\r\x1b[K" if can_redraw(sys.stderr) else ""  # a line of progress may stand there
            with contextlib.suppress(OSError):  # a note that a full disk loses ends nothing
                print(f"{clear}note: {text}", file=sys.stderr)
            if isinstance(message, ClipworksWarning) and message.mark is not None:
                with contextlib.suppress(OSError):
                    open(message.mark, "ab").close()  # noqa: PTH123  # pathlib would be imported for it

    # Not catch_warnings: it would also take back the filters of modules that are imported meanwhile.
    before = warnings.showwarning
    warnings.simplefilter("always", ClipworksWarning)
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _explain(error: Exception) -> tuple[str, str | None]:
    """The line of an error that is none of ours, and its hint."""
    if isinstance(error, OSError):
        _silence_stdout()  # it may be stdout itself that cannot be written, and Python would try again at exit
        if error.filename is None and error.errno in _UNWRITABLE:
            return f"the output cannot be written: {error.strerror}", None
        if error.filename is not None and error.strerror is not None:
            return f"{os.fsdecode(error.filename)}: {error.strerror}", None
    what = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}{': ' if what else ''}{what}", "--traceback shows where"


def _report(program: str, message: str, hint: str | None, status: int) -> int:
    print(f"{program}: {show_text(message)}", file=sys.stderr)
    if hint:
        print(f"  hint: {show_text(hint)}", file=sys.stderr)
    return status


class _ClosedOutput(io.RawIOBase):
    """Stands in for a standard output that was closed: a command that prints nothing does not miss it."""

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:  # noqa: ARG002  # the form of a stream
        raise OSError(errno.EBADF, "standard output is closed")


def _prepare_streams() -> None:
    """Make sure that printing never fails for a character that the terminal lacks, or for want of a stderr."""
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_ClosedOutput()), encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
        from clipworks.cli.completion import answer_shell

        answer_shell()
    if words[:1] == ["help"]:
        words = [*(word for word in words[1:] if word != "help"), "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_format_overview(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("version", "--version", "-V"):
        print(f"clipworks {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise unknown_name("command", name, [*COMMANDS, "help", "version"], hint="clipworks --help lists them")
    from clipworks.cli.parsers import Parser

    module: CommandModule = importlib.import_module(f"clipworks.cli.{name}")
    parser = Parser(prog=f"clipworks {name}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    # argparse cannot let options stand between positional arguments where there are subcommands.
    args = parser.parse_args(rest) if name in NESTED else parse_words(parser, rest)
    try:
        return module.run(args)
    except ClipworksError as error:
        if isinstance(error, TextError) and error.text is not None:
            from clipworks.cli.places import name_place

            name_place(error, args)
        if error.argument is not None and hasattr(args, error.argument):  # only here the command's options are known
            error.hint, error.argument = _HINTS[error.argument][0], None
        if name not in NESTED:
            from clipworks.cli.hints import fit_hint

            error.hint = fit_hint(error.hint, parser)
        raise


def _format_overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    purpose = "\n".join(fold_text(_PURPOSE, find_width()))
    return _OVERVIEW.format(
        purpose=purpose, commands=_list_facts(COMMANDS, width), options=_list_facts(_OPTIONS, width)
    )


def _list_facts(facts: Mapping[str, str], width: int) -> str:
    """Names and what they are, one below another; what a narrow terminal has no room for is folded."""
    lines = []
    for name, told in facts.items():
        first, *more = fold_text(told, max(find_width() - width - 2, 20))
        lines += [f"  {name:<{width}}{first}", *(" " * (width + 2) + line for line in more)]
    return "\n".join(lines)
