"""Messages that do not mislead: what is wrong is named, and a hint names only what this command has."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAMPLE
from option_effects import run
from test_convert_adopt import CARD

import clipworks
from clipworks import RuntimeOptions
from clipworks.bundle.card_json import card_to_json
from clipworks.cli import main, profile
from clipworks.endings import check_writable
from clipworks.errors import BundleError, ClipworksError, DownloadError, TextError, UsageError
from clipworks.profiling.profile import Load
from clipworks.profiling.search import RateSearch, Slo, Trial
from clipworks.report.rates import show_search
from clipworks.results.journal import compare_settings
from clipworks.store import open_bundle
from clipworks.store.hub import list_repository

FAKE = ("--runtime", "fake")
LONG = "dog " * 200
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 605247071\n"
PAGE = b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n"
STAND_INS = [
    (POINTER, "it is a Git LFS pointer (run 'git lfs pull')"),
    (PAGE, "it is an HTML page"),
    (b"", "it is empty"),
]


def test_a_hint_names_only_an_option_that_the_command_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip_bundle: Path
) -> None:
    model = ("--model", clip_bundle, *FAKE)
    _, _, err = run(capsys, "match", EXAMPLE, LONG, *model)
    assert err.endswith("\n  hint: shorten it, or let it be cut: --truncate\n")
    (tmp_path / "texts.txt").write_text(f"{LONG}\n")
    _, _, err = run(capsys, "profile", "text", "--texts", tmp_path / "texts.txt", *model)
    assert "has 202 tokens; the model takes at most" in err
    assert err.endswith("\n  hint: shorten it\n")


@pytest.mark.parametrize(
    ("words", "content", "place"),
    [
        (("match", EXAMPLE, "--texts-file", "FILE"), f"a\n\n{LONG}\n", "file.txt, line 3: 'dog dog"),
        (("match", EXAMPLE, "--texts-file", "FILE"), json.dumps(["a", LONG], indent=1), "file.txt, line 3: 'dog dog"),
        (("match", EXAMPLE, "--texts-file", "FILE:name"), f"id,name\n1,a\n2,{LONG}\n", "file.txt, line 3: 'dog dog"),
        (("classify", EXAMPLE, "--labels", "FILE", "-o", "out.jsonl"), f"a\n{LONG}\n", "line 2: 'a photo of a dog"),
        (("retrieve", "FILE"), f"{EXAMPLE}\ta\n{EXAMPLE}\t{LONG}\n", "file.txt, line 2: 'dog dog"),
        (("profile", "text", "--texts", "FILE"), f"a\n{LONG}\n", "file.txt, line 2: 'dog dog"),
        (("match", EXAMPLE, "--texts-file", "FILE", "--texts", LONG), "a\n", "clipworks: texts[0] 'dog dog"),
    ],
    ids=["lines", "JSON", "table", "class names", "captions", "prompts", "of the command line"],
)
def test_a_text_that_is_too_long_is_told_with_its_file_and_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clip_bundle: Path,
    words: tuple[str, ...],
    content: str,
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text(content)
    given = [str(word).replace("FILE", "file.txt") for word in words]
    status, _, err = run(capsys, *given, "--model", clip_bundle, *FAKE)
    assert status == 1
    assert place in err
    assert " tokens; the model takes at most" in err


def test_in_python_the_hint_names_the_argument(clip_bundle: Path) -> None:
    options = RuntimeOptions(runtime="fake")
    with pytest.raises(TextError) as caught, clipworks.load(clip_bundle, options, towers="text") as model:
        model.embed_texts(LONG)
    assert caught.value.hint == "shorten it, or let it be cut: truncate=True"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.hint, again.argument) == (caught.value.message, caught.value.hint, "truncate")


@pytest.mark.parametrize(("content", "said"), STAND_INS)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_what_stands_in_the_place_of_a_checkpoint_s_file_is_named(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path, file: str, content: bytes, said: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / file).write_bytes(content)
    status, _, err = run(capsys, "models", "convert", folder, "-o", tmp_path / "out")
    assert status == 1
    assert f"{folder / file} cannot be read as " in err
    assert said in err


@pytest.mark.parametrize(("content", "said"), STAND_INS)
def test_what_stands_in_the_place_of_a_graph_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, said: str
) -> None:
    source = tmp_path / "onnx"
    source.mkdir()
    for name in ("vision_model.onnx", "text_model.onnx"):
        (source / name).write_bytes(content)
    (tmp_path / "card.json").write_text(card_to_json(CARD))
    words = ("models", "convert", tmp_path, "--card", tmp_path / "card.json", "-o", tmp_path / "out")
    status, _, err = run(capsys, *words)
    assert status == 1
    assert f"{source / 'vision_model.onnx'} cannot be read as an ONNX graph: {said}" in err


@pytest.mark.parametrize(("content", "said"), STAND_INS)
def test_what_stands_in_the_place_of_a_pytorch_file_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    _, _, err = run(capsys, "models", "convert", tmp_path / "model.pt", "-o", tmp_path / "out")
    assert f"model.pt holds no weights: {said}; allowed: .safetensors" in err


def test_a_cloned_bundle_without_its_large_files_is_named(clip_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_bundle, tmp_path / "clone")
    (tmp_path / "clone" / "image.safetensors").write_bytes(POINTER)
    with pytest.raises(BundleError, match=r"image\.safetensors has \d+ bytes, .*: it is a Git LFS pointer"):
        open_bundle(str(tmp_path / "clone"))


def test_a_folder_that_is_no_checkpoint_says_what_is_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _, _, err = run(capsys, "models", "convert", folder, "-o", tmp_path / "out")
    assert "holds no checkpoint; " in err
    assert "; found: nothing\n" in err
    (folder / "checkpoints").mkdir()
    for number in range(10):
        (folder / f"epoch_{number}.ckpt").write_bytes(b"")
    _, _, err = run(capsys, "models", "convert", folder, "-o", tmp_path / "out")
    assert "; found: checkpoints/, epoch_0.ckpt, epoch_1.ckpt, " in err
    assert err.endswith(" and 3 more\n")


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("https://huggingface.co/openai/clip-vit-base-patch32", "that model's hub id is openai/clip-vit-base-patch32"),
        ("https://hf-mirror.com/openai/clip-vit-base-patch32/tree/main", "hub id is openai/clip-vit-base-patch32"),
        ("s3://bucket/model", "copy its files to this machine"),
        ("https://example.com/model.pt", "copy its files to this machine"),
    ],
)
@pytest.mark.parametrize("words", [("match", EXAMPLE, "a dog", "--model"), ("models", "pull"), ("models", "info")])
def test_a_url_is_no_model(capsys: pytest.CaptureFixture[str], model: str, hint: str, words: tuple[str, ...]) -> None:
    status, _, err = run(capsys, *words, model)
    assert status == 2
    assert (
        f"{model} is a URL; allowed: a known name, a hub id (owner/name), or a bundle's folder on this machine" in err
    )
    assert hint in err


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), "needs the package socksio"),
        (ValueError("Unknown scheme for proxy URL URL('ftp://x')"), "Unknown scheme for proxy URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.utils._http._global_client_factory", refuse, raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    monkeypatch.setattr("huggingface_hub.get_session", refuse)
    with pytest.raises(DownloadError, match=said) as caught:
        list_repository("someone/tiny-clip", None)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_failed_download_names_the_page_for_it(
    capsys: pytest.CaptureFixture[str], hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    status, _, err = run(capsys, "models", "pull", "someone/tiny-clip")
    assert status == 1
    assert "docs/offline.md" in err
    assert (Path(__file__).parent.parent / "docs" / "offline.md").is_file()
    assert hub.requests == []


WRITERS: list[Callable[[Path], tuple[object, ...]]] = [
    lambda place: ("classify", EXAMPLE.parent, "--labels", "imagenet", "-o", place / "r.jsonl"),
    lambda place: ("embed", EXAMPLE.parent, "-o", place / "vectors"),
    lambda place: ("compare", EXAMPLE.parent, "--labels", "imagenet", "-o", place / "found"),
    lambda place: ("models", "convert", "starter", "-o", place / "out"),
    lambda place: ("models", "export", "starter", "-o", place / "out.tar"),
    lambda place: ("report", EXAMPLE, "-o", place / "page.md"),
    lambda place: ("doctor", "--dump", place / "dump.npz"),
]


@pytest.mark.parametrize("make", WRITERS, ids=lambda make: make(Path("x"))[0])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make: Callable[[Path], tuple[object, ...]],
) -> None:
    """A read-only place is simulated: root may write everywhere."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and may(path, mode))
    monkeypatch.setattr("clipworks.store.open_bundle", lambda *_, **__: pytest.fail("a model was opened"))
    status, out, err = run(capsys, *make(tmp_path))
    assert (status, out) == (2, "")
    assert f"cannot be written: {tmp_path} is no folder that may be written to" in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_above_may_be_made_where_the_command_makes_it(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "a" / "b"), parents=True)
    with pytest.raises(UsageError, match="a does not exist"):
        check_writable(str(tmp_path / "a" / "b"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is no folder that may be written to"):
        check_writable(str(tmp_path / "file" / "b"), parents=True)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"top": 5}, {"top": 3}, "top was 5 and is 3"),
        (
            {"labels_sha256": "a", "classifier_sha256": "a"},
            {"labels_sha256": "b", "classifier_sha256": "b"},
            "the class names changed",
        ),
        ({"classifier_sha256": "a"}, {"classifier_sha256": "b"}, "the zero-shot classifier changed"),
        (
            {"packages": {"numpy": "1", "pillow": "2"}},
            {"packages": {"numpy": "3", "pillow": "2"}},
            "packages: numpy was 1 and is 3",
        ),
        ({"isa": ["avx2", "amx_bf16"]}, {"isa": ["avx2", "avx512f"]}, "isa: no longer amx_bf16, now also avx512f"),
        ({"isa": ["avx2"]}, {"isa": ["avx2", "sve"]}, "isa: now also sve"),
        ({"root": None}, {"root": "set"}, "root was not set and is set"),
    ],
)
def test_settings_that_differ_are_named_and_nothing_else(before: Any, now: Any, said: str) -> None:
    manifest = {"format": 1, "settings": {"model": "starter", **before}}
    with pytest.raises(UsageError) as caught:
        compare_settings("r.jsonl", manifest, {"model": "starter", **now})
    assert caught.value.message == f"r.jsonl was begun with other settings: {said}"


def test_a_search_with_too_few_samples_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = ["broken"]
    monkeypatch.setattr("clipworks.report.rates._judge", lambda *_: judged[0])
    monkeypatch.setattr("clipworks.report.rates._say_capacity", lambda _: "")
    monkeypatch.setattr("clipworks.report.rates._tabulate_trials", lambda _: None)
    trial = Trial(rate=1.0, run=None, kept=False)  # type: ignore[arg-type]  # not looked at
    search = RateSearch(slo=Slo(percent=99, bound_us=50_000), best=None, lowest_failed=None, trials=(trial,))

    def say() -> str:
        return show_search(None, search).sections[0].text[1]  # type: ignore[arg-type]  # as above

    assert say() == "No rate that was tried keeps p99 within 50 ms."
    judged[0] = "undecided: too few samples"
    assert say() == "Undecided: too few samples to say whether any rate keeps p99 within 50 ms; measure longer."


@pytest.mark.parametrize(
    ("elapsed_s", "load", "said"),
    [
        (2.0, Load(duration_s=5), "2 of 5 s"),
        (7.0, Load(duration_s=5), "7 s of at most 30, until it is stable"),
        (7.0, Load(duration_s=5, timeout_s=9), "7 s of at most 9, until it is stable"),
        (7.0, Load(duration_s=0), "7 s"),
    ],
)
def test_progress_of_a_measurement_says_of_how_much(elapsed_s: float, load: Load, said: str) -> None:
    assert profile._say_time(elapsed_s, load) == said


def test_progress_of_a_download_says_of_how_many_files(hub: Any) -> None:
    from clipworks.store.pulling import pull_model

    said: list[str] = []
    pull_model("someone/tiny-clip", progress=said.append)
    count = len({line.split(": ")[2].split()[0] for line in said if line.startswith("file ")})
    assert any(line.startswith(f"file {count} of {count}: someone/tiny-clip: ") for line in said)
    assert hub.requests


def test_an_error_of_the_system_is_told_with_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/file")

    monkeypatch.setattr("clipworks.cli.models.run", fail)
    assert main(["models", "list"]) == 1
    assert capsys.readouterr().err == "clipworks: /somewhere/file: Permission denied\n"


def test_an_error_keeps_its_argument_through_json_and_pickle() -> None:
    error = ClipworksError("wrong", hint="do it", argument="truncate")
    assert json.dumps(str(error)) == '"wrong"'
    assert pickle.loads(pickle.dumps(error)).argument == "truncate"
