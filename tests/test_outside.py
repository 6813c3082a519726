"""What a run leaves behind outside of our cache and of the outputs that were named, and whom it talks to: nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import children
import pytest
from image_sets import write_images, write_labels

from clipworks.runtimes import import_runtime, list_installed, list_names

# Python's own sockets are seen as they are made; of those of compiled code, the ones that are open at the end are.
WATCH = """
import atexit, os, sys

TALK = ("socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto")

def note(text):
    with open(os.environ["WATCHED"], "a") as stream:
        stream.write(text + "\\n")

def hook(event, arguments):
    if event in TALK:
        note(f"{event} {arguments!r}")

def look():
    if os.path.isdir("/proc/self/fd"):
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:") and name not in ("0", "1", "2"):
                note(f"open at the end: {target}")

sys.addaudithook(hook)
atexit.register(look)
"""
RUN = """
import json, sys
from clipworks.cli import main
for words in json.loads(sys.argv[1]):
    status = main(words)
    if status:
        sys.exit(f"{words} ended with {status}")
"""


def list_commands(runtime: str, model: str, data: Path) -> list[list[str]]:
    """Every command that runs offline for the first runtime; for another, those that run models in other ways."""
    options = ["--runtime", runtime, "--model", model, "--offline"]
    source, labels, pairs = str(data / "set"), str(data / "labels.txt"), str(data / "pairs.txt")
    image = str(next((data / "set").rglob("*.png")))
    brief = ["--duration", "0", "--iterations", "1", "--warmup", "0"]
    commands = [
        ["match", image, "a dog", *options],
        ["classify", source, "--labels", labels, "-o", "r.jsonl", *options],
        ["doctor", "--images", image, "--texts", "a dog", *options],
    ]
    if runtime != list_runtimes()[0]:
        return commands
    compare = ["--repeats", "0", "--no-footprint", "--precision", "f32", "--runtime", runtime]
    return [
        *commands,
        ["embed", source, "-o", "vectors", *options],
        ["retrieve", pairs, "--root", str(data), *options],
        ["profile", "image", *brief, *options],
        ["compare", source, "--labels", labels, "-o", "compared", "--model", model, *compare],
        ["evaluate", "r.jsonl"],
        ["report", "r.jsonl", "compared/comparison.json"],
        *([["report", "r.jsonl", "-o", "page.html"]] if importlib.util.find_spec("matplotlib") else []),
        ["models", "list"],
        ["models", "info", model],
        ["models", "verify", model],
        ["models", "convert", str(data / "checkpoint"), "-o", "bundle"],
    ]


def list_runtimes() -> list[str]:
    return [name for name in list_installed(list_names()) if import_runtime(name).describe_devices()]


@pytest.mark.parametrize("runtime", list_runtimes())
def test_a_command_writes_only_into_the_cache_and_opens_no_socket(
    runtime: str, clip_bundle: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    write_images(data / "set", 3)
    write_labels(data / "labels.txt")
    (data / "pairs.txt").write_text("".join(f"{path}\ta text\n" for path in (data / "set").rglob("*.png")))
    (data / "checkpoint").symlink_to(tiny_checkpoint)
    places = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "CLIPWORKS_CACHE")}
    places |= {f"XDG_{name}_HOME": tmp_path / f"xdg_{name.lower()}" for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    places |= {"HERE": tmp_path / "here", "SITE": tmp_path / "site"}
    for place in places.values():
        place.mkdir()
    (places["SITE"] / "sitecustomize.py").write_text(WATCH)
    kept = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR")}
    environment = {
        **kept,
        **{name: str(place) for name, place in places.items()},
        "PYTHONPATH": os.pathsep.join([str(places["SITE"]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WATCHED": str(tmp_path / "watched.txt"),
    }
    commands = json.dumps(list_commands(runtime, str(clip_bundle), data))
    done = children.run(
        [sys.executable, "-c", RUN, commands],
        cwd=places["HERE"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path)) for place in places.values() for path in place.rglob("*")}
    outputs = (
        "clipworks_cache",
        "site",
        "here/r.jsonl",
        "here/vectors",
        "here/compared",
        "here/page.html",
        "here/bundle",
    )
    assert {path for path in found if not path.startswith(outputs)} == set()
    assert not (tmp_path / "watched.txt").exists(), (tmp_path / "watched.txt").read_text()
