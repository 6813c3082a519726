"""Locations: a path of this machine or a URL of an object store, read and written through pyarrow's file systems.

``s3://``, ``gs://``, ``abfs://`` and ``hdfs://`` are pyarrow's own; any other scheme is fsspec's, where its package is
installed. Credentials, regions and endpoints are the environment's (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``,
``AWS_ENDPOINT_URL``, ...), never a part of a URL: a URL stands in results.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
from collections.abc import Iterator
from typing import Any, BinaryIO

from clipworks.errors import LocationError, UsageError
from clipworks.urls import URL, is_url


def join_place(place: str, name: str) -> str:
    """The place of a name below another."""
    return f"{place.rstrip('/')}/{name}" if is_url(place) else os.path.join(place, name)  # noqa: PTH118  # as given


def open_place(place: str) -> tuple[Any, str]:
    """The ``pyarrow.fs.FileSystem`` of a path or of ``scheme://bucket/key``, and the path in it.

    Raises UsageError for a scheme without one, LocationError where it cannot be reached.
    """
    import pyarrow.fs

    match = URL.match(place)
    if match is None:  # bytes that are not UTF-8 are refused by pyarrow; a local file of such a name is not read here
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(place)  # noqa: PTH100  # a Path would resolve links
    path = match["path"]
    return _open_remote(match["scheme"].lower(), path.partition("/")[0]), path.strip("/")


def read_place(place: str) -> bytes:
    """Read all of a file; raises what pyarrow raises: an OSError."""
    system, path = open_place(place)
    with system.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def write_place(place: str, content: bytes) -> None:
    """Write a file that is there whole or not at all, as far as the store can; raises OSError."""
    if is_url(place):  # an object appears when it is complete
        system, path = open_place(place)
        written = system.open_output_stream(path)
    else:
        written = write_whole(place)
    with written as stream:
        stream.write(content)


@contextlib.contextmanager
def write_whole(path: str) -> Iterator[BinaryIO]:
    """A file of this machine that is at ``path`` when all of it is on the disk, or not at all; raises OSError."""
    part = f"{path}.part"
    with open(part, "wb") as stream:  # noqa: PTH123  # plain strings throughout
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)  # noqa: PTH105


def make_folder(place: str) -> None:
    """Make a folder in one that is there: a typo makes no tree, but UsageError; a store has no folders to make."""
    if is_url(place):
        return
    try:
        os.mkdir(place)  # noqa: PTH102  # as above
    except FileNotFoundError:
        parent = os.path.dirname(os.path.abspath(place))  # noqa: PTH100, PTH120  # as above
        raise UsageError(f"the folder {parent} does not exist; {place} cannot be written") from None


def delete_place(place: str) -> None:
    """Delete a file; raises OSError."""
    system, path = open_place(place)
    system.delete_file(path)


def find_kind(place: str) -> str:
    """``file``, ``folder``, or ``missing``; raises LocationError where the store does not answer."""
    import pyarrow.fs

    system, path = open_place(place)
    try:
        kind = system.get_file_info(path).type
    except OSError as error:
        raise LocationError(f"{place} cannot be reached: {_first_line(error)}") from None
    names = {pyarrow.fs.FileType.File: "file", pyarrow.fs.FileType.Directory: "folder"}
    return names.get(kind, "missing")


def list_place(place: str, *, recursive: bool = False) -> list[str]:
    """Paths of the files below a folder, relative to it, in the order of their parts' bytes; raises LocationError."""
    import pyarrow.fs

    system, path = open_place(place)
    try:
        found = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=recursive))
    except OSError as error:
        raise LocationError(f"{place} cannot be listed: {_first_line(error)}") from None
    # With or without a slash before them, as the file system has it.
    top = path.lstrip("/")
    files = (posixpath.relpath(item.path.lstrip("/"), top) for item in found if item.type == pyarrow.fs.FileType.File)
    return sorted(files, key=lambda name: [os.fsencode(part) for part in name.split("/")])


@functools.cache
def _open_remote(scheme: str, bucket: str) -> Any:
    import pyarrow.fs

    if scheme == "s3":
        return _open_s3(bucket)
    if scheme in ("gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"):
        try:
            return pyarrow.fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
        except (OSError, ValueError) as error:
            raise LocationError(f"{scheme}://{bucket} cannot be reached: {_first_line(error)}") from None
    try:
        import fsspec

        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError) as error:
        raise UsageError(f"{scheme}:// cannot be opened: {_first_line(error)}") from None


def _open_s3(bucket: str) -> Any:
    import pyarrow.fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        if endpoint is None and region is None:
            region = pyarrow.fs.resolve_s3_region(bucket)
        return pyarrow.fs.S3FileSystem(endpoint_override=endpoint, region=region)
    except OSError as error:
        raise LocationError(f"s3://{bucket} cannot be reached: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
