"""What machines read: every command's JSON is JSON under any locale, whatever stands in paths and texts."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import children
import pytest
from image_sets import LABELS, make_image

from clipworks.cli import COMMANDS, NESTED, main
from clipworks.cli.json_output import print_json
from clipworks.cli.models import ACTIONS

PERSIAN, CHINESE, EMOJI = "عکس‌ها", "图片　集", "👩‍👧🦩"
NAME = f"{PERSIAN} {CHINESE} {EMOJI}"
FAKE = ("--runtime", "fake")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, clip_bundle: Path) -> Path:
    """A folder of that name with images, texts, results and a model, all of such names."""
    home = tmp_path_factory.mktemp("words") / NAME
    for number, label in enumerate((PERSIAN, CHINESE)):
        (home / "set" / label).mkdir(parents=True)
        (home / "set" / label / f"{EMOJI}.png").write_bytes(make_image(number))
    (home / "labels.txt").write_text(f"{PERSIAN}\n{CHINESE}\n{EMOJI}\n", encoding="utf-8")
    pairs = [f"set/{label}/{EMOJI}.png\t{label}\n" for label in (PERSIAN, CHINESE, EMOJI)]  # the last is not there
    (home / "pairs.txt").write_text("".join(pairs), encoding="utf-8")
    shutil.copytree(clip_bundle, home / EMOJI)
    assert main(classify(home, home / "results.jsonl")) == 0
    assert main(["models", "export", str(home / EMOJI), "-o", str(home / "carried.tar")]) == 0
    return home


def classify(home: Path, output: Path) -> list[str]:
    return ["classify", str(home / "set"), "--labels", str(home / "labels.txt"), "-o", str(output), *FAKE]


# Each command, and a text that its JSON must hold; `devices` is tried once it is there.
ROWS: dict[str, tuple[str, str]] = {
    "match": (f"match {{image}} {PERSIAN} {EMOJI} --runtime fake", EMOJI),
    "classify": ("classify set --labels labels.txt -o classified.jsonl --runtime fake", NAME),
    "embed": ("embed set -o vectors --runtime fake", NAME),
    "evaluate": ("evaluate results.jsonl", NAME),
    "retrieve": ("retrieve pairs.txt --root {home} --runtime fake", EMOJI),
    "profile": ("profile text --texts labels.txt --model {model} --duration 0 --iterations 1 --warmup 0", NAME),
    "compare": (
        "compare set --labels labels.txt -o compared --repeats 0 --no-footprint --precision f32 --runtime onnxruntime",
        CHINESE,
    ),
    "doctor": (f"doctor --model {{model}} --images {{image}} --texts {PERSIAN} {EMOJI}", PERSIAN),
    "models list": ("models list", "starter"),
    "models info": ("models info {model}", NAME),
    "models verify": ("models verify {model}", NAME),
    "models convert": (f"models convert {{checkpoint}} -o converted --name {PERSIAN}", PERSIAN),
    "models export": ("models export {model} -o exported.tar", NAME),
    "models import": (f"models import carried.tar -o {EMOJI}-brought", EMOJI),
    "report": ("report results.jsonl", NAME),
    "devices": ("devices", ""),
}
# These need a hub, and print through the same function: tests/test_cli_models.py runs them.
ELSEWHERE = {"models pull", "models remove"}


NO_JSON = {"completion", "serve"}
"""One prints a shell's script, the other answers over HTTP."""


def test_every_command_is_in_the_table() -> None:
    commands = set(COMMANDS) - set(NESTED) | {f"models {name}" for name in ACTIONS}
    assert commands <= set(ROWS) | ELSEWHERE | NO_JSON


def run_under_ascii(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> bytes:
    """Run a command whose stdout takes ASCII only, as with PYTHONIOENCODING=ascii; return what it printed."""
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert main(command) in (0, 1)  # 1: what doctor and compare say of such texts is not the matter here
    stdout.flush()
    return raw.getvalue()


def parse(content: bytes) -> Any:
    """Parse as a strict parser does: ASCII, no NaN, no half of a character."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    value = json.loads(content.decode("ascii"), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()  # fails on a lone surrogate
    return value


@pytest.mark.parametrize("name", [name for name in ROWS if name.partition(" ")[0] in COMMANDS])
def test_the_json_of_a_command_is_json_under_ascii(
    name: str, home: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "compare":
        pytest.importorskip("onnxruntime")
    places = {
        "{image}": home / "set" / CHINESE / f"{EMOJI}.png",
        "{model}": home / EMOJI,
        "{home}": home,
        "{checkpoint}": tiny_checkpoint,
        "classified.jsonl": tmp_path / NAME / "classified.jsonl",
        **{name: tmp_path / NAME / name for name in ("vectors", "compared", "converted", "exported.tar")},
        f"{EMOJI}-brought": tmp_path / NAME / f"{EMOJI}-brought",
    }
    (tmp_path / NAME).mkdir()
    command, held = ROWS[name]
    chosen = [str(places.get(word, home / word if (home / word).exists() else word)) for word in command.split()]
    content = run_under_ascii(monkeypatch, [*chosen, "--json"])
    assert held in json.dumps(parse(content), ensure_ascii=False)


def test_json_is_json_in_a_process_of_its_own_too(home: Path) -> None:
    """Through Python's own reading of the environment, not ours; JSON lines in a file are UTF-8 all the same."""
    output = home / "own.jsonl"
    command = [*classify(home, output), "--json"]
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = children.run(
        [sys.executable, "-m", "clipworks", *command], capture_output=True, env={**os.environ, **plain}, check=True
    )
    assert parse(done.stdout)["output"] == str(output)
    lines = [json.loads(line) for line in output.read_bytes().decode("utf-8").splitlines()]
    assert {line["path"] for line in lines} == {
        str(home / "set" / label / f"{EMOJI}.png") for label in (PERSIAN, CHINESE)
    }


def test_what_is_no_unicode_and_no_number_parses_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": "caf\udce9.png", "half": "\ud83d", "x": [float("nan"), float("inf"), 1.5]})
    text = parse(capsys.readouterr().out.encode())
    assert text == {"path": "caf\\xe9.png", "half": "\\ud83d", "x": [None, None, 1.5]}


def test_a_file_name_that_is_no_utf8_is_spelled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(path, "wb") as stream:  # noqa: PTH123  # Path takes no bytes
            stream.write(make_image(0))
    except OSError:
        pytest.skip("this file system takes no such name")
    content = run_under_ascii(monkeypatch, ["match", os.fsdecode(path), LABELS[0], "--json", *FAKE])
    assert parse(content)["image"] == f"{tmp_path}/caf\\xe9.png"
