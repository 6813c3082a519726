"""What tests of the runtime Ray share: runs as a user starts them, rows as they are compared, images that kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from conftest import REPOSITORY

# An image with these bytes ends the process that decodes it: a fault in a decoder, as far as Ray can see.
POISON = b"\x89PNG poison"
# Python runs a module of this name when it starts, in the runtime's processes too.
STARTUP = f"""
import os, signal
from PIL import Image
open_image = Image.open
def open_or_die(stream, *options, **named):
    if hasattr(stream, "getvalue") and stream.getvalue() == {POISON!r}:
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_image(stream, *options, **named)
Image.open = open_or_die
"""


def environment(**more: str) -> dict[str, str]:
    """Of a command: it and Ray's workers run this code, and offline."""
    own = more.pop("PYTHONPATH", ""), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(filter(None, own))
    return {**os.environ, "PYTHONPATH": path, **more}


def start(*words: str | Path, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Start a clipworks command in a folder."""
    command = [sys.executable, "-m", "clipworks", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(**more), stdout=pipe, stderr=pipe, text=True)


def run(*words: str | Path, folder: Path, **more: str) -> tuple[int, str, str]:
    """Run a clipworks command in a folder; return its status, standard output and standard error."""
    process = start(*words, folder=folder, **more)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def shard_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder of shards, in the order of the shards' names."""
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def table_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of one Parquet file."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
