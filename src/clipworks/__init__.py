"""clipworks: match, classify, check and measure CLIP on the hardware you have.

The public API, loaded on first use so that ``import clipworks`` costs nothing::

    import clipworks
    model = clipworks.load()
    model.match("photo.jpg", ["a dog", "a cat"])
"""

# Python's own constant would cost an import, and a Ctrl-C is a traceback until a command has taken over its signals.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from clipworks.bundle.card import Card
    from clipworks.errors import ClipworksError
    from clipworks.model import Model, load
    from clipworks.options import ImageOptions, RuntimeOptions
    from clipworks.scoring import Match, Matches, Score

__version__ = "0.1.0"
__all__ = ["Card", "ClipworksError", "ImageOptions", "Match", "Matches", "Model", "RuntimeOptions", "Score", "load"]

_HOMES = {
    "Card": "clipworks.bundle.card",
    "ClipworksError": "clipworks.errors",
    "ImageOptions": "clipworks.options",
    "Match": "clipworks.scoring",
    "Matches": "clipworks.scoring",
    "Model": "clipworks.model",
    "RuntimeOptions": "clipworks.options",
    "Score": "clipworks.scoring",
    "load": "clipworks.model",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'clipworks' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
