"""What a runtime grants, and how it says no."""

from __future__ import annotations

from clipworks.errors import RuntimeUnavailableError


def is_place(device: str, available: list[str]) -> bool:
    """Whether a device is given by its place in the runtime's list: ``0`` for the first."""
    return device in map(str, range(len(available)))


def refuse(what: str, given: str, runtime: str, granted: list[str]) -> RuntimeUnavailableError:
    """Build the error for a device or precision that a runtime cannot grant here."""
    return RuntimeUnavailableError(f"{runtime} cannot grant {what} {given!r} here; it grants: {', '.join(granted)}")
