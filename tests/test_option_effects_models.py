"""The options that choose a model and how it runs reach every encoder that a command opens; offline asks no hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from image_sets import make_image, write_images, write_labels
from option_effects import VENDOR, Recorder, row, run, skip_warm_up

from clipworks.errors import DownloadError
from clipworks.store.known import STARTER_FOLDER

BRIEF = ["--duration", "0", "--iterations", "1", "--warmup", "0"]
COMMANDS: dict[str, list[str]] = {
    "match": ["match", "a.png", "a dog"],
    "classify": ["classify", "set", "--labels", "labels.txt", "-o", "r.jsonl"],
    "embed": ["embed", "set", "-o", "vectors"],
    "retrieve": ["retrieve", "pairs.txt"],
    "profile": ["profile", "image", *BRIEF],
    "profile of texts": ["profile", "text", *BRIEF],
    "profile of the pipeline": ["profile", "pipeline", *BRIEF],
    "compare": ["compare", "set", "--labels", "labels.txt", "-o", "c", "--repeats", "0", "--no-footprint"],
    "doctor": ["doctor", "--images", "a.png", "--texts", "a dog"],
    "clip_sample": ["clip_sample", "--input_file", "a.png", "--strings", "[a dog]"],
    "clip_image_prof": ["clip_image_prof", "--iterations", "1"],
    "clip_text_prof": ["clip_text_prof", "--iterations", "1"],
}
"""Commands that open encoders; for the rest all is as short as can be."""
OPTIONS = ("--model", "--runtime", "--device", "--precision", "--threads")
# What the vendor calls these options where it has one of its own.
VENDORS = {
    "clip_sample": {"--model": "--imgmod_prefix", "--device": "--device_id"},
    "clip_image_prof": {"--model": "--model_prefix", "--device": "--device_ids"},
    "clip_text_prof": {"--model": "--model_prefix", "--device": "--device_ids"},
}

# What encoders beside those that were asked for are opened with: references, and the f32 that a profile tells of too.
OTHERS: dict[tuple[str, str], set[object]] = {
    ("compare", "--precision"): {"f32"},
    ("doctor", "--precision"): {"f32"},
    ("doctor", "--device"): {"auto"},
    **{
        (command, "--precision"): {"f32"}
        for command in COMMANDS
        if command.startswith("profile") or command.endswith("_prof")
    },
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with what `COMMANDS` name."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "set", 2)
    write_labels(tmp_path / "labels.txt")
    (tmp_path / "a.png").write_bytes(make_image(1))
    (tmp_path / "pairs.txt").write_text("a.png\ta dog\n")
    (tmp_path / "model").symlink_to(STARTER_FOLDER)
    return tmp_path


def list_rows() -> list[Any]:
    rows = []
    for command, words in COMMANDS.items():
        for option in OPTIONS:
            name = VENDORS.get(command, {}).get(option, option)
            rows.append(row(f"{words[0]} {name}", command, option, name))
    return rows


@pytest.mark.parametrize(("command", "option", "name"), list_rows())
def test_an_encoder_is_opened_as_the_option_says(
    command: str,
    option: str,
    name: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every one that the command opens, but for those beside it in `OTHERS`."""
    asked = Recorder(monkeypatch)
    skip_warm_up(monkeypatch)
    values = {"--model": str(home / "model"), "--device": "gpu:1", "--precision": "bf16", "--threads": "1"}
    chosen = [name, values[option]] if option in values else []
    status, _, err = run(capsys, *COMMANDS[command], *chosen, "--runtime", "fake", *_brief(command, option))
    assert status in (0, 1), err  # the doctor may find two fakes of different runtimes different
    assert (asked.runtimes, bool(asked.requests)) == ({"fake"}, True), err
    seen: dict[str, set[object]] = {
        "--model": {str(request.tower.path.parent) for request in asked.requests},
        "--device": {request.options.device for request in asked.requests},
        "--precision": {request.options.precision for request in asked.requests},
        "--threads": {str(request.options.threads) for request in asked.requests},
    }
    if option in seen:
        assert seen[option] - OTHERS.get((command, option), set()) == {values[option]}


def _brief(command: str, option: str) -> list[str]:
    """Fewer rows to compare, and a reference that needs no other runtime."""
    if command == "compare":
        return [] if option == "--precision" else ["--precision", "f32"]
    return ["--reference-runtime", "fake"] if command == "doctor" else []


HUB = "some/body"
OFFLINE: dict[str, list[str]] = {
    **{name: words for name, words in COMMANDS.items() if words[0] == name and name not in VENDOR},
    "doctor's reference": ["doctor", "--reference", HUB],
    "models pull": ["models", "pull", HUB],
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "command",
    [row(f"{' '.join(words[:2]) if words[0] == 'models' else words[0]} --offline", n) for n, words in OFFLINE.items()],
)
def test_offline_asks_no_hub(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import constants

    asked: list[str] = []

    def refuse(hub: str, revision: str | None) -> Any:  # noqa: ARG001  # the form of the function
        asked.append(hub)
        raise DownloadError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("clipworks.store.sources.list_repository", refuse)
    words = [*OFFLINE[command], *([] if HUB in OFFLINE[command] else ["--model", HUB])]
    words += ["--runtime", "fake"] if command != "models pull" else []
    status, _, err = run(capsys, *words)
    assert (status, asked) == (1, [HUB]), err
    status, _, err = run(capsys, *words, "--offline")
    assert (status, asked) == (1, [HUB])
    assert "--offline" in err
