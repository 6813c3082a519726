"""Every error that clipworks raises on purpose, on one screen.

A message says what was given and what is allowed; a hint says what to do next. ``exit_status`` is what the
command line returns: 2 for wrong usage (an unknown name, an impossible combination), 1 for a run that failed.
"""

from __future__ import annotations

from collections.abc import Iterable

# Of more than many known names a message shows a few.
_MANY, _FEW = 20, 5


class ClipworksError(Exception):
    """The base of every error that clipworks raises on purpose: a message, and a hint what to do, of one line each.

    ``argument`` is the one of the library's call that lets it pass; a command names its own option instead, if it has
    one (`clipworks.cli`).
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None, argument: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.argument = argument

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments must survive a process pool
        return _rebuild, (type(self), self.message, self.hint, self.argument)


class ClipworksWarning(UserWarning):
    """Something is lost, or taken otherwise than it was said, and clipworks continues all the same.

    The one way in which the library says so: Python's ``warnings`` carry it, and the command line shows it in one line.
    """

    mark: str | None = None  # a file to be made once it has been shown, so that it is not said again


class UsageError(ClipworksError):
    """An argument is wrong, or two do not go together."""

    exit_status = 2


class UnknownNameError(UsageError):
    """A model, runtime, device, precision or label set of this name is not known."""


class ImageError(ClipworksError):
    """An image is missing, unreadable or no image at all."""


class TextError(ClipworksError):
    """A text is empty, or longer than the model's context, or a file of texts holds something else."""

    text: str | None = None  # the whole text that a model cannot take; a command looks for it in the files it was given


class BundleError(ClipworksError):
    """A bundle is incomplete or damaged, or its card does not say what it must."""


class ConversionError(ClipworksError):
    """A checkpoint cannot be turned into a bundle without guessing."""


class DownloadError(ClipworksError):
    """A model's files could not be downloaded."""


class RuntimeUnavailableError(UsageError):
    """The runtime is not installed, or the device or precision requested is not available."""


class MeasurementError(ClipworksError):
    """Too little was measured to say anything."""


class EncodingError(ClipworksError):
    """The runtime failed while it compiled or ran a tower."""


class LocationError(ClipworksError):
    """An object store, or a file in it, cannot be reached."""


class ResultsError(ClipworksError):
    """A results file cannot be read or written."""


class DumpError(ClipworksError):
    """A dump cannot be read or written, or does not hold what it must."""


class ClusterError(ClipworksError):
    """Ray, or a part of the cluster that it runs on, failed."""


def unknown_name(kind: str, given: str, known: Iterable[str], *, hint: str | None = None) -> UnknownNameError:
    """Build the error for a name that is not in a table, with the nearest known name as a suggestion."""
    names = list(known)
    meant = find_near(given, names)
    guess = f"did you mean {meant!r}? " if meant else ""
    more = f" and {len(names) - _FEW} more" if len(names) > _MANY else ""
    shown = ", ".join(names[:_FEW] if more else names)
    return UnknownNameError(f"unknown {kind} {given!r}: {guess}known: {shown}{more}", hint=hint)


def find_near(given: str, known: Iterable[str]) -> str | None:
    """The name of a table that a typo may have meant, capital letters or not; None where none is near."""
    import difflib  # here, since only a typo needs it

    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), names, n=1)
    return names[near[0]] if near else None


def _rebuild(kind: type[ClipworksError], message: str, hint: str | None, argument: str | None) -> ClipworksError:
    return kind(message, hint=hint, argument=argument)
