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
    from clipworks.errors import (
        BundleError,
        ClipworksError,
        ClipworksWarning,
        ClusterError,
        ConversionError,
        DownloadError,
        DumpError,
        EncodingError,
        ImageError,
        LocationError,
        MeasurementError,
        ResultsError,
        RuntimeUnavailableError,
        TextError,
        UnknownNameError,
        UsageError,
    )
    from clipworks.loading import load
    from clipworks.model import Model
    from clipworks.options import ImageOptions, RuntimeOptions
    from clipworks.scoring import Match, Matches, Score

__version__ = "0.1.0"
__all__ = [
    "BundleError",
    "Card",
    "ClipworksError",
    "ClipworksWarning",
    "ClusterError",
    "ConversionError",
    "DownloadError",
    "DumpError",
    "EncodingError",
    "ImageError",
    "ImageOptions",
    "LocationError",
    "Match",
    "Matches",
    "MeasurementError",
    "Model",
    "ResultsError",
    "RuntimeOptions",
    "RuntimeUnavailableError",
    "Score",
    "TextError",
    "UnknownNameError",
    "UsageError",
    "load",
]

_HOMES = {
    "Card": "clipworks.bundle.card",
    "ImageOptions": "clipworks.options",
    "Match": "clipworks.scoring",
    "Matches": "clipworks.scoring",
    "Model": "clipworks.model",
    "RuntimeOptions": "clipworks.options",
    "Score": "clipworks.scoring",
    "load": "clipworks.loading",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'clipworks' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "clipworks.errors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
