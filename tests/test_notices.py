"""What is quietly lost is said once: as a warning of the library, as one line on stderr of a command."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import EXAMPLE
from image_sets import write_images, write_labels

from clipworks import processor, store
from clipworks.bundle.files import read_bundle
from clipworks.cache import cache_folder, open_folder, write_checked
from clipworks.cli import main
from clipworks.errors import ClipworksWarning
from clipworks.options import RuntimeOptions
from clipworks.runtimes import auto, registry
from clipworks.text.prompts import read_labels
from clipworks.text.tokenizers import open_tokenizer

FAKE = ("--runtime", "fake")


@pytest.fixture
def notes(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command that ends well; return what it noted on stderr."""

    def run(*words: str) -> list[str]:
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert "note:" not in out
        return [line.removeprefix("note: ") for line in err.splitlines() if line.startswith("note: ")]

    return run


def test_texts_that_the_tokenizer_does_not_know_are_told_once(notes: Callable[..., list[str]]) -> None:
    (note,) = notes("match", str(EXAMPLE), "a dog", "你好", "猫", "--json", *FAKE)
    assert note.startswith(
        "the tokenizer of this model cannot read '你好' and 1 more: words that it does not know are all"
    )


def test_a_word_that_is_not_known_is_told_within_a_prompt(tmp_path: Path, notes: Callable[..., list[str]]) -> None:
    """As classes are in templates: all that differs between two prompts is the unknown word."""
    write_images(tmp_path / "set", 2)
    (tmp_path / "labels.txt").write_text("猫\n狗\n", encoding="utf-8")
    source = (str(tmp_path / "set"), "--labels", str(tmp_path / "labels.txt"), "-o", str(tmp_path / "r.jsonl"))
    (note,) = notes("classify", *source, "--templates", "openai-7", *FAKE)
    assert "cannot read" in note
    assert "猫" in note


READABLE = ["a dog", "naïve café in Łódź", "سلام دنیا", "می‌روم", "кошка", "🐶", "“quotes” – dash…", "½ €"]
BYTES = ["猫", "你好世界", "ねこ", "고양이", "Ελλάδα", "🦩", "a photo of a 猫."]


@pytest.mark.parametrize("text", READABLE)
def test_what_clips_vocabulary_has_is_no_matter(text: str, clip_bundle: Path) -> None:
    tokenizer = open_tokenizer(None, read_bundle(clip_bundle).card.text)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ClipworksWarning)
        tokenizer.encode([text])


@pytest.mark.parametrize("text", BYTES)
def test_characters_that_clips_vocabulary_lacks_are_told(text: str, clip_bundle: Path) -> None:
    tokenizer = open_tokenizer(None, dataclasses.replace(read_bundle(clip_bundle).card.text, context=77))
    with pytest.warns(ClipworksWarning, match=f"cannot read '{text}': characters .* are read byte by byte"):
        tokenizer.encode(["a dog", text])


def test_names_of_several_classes_are_told(tmp_path: Path) -> None:
    """Also composed and decomposed, which look the same; not those of the built-in sets, of which it is known."""
    path = tmp_path / "labels.txt"
    path.write_text("cat\ncafé\ndog\ncafe\u0301\ndog\n", encoding="utf-8")
    with pytest.warns(ClipworksWarning, match="labels.txt gives the name 'café' and 1 more to several classes"):
        assert len(read_labels(str(path))) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error", ClipworksWarning)
        read_labels("imagenet-synsets")
        read_labels(str(write_labels(path)))


def test_a_relative_cache_is_taken_from_here_on_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Callable[..., list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPWORKS_CACHE", "mine")
    (note,) = notes("match", str(EXAMPLE), "a dog", *FAKE)
    assert note.startswith(f"CLIPWORKS_CACHE is the relative path 'mine': taken as {tmp_path / 'mine'}")
    assert (tmp_path / "mine" / "verified").is_dir()


def test_a_cache_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Callable[..., list[str]]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "file"))
    (note,) = notes("match", str(EXAMPLE), "a dog", *FAKE)
    assert note.startswith(f"nothing can be kept in the cache ({tmp_path / 'file'}: Not a directory)")
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "cache"))
    folder = open_folder("full")
    assert folder is not None
    shutil.rmtree(folder)
    with pytest.warns(ClipworksWarning, match=r"nothing can be kept in the cache \(.*cache: No such file"):
        write_checked(folder / "x.y", b"body", keep=1)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, and no entry for the user in the system's list: `Path.home` finds nothing."""
    for name in ("CLIPWORKS_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(RuntimeError):
        Path.home()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_all_works_that_needs_none(
    tmp_path: Path, clip_bundle: Path, notes: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "set", 3)
    labels, results = str(write_labels(tmp_path / "labels.txt")), str(tmp_path / "r.jsonl")
    for action in (["list"], ["list", "--here", "--json"], ["info", "openai-b-32"], ["verify", str(clip_bundle)]):
        assert notes("models", *action) == []
    (note,) = notes("classify", str(tmp_path / "set"), "--labels", labels, "-o", results, *FAKE)
    assert note.startswith("nothing can be kept in the cache (there is no home folder for a cache)")
    assert notes("evaluate", results) == []
    assert notes("report", results) == []
    assert len(notes("profile", "image", *FAKE, "--duration", "0", "--iterations", "1", "--warmup", "0")) == 1
    assert len(notes("embed", str(tmp_path / "set"), "-o", str(tmp_path / "vectors"), *FAKE)) == 1
    for action, said in [
        (["verify", "openai-b-32"], "openai-b-32 is not here"),
        (["pull", "openai-b-32", "--offline"], "there is no home folder for a cache"),
        (["remove", "openai-b-32"], "there is no home folder for a cache"),
        (["info", "~/model"], "there is no home folder for '~/model'"),
    ]:
        assert main(["models", *action]) == 2
        assert said in capsys.readouterr().err.splitlines()[0]
    assert main(["match", str(EXAMPLE), "a dog", "--model", "openai-b-32", "--offline"]) == 2
    assert "there is no home folder for a cache" in capsys.readouterr().err


@pytest.fixture
def uncompiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an x86 CPU with AVX2 and without a C compiler, with a cache of its own."""
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "cache"))
    found = processor.describe_processor()._replace(instruction_sets=("avx2", "avx512f"))
    monkeypatch.setattr(registry, "describe_processor", lambda: found)
    for name in ("clipworks.runtimes.native._towers", "clipworks.runtimes.native.opening"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "clipworks.runtimes.native._towers" else found
    )


@pytest.mark.usefixtures("uncompiled")
def test_a_missing_compiler_is_told_once_where_it_costs(clip_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_bundle(clip_bundle)

    def choose(model: str | Path = clip_bundle, **asked: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            auto.choose_for(store.open_bundle(str(model)), RuntimeOptions(**asked))
        for one in told:  # as the command line does once it has shown it
            assert isinstance(one.message, ClipworksWarning)
            Path(str(one.message.mark)).touch()
        return [str(one.message) for one in told]

    assert bundle.card.name
    assert choose("starter") == []  # native does not run it
    assert choose(device="gpu") == []
    assert choose(runtime="fake") == []
    with monkeypatch.context() as other:
        plain = processor.describe_processor()._replace(instruction_sets=())
        other.setattr(registry, "describe_processor", lambda: plain)
        assert choose() == []
    assert [text.partition(":")[0] for text in choose()] == [
        "clipworks was installed without its compiled module, for want of a C compiler"
    ]
    assert choose() == []
    (cache_folder() / "said" / "native-missing").unlink()
    assert len(choose()) == 1


def test_a_warning_of_ours_is_one_note_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str]) -> int:
        for _ in range(2):
            warnings.warn("something is lost", ClipworksWarning, stacklevel=1)
        return len(words)

    from clipworks.cli import run_guarded

    assert run_guarded("clipworks", run, []) == 0
    assert capsys.readouterr().err == "note: something is lost\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run_guarded("clipworks", run, []) == 0
    assert capsys.readouterr().err == "\r\x1b[Knote: something is lost\n"
