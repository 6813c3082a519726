"""How a device is named, and what is said where a device or precision is not available."""

from __future__ import annotations

from typing import Literal

from clipworks.errors import RuntimeUnavailableError


def is_place(device: str, available: list[str]) -> bool:
    """Whether a device is given by its place in the runtime's list: ``0`` for the first."""
    return device in map(str, range(len(available)))


def unavailable(
    what: Literal["device", "precision"], given: str, where: str, available: list[str]
) -> RuntimeUnavailableError:
    """Build the error for a device or precision that is not available on a runtime, or on a device of it."""
    return RuntimeUnavailableError(
        f"the {what} {given!r} is not available on {where}; available: {', '.join(available)}"
    )
