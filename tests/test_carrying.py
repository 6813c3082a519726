"""Models without the hub: carried over in one file, or in a folder that a team shares."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from option_effects import read, run

from clipworks import store
from clipworks.bundle.files import CARD_FILE
from clipworks.errors import BundleError, UsageError
from clipworks.store.archives import pack_bundle, unpack_bundle
from clipworks.store.known import models_folder
from clipworks.store.listing import find_bundle

FAKE = ("--runtime", "fake")


@pytest.fixture
def archive(clip_bundle: Path, tmp_path: Path) -> Path:
    """A small model in one file."""
    pack_bundle(store.open_bundle(str(clip_bundle)), tmp_path / "model.tar")
    return tmp_path / "model.tar"


@pytest.mark.shows("models export NAME", "models export --output", "models import FILE", "models import --output")
def test_a_model_is_carried_over_in_one_file(
    capsys: pytest.CaptureFixture[str], clip_bundle: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "model.tar", tmp_path / "there"
    said = read(capsys, "models", "export", clip_bundle, "-o", file)
    assert said == f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}\n"  # as sha256sum -c reads it
    assert read(capsys, "models", "import", file, "-o", folder) == f"bundle\t{folder}\n"
    before, after = ({path.name: path.read_bytes() for path in one.iterdir()} for one in (clip_bundle, folder))
    assert before == after
    again = tmp_path / "again.tar"
    read(capsys, "models", "export", folder, "-o", again)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.shows("models import --force", "models import --json", "models export --json")
def test_what_is_here_is_replaced_only_when_asked(
    capsys: pytest.CaptureFixture[str], clip_bundle: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "model.tar", tmp_path / "there"
    found = json.loads(read(capsys, "models", "export", clip_bundle, "-o", file, "--json"))
    assert (found["bytes"], found["output"]) == (file.stat().st_size, str(file))
    folder.mkdir()
    status, _, err = run(capsys, "models", "import", file, "-o", folder)
    assert (status, f"{folder} exists already" in err) == (1, True)
    taken = json.loads(read(capsys, "models", "import", file, "-o", folder, "--force", "--json"))
    assert (taken["folder"], taken["card_sha256"]) == (str(folder), found["card_sha256"])


@pytest.mark.usefixtures("hub")
def test_a_pulled_model_goes_where_pull_would_have_put_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(capsys, "models", "pull", "someone/tiny-clip")
    read(capsys, "models", "export", "someone/tiny-clip", "-o", tmp_path / "model.tar")
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "island"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_bundle("someone/tiny-clip") is None
    read(capsys, "models", "import", tmp_path / "model.tar")
    found = find_bundle("someone/tiny-clip")
    assert found is not None
    assert found.folder == models_folder() / "someone--tiny-clip"
    assert [path.name for path in models_folder().iterdir()] == ["someone--tiny-clip"]


def test_a_name_that_the_cache_has_no_place_for_needs_a_folder(
    capsys: pytest.CaptureFixture[str], archive: Path
) -> None:
    status, _, err = run(capsys, "models", "import", archive)
    assert status == 2
    assert "the model's name is bundle, which is no known name and no hub id" in err
    assert "-o FOLDER" in err


def test_damage_on_the_way_is_found(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    (tmp_path / "there").mkdir()
    with pytest.raises(BundleError, match=r"is damaged: .* has SHA-256"):
        unpack_bundle(archive, tmp_path / "there")


def test_a_file_that_was_cut_short_leaves_nothing(
    capsys: pytest.CaptureFixture[str], archive: Path, tmp_path: Path
) -> None:
    archive.write_bytes(archive.read_bytes()[:-30_000])
    status, _, err = run(capsys, "models", "import", archive, "-o", tmp_path / "there")
    assert (status, len(err.splitlines())) in ((1, 1), (1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "extra.bin"])
def test_a_file_that_the_card_does_not_know_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(archive, "a") as stream:
        stream.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "there").mkdir()
    with pytest.raises(BundleError, match="its card does not"):
        unpack_bundle(archive, tmp_path / "there")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 10_240])
def test_another_file_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.tar").write_bytes(content)
    (tmp_path / "there").mkdir()
    with pytest.raises(BundleError, match=r"other\.tar is no bundle in one file"):
        unpack_bundle(tmp_path / "other.tar", tmp_path / "there")
    with pytest.raises(UsageError, match=r"missing\.tar does not exist"):
        unpack_bundle(tmp_path / "missing.tar", tmp_path / "there")


@pytest.mark.usefixtures("hub")
def test_a_team_shares_a_folder_of_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Path
) -> None:
    read(capsys, "models", "pull", "someone/tiny-clip")
    shared = models_folder()
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "own"))
    match = ("match", photo_file, "a dog", "--model", "someone/tiny-clip", "--offline", *FAKE)
    assert run(capsys, *match)[0] == 1
    monkeypatch.setenv("CLIPWORKS_MODELS", str(shared))
    before = sorted(path for path in shared.rglob("*"))
    assert run(capsys, *match)[0] == 0
    assert "someone/tiny-clip\there" in read(capsys, "models", "list", "--here")
    cache = json.loads(read(capsys, "devices", "--json"))["cache"]
    assert (cache["shared"], [model["name"] for model in cache["models"]]) == (str(shared), ["someone/tiny-clip"])
    said = read(capsys, "devices")
    assert f"shared models     {shared}" in said
    assert said.partition("\nModels here:\n")[2].split()[:5] == ["name", "state", "MB", "folder", "someone/tiny-clip"]
    assert sorted(path for path in shared.rglob("*")) == before
    assert (shared / "someone--tiny-clip" / CARD_FILE).is_file()


def test_force_replaces_a_bundle_and_nothing_else(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of photographs that the output is called by mistake is not a model that is here already."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_text("dear")
    status, _, err = run(capsys, "models", "import", archive, "--force", "-o", tmp_path / "photographs")
    assert (status, "photographs is no bundle and is not replaced" in err) == (1, True)
    assert (tmp_path / "photographs" / "one.jpg").read_text() == "dear"
    status, _, err = run(capsys, "models", "import", archive, "--force", "-o", ".")
    assert (status, ". has no name of its own" in err) == (1, True)
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert run(capsys, "models", "import", archive, "--force", "-o", tmp_path / "empty")[0] == 0
