"""Visibility: whether every node of a cluster sees the images that the driver sees."""

from __future__ import annotations

import os

from clipworks.cluster.cluster import ask_nodes
from clipworks.datasets.listing import DataSet
from clipworks.datasets.locations import find_kind, is_url
from clipworks.datasets.sources import Archives
from clipworks.errors import ClipworksError, UsageError


def check_visible(source: DataSet | Archives, base: str) -> None:
    """Insist that every node sees what the driver sees of a source; raises UsageError that names one that does not."""
    first = source.files[0] if isinstance(source, Archives) else source[0].file
    # A list's first image may be missing: then no node will see it, and that is this image's error.
    place = first if is_url(first) else os.path.join(base, first)  # noqa: PTH118
    folder = place.rpartition("/")[0] or "/"
    here = see_place(place), see_place(folder)
    for node, there in ask_nodes(see_places, place, folder).items():
        for name, mine, yours in zip((place, folder), here, there, strict=True):
            if mine is not None and yours != mine:
                raise UsageError(
                    f"the node {node} cannot see {name}: it is {yours or 'not reachable'} there and {mine} here",
                    hint="give the images on a file system that all nodes share, or in an object store",
                )


def see_places(*places: str) -> list[str | None]:
    """What each place is, as this machine sees it."""
    return [see_place(place) for place in places]


def see_place(place: str) -> str | None:
    """``file``, ``folder`` or ``missing``, or None where that cannot be told."""
    try:
        return find_kind(place)
    except ClipworksError:
        return None
