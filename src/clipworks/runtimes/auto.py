"""Which runtime a bundle gets when nobody names one: what is quickest here of what can run it."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from clipworks.bundle.files import Bundle
from clipworks.cache import open_folder
from clipworks.errors import ClipworksWarning, RuntimeUnavailableError
from clipworks.options import AUTO, DEFAULT_RUNTIME_OPTIONS, RuntimeOptions
from clipworks.runtimes import registry
from clipworks.runtimes.protocol import Runtime, Traits


class Chosen(NamedTuple):
    """A runtime, and what ``auto`` went by; None where it was named."""

    name: str
    why: str | None


def choose_runtime(name: str = AUTO) -> str:
    """Resolve ``auto`` to the default runtime and check any other name.

    Raises:
        UnknownNameError: no such runtime; the message names those that there are.
        RuntimeUnavailableError: its package is not installed.
    """
    defaults = registry.list_defaults()
    if name != AUTO:
        row = registry.find_runtime(name)
        if not registry.is_installed(name):
            raise RuntimeUnavailableError(f"the runtime {name} is not installed", hint=row.install)
        return name
    if installed := registry.list_installed(defaults):
        return installed[0]
    raise RuntimeUnavailableError(
        f"no runtime is installed; one of these is needed: {', '.join(defaults)}",
        hint=registry.find_runtime(defaults[-1]).install,
    )


def choose_for(bundle: Bundle, options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS) -> Chosen:
    """Resolve ``auto`` for a bundle, and check any other name; raises as `choose_runtime` does."""
    if options.runtime != AUTO:
        return Chosen(choose_runtime(options.runtime), None)
    files = bundle.card.towers.get("int8" if options.precision == "int8" else "f32")
    traits = Traits(
        converted=files is not None and files.kind == "safetensors",
        rotates=bundle.card.image_tower.rotation is not None,
        post_norm=bundle.card.text_tower.norm_place == "post",
        convolutional=bundle.card.image_tower.kind == "convolutional",
    )
    return choose_by(traits, options)


def choose_by(traits: Traits, options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS) -> Chosen:
    """What ``auto`` takes for a model of some traits: the first that claims it, else the default; raises likewise."""
    for row in registry.RUNTIMES.values():
        if row.claim is not None and (why := row.claim(traits, options)) is not None:
            if registry.is_installed(row.name):
                return Chosen(row.name, why)
            _tell_absent(row)
    return Chosen(choose_runtime(), f"the first that is installed of {', '.join(registry.list_defaults())}")


def _tell_absent(row: Runtime) -> None:
    """Warn where it costs that a runtime is not installed.

    It is said once for a cache folder, not at every run: who cannot install it should not have to read on.
    """
    folder, name = open_folder("said"), f"{row.name}-missing"
    if row.absent and (folder is None or not (folder / name).exists()):
        warning = ClipworksWarning(row.absent)
        warning.mark = None if folder is None else str(folder / name)
        warnings.warn(warning, stacklevel=2)
