"""Reading: the bytes of each image of a piece, block by block, from files, object stores and tars."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from clipworks.datasets.listing import Sample
from clipworks.datasets.locations import join_place, open_place, read_place
from clipworks.datasets.tars import extract, list_images
from clipworks.errors import ImageError, LocationError
from clipworks.images.decoders import read_regular_file
from clipworks.images.streams import check_length
from clipworks.pipeline import attempt
from clipworks.urls import is_url

if TYPE_CHECKING:
    from clipworks.cluster.plan import Piece

Result = TypeVar("Result")

# Objects asked for at once: an object store answers each in tens of milliseconds.
_READERS = 16
# Seconds before an object store that failed is asked again; its failures must not become errors of images.
_PAUSES_S = (0.5, 2.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class RawBlock:
    """A block before decoding."""

    shard: int  # its shard's number
    start: int  # place of the first image: in the data set, or within a tar
    size: int | None  # images of the whole shard, where this block tells; else None
    samples: tuple[Sample, ...]  # at least one
    contents: tuple[bytes | str, ...]  # for each, the bytes of its file or why there are none


def read_piece(piece: Piece, *, batch_size: int, base: str) -> Iterator[RawBlock]:
    """Read a piece, block by block; raises LocationError for an object store that fails again and again."""
    if piece.archive is not None:
        yield from _read_archive(piece, piece.archive, batch_size, base)
        return
    parts = [piece.samples[place : place + batch_size] for place in range(0, len(piece.samples), batch_size)]
    start = piece.start
    for part, contents in zip(parts, _read_ahead(parts, base), strict=True):
        yield RawBlock(shard=piece.shard, start=start, size=piece.size, samples=part, contents=contents)
        start += len(part)


def _read_ahead(parts: list[tuple[Sample, ...]], base: str) -> Iterator[tuple[bytes | str, ...]]:
    """The contents of each part; those of a store are on their way while the part before is decoded."""
    if not is_url(parts[0][0].file):
        for part in parts:
            yield tuple(_read_local(sample, base) for sample in part)
        return
    with ThreadPoolExecutor(_READERS) as readers:
        coming = [readers.map(_read_remote, part) for part in parts[:1]]
        for following in [*parts[1:], ()]:
            coming.append(readers.map(_read_remote, following))
            yield tuple(coming.pop(0))


def _read_local(sample: Sample, base: str) -> bytes | str:
    """Read a file, named in messages as on one machine, where ``base`` is the folder that the command runs in."""
    # A Path for each of a million files is slow.
    return attempt(lambda file: read_regular_file(file, name=sample.file), os.path.join(base, sample.file))  # type: ignore[no-any-return]  # noqa: PTH118


def _read_remote(sample: Sample) -> bytes | str:
    try:
        content = _insist(sample.file, lambda: read_place(sample.file))
        check_length(len(content), sample.file)
    except (FileNotFoundError, ImageError) as error:
        return str(error) if isinstance(error, ImageError) else f"{sample.file} does not exist"
    return content


def _insist(place: str, act: Callable[[], Result]) -> Result:
    """Do something with a store, and again after pauses where it fails; a missing file is no failure of the store."""
    for pause in (*_PAUSES_S, None):
        try:
            return act()
        except FileNotFoundError:
            raise
        except OSError as error:
            if pause is None:
                raise _give_up(place, error) from None
            time.sleep(pause)
    raise AssertionError  # the last turn returns or raises


def _give_up(place: str, error: OSError) -> LocationError:
    said = f"{place} cannot be read: {str(error).splitlines()[0]}"
    return LocationError(said, hint="finished shards are kept: the same command resumes from there")


def _read_archive(piece: Piece, archive: str, batch_size: int, base: str) -> Iterator[RawBlock]:
    """Read a tar; its last block tells how many images the shard has."""
    batch: list[tuple[Sample, bytes | str]] = []
    start = 0

    def take(size: int | None) -> RawBlock:
        samples, contents = zip(*batch, strict=True)
        return RawBlock(shard=piece.shard, start=start, size=size, samples=samples, contents=contents)

    for item in _list_archive(archive, base):
        if len(batch) == batch_size:  # held back until another comes: the last one must know that it is
            yield take(None)
            start, batch = start + batch_size, []
        batch.append(item)
    yield take(start + len(batch))


def _list_archive(archive: str, base: str) -> Iterator[tuple[Sample, bytes | str]]:
    """Every image of a tar; a tar without one, or one that is damaged, is itself an error in their place."""
    found = 0
    said = "holds no image"
    try:
        system, path = open_place(archive if is_url(archive) else os.path.join(base, archive))  # noqa: PTH118
        with _insist(archive, lambda: system.open_input_stream(path)) as stream:
            for item in _list_members(archive, stream):
                found += 1
                yield item
    except FileNotFoundError:
        said = "does not exist"
    except (tarfile.TarError, EOFError) as error:
        said = f"is damaged after {found:,} images: {error}"
    except OSError as error:
        if is_url(archive):
            raise _give_up(archive, error) from None
        said = f"cannot be read after {found:,} images: {error.strerror or error}"
    if not found or not said.startswith("holds"):
        name = Sample(path=archive, file=archive, truth=None, labelled=False)
        yield name, f"{archive} {said}"


def _list_members(archive: str, stream: Any) -> Iterator[tuple[Sample, bytes | str]]:
    """The images of an open tar, each with the class of its sample's ``.cls``, a sample at a time."""

    def read_image(member: tarfile.TarInfo) -> bytes:
        check_length(member.size, join_place(archive, member.name))
        return extract(tar, member)

    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for name, content, truth in list_images(tar, lambda member: attempt(read_image, member)):
            path = join_place(archive, name)
            yield Sample(path=path, file=path, truth=truth, labelled=False), content
