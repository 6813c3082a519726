"""clipworks models: what each subcommand prints and how it ends."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from convert_checkpoints import MODELS, write_huggingface
from hub_server import TINY, Hub
from PIL import Image
from test_convert_adopt import CARD, make_image_tower, make_text_tower

from clipworks import load
from clipworks.bundle.card_json import card_to_json
from clipworks.cli import main
from clipworks.errors import UsageError
from clipworks.store.known import STARTER_FOLDER, known_models, models_folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run ``clipworks models`` in this process; return its status, stdout and stderr."""
    try:
        status = main(["models", *words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def test_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--help")
    assert (status, err) == (0, "")
    for action in ("list", "info", "pull", "verify", "convert", "remove"):
        assert f"\n    {action} " in out
        assert run(capsys, action, "--help")[0] == 0


@pytest.mark.parametrize("words", [(), ("fetch",), ("info",), ("pull",), ("convert", "x")])
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("clipworks models")
    assert err.count("\n") == 1


def test_the_list_has_a_line_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "list")
    assert (status, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows[:1]] == ["starter"]
    assert {"openai-b-32", "known", "151 M", "224", "63.3%", "MIT"} in [set(row) for row in rows]
    assert len(rows) == 1 + len(known_models())


@pytest.mark.shows("models list --here")
def test_the_list_on_a_terminal_has_a_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, _ = run(capsys, "list", "--here")
    lines = out.splitlines()
    assert lines[0].split() == ["name", "state", "parameters", "pixels", "ImageNet", "top-1", "licence"]
    assert [line.split()[0] for line in lines[1:]] == ["starter"]


@pytest.mark.shows("models list --all")
def test_the_list_has_what_is_refused_and_loading_one_gives_the_same_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, listed = run(capsys, "list")[1].splitlines(), run(capsys, "list", "--all")[1].splitlines()
    rows = [line.split("\t") for line in listed]
    assert ["\t".join(row[:-1]) for row in rows[: len(plain)]] == plain
    assert {row[-1] for row in rows[: len(plain)]} == {"-"}
    refused = {row[0]: row[-1] for row in rows[len(plain) :]}
    for name in ("google/siglip2-base-patch16-naflex", "jinaai/jina-clip-v2", "nomic-ai/nomic-embed-vision-v1.5"):
        assert name in refused
    for name, why in refused.items():
        message = f"{name} is refused: {why}"
        for words in (("pull", name), ("info", f"{name}@main"), ("pull", name.upper())):
            status, _, err = run(capsys, *words)
            assert (status, message.lower() in err.lower()) == (2, True)
        with pytest.raises(UsageError, match=re.escape(message)):
            load(name)
    models = json.loads(run(capsys, "list", "--all", "--json")[1])
    assert {model["name"]: model["why"] for model in models if model["state"] == "refused"} == refused
    assert run(capsys, "list", "--all", "--here")[0] == 2
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    shown = " ".join(run(capsys, "list", "--all")[1].split())
    assert "a NaFlex model" in shown


@pytest.mark.shows("models list --json")
def test_the_list_as_json_has_the_same_models(capsys: pytest.CaptureFixture[str]) -> None:
    models = json.loads(run(capsys, "list", "--json")[1])
    assert models[0]["folder"] == str(STARTER_FOLDER)
    assert [model["name"] for model in models[1:]] == list(known_models())
    assert models[1]["imagenet_top1"] == known_models()[models[1]["name"]].published[0].imagenet_top1


@pytest.mark.shows("models info NAME", "models info --json")
def test_info_of_a_known_model_says_that_it_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "info", "ViT-B/32")
    assert status == 0
    assert "folder       not here" in out.splitlines()
    assert "licence      MIT" in out.splitlines()
    facts = json.loads(run(capsys, "info", "ViT-B/32", "--json")[1])
    assert (facts["folder"], facts["parameters"]) == (None, 151_277_313)


def test_info_of_a_bundle_is_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(run(capsys, "info", "starter", "--json")[1])
    assert (facts["name"], facts["folder"]) == ("starter", str(STARTER_FOLDER))
    status, out, _ = run(capsys, "info", str(STARTER_FOLDER))
    assert status == 0
    assert f"folder          {STARTER_FOLDER}" in out


def test_info_of_an_unknown_model_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "info", "openai-b32")
    assert status == 2
    assert "did you mean 'openai-b-32'?" in err
    assert run(capsys, "info", "some/body")[2].splitlines()[1] == "  hint: clipworks models pull some/body"


@pytest.mark.usefixtures("hub")
@pytest.mark.shows(
    "models pull NAME", "models verify NAME", "models verify --images", "models verify --json", "models remove NAME"
)
def test_pull_verify_info_remove(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path) -> None:
    """The life of a model: pulled, proved against its checkpoint, shown, removed."""
    folder = models_folder() / TINY.replace("/", "--")
    assert run(capsys, "pull", TINY) == (0, f"{TINY}\t{folder}\n", "")
    assert run(capsys, "verify", TINY)[:2] == (0, f"{TINY}: 3 files have the SHA-256 that the card records\n")
    status, out, _ = run(capsys, "verify", TINY, "--against", str(tiny_checkpoint), "--images", "1", "--json")
    report = json.loads(out)
    assert (status, report["equal"], report["images"], report["precision"]) == (0, True, 1, "f32")
    assert json.loads(run(capsys, "info", TINY, "--json")[1])["source"]["hub"] == TINY
    assert run(capsys, "remove", TINY) == (0, f"removed\t{folder}\n", "")
    assert run(capsys, "verify", TINY)[0] == 2


def test_offline_pull_fails_with_one_line_and_a_hint(capsys: pytest.CaptureFixture[str], hub: Hub) -> None:
    status, out, err = run(capsys, "pull", TINY, "--offline")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"clipworks: {TINY} is not here, and asking the hub is forbidden (--offline or HF_HUB_OFFLINE)",
        f"  hint: when online, run: clipworks models pull {TINY}",
    ]
    assert hub.requests == []


@pytest.mark.shows(
    "models convert SOURCE", "models convert --output", "models convert --name", "models convert --force"
)
def test_convert_writes_a_bundle_once(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    assert run(capsys, "convert", str(tiny_checkpoint), "-o", str(bundle), "--name", "mine") == (
        0,
        f"mine\t{bundle}\n",
        "",
    )
    status, _, err = run(capsys, "convert", str(tiny_checkpoint), "-o", str(bundle))
    assert status == 1
    assert "exists already" in err
    assert run(capsys, "convert", str(tiny_checkpoint), "-o", str(bundle), "--force", "--json")[0] == 0
    status, out, _ = run(capsys, "verify", str(bundle), "--against", str(tiny_checkpoint), "--images", "1")
    assert status == 0
    assert out.splitlines()[1].endswith(": equal")


@pytest.mark.shows("models convert --card")
def test_convert_takes_ready_made_towers_with_a_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without a card it says what is missing; a card that cannot be read is named."""
    source, bundle, card = tmp_path / "theirs", tmp_path / "bundle", tmp_path / "card.json"
    make_image_tower(source / "onnx" / "vision_model.onnx")
    make_text_tower(source / "onnx" / "text_model.onnx")
    words = ("convert", str(source), "-o", str(bundle))
    status, _, err = run(capsys, *words)
    assert status == 2
    assert "holds ready-made ONNX towers" in err
    assert f"{card} does not exist; allowed: a card" in run(capsys, *words, "--card", str(card))[2]
    card.write_bytes(b"\xff")
    assert "cannot be read" in run(capsys, *words, "--card", str(card))[2]
    card.write_text(card_to_json(CARD))
    assert run(capsys, *words, "--card", str(card)) == (0, f"theirs\t{bundle}\n", "")


@pytest.mark.usefixtures("plain_rounding")
@pytest.mark.shows("models convert --precision", "models convert --images")
def test_convert_adds_int8_towers(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path, photo: Image.Image
) -> None:
    """From a checkpoint, or from a bundle that is here already; the f32 towers stay beside them."""
    (tmp_path / "photos").mkdir()
    for number in range(16):
        photo.rotate(20 * number).save(tmp_path / "photos" / f"{number}.png")
    plain, small, added = (str(tmp_path / name) for name in ("plain", "small", "added"))
    int8 = ("--precision", "int8", "--images", str(tmp_path / "photos"))
    assert run(capsys, "convert", str(tiny_checkpoint), "-o", small, *int8) == (0, f"small\t{small}\n", "")
    run(capsys, "convert", str(tiny_checkpoint), "-o", plain)
    assert run(capsys, "convert", plain, "-o", added, *int8) == (0, f"plain\t{added}\n", "")
    for folder in (small, added):
        towers = json.loads(run(capsys, "info", folder, "--json")[1])["towers"]
        assert set(towers) == {"f32", "int8"}
        assert run(capsys, "verify", folder)[0] == 0
    assert "is a bundle already" in run(capsys, "convert", plain, "-o", str(tmp_path / "more"))[2]
    starter = run(capsys, "convert", "starter", "-o", str(tmp_path / "more"))[2]
    assert "starter is a bundle already" in starter
    assert "a model that it made from a checkpoint, not to this one" in starter
    assert run(capsys, "pull", "starter")[2].startswith("clipworks: starter comes with clipworks")


def test_int8_needs_images_to_calibrate_on(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path, photo_file: Path
) -> None:
    """Without them, or with too few, nothing is written."""
    bundle = tmp_path / "bundle"
    words = ("convert", str(tiny_checkpoint), "-o", str(bundle))
    assert run(capsys, *words, "--precision", "int8")[0] == 2
    assert run(capsys, *words, "--images", str(tmp_path))[0] == 2
    status, _, err = run(capsys, *words, "--precision", "int8", "--images", str(photo_file.parent))
    assert status == 1
    assert "1 calibration images are too few" in err
    assert not bundle.exists()


@pytest.mark.shows("models verify --against")
def test_verify_finds_another_checkpoint_unequal(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Exit status 1, and the difference is shown."""
    other = write_huggingface(tmp_path / "other", dataclasses.replace(MODELS["quick"], seed=9))
    run(capsys, "convert", str(tiny_checkpoint), "-o", str(tmp_path / "bundle"))
    status, out, _ = run(capsys, "verify", str(tmp_path / "bundle"), "--against", str(other), "--images", "1")
    assert status == 1
    assert out.splitlines()[1].endswith(": NOT EQUAL")


def test_verify_finds_a_changed_file(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A byte changed without a change of size is found, and the file named."""
    run(capsys, "convert", str(tiny_checkpoint), "-o", str(tmp_path / "bundle"))
    path = tmp_path / "bundle" / "image.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    status, out, err = run(capsys, "verify", str(tmp_path / "bundle"))
    assert (status, out) == (1, "")
    assert "image.safetensors has SHA-256" in err
