"""Models are pulled from a hub once, whole or not at all, whatever goes wrong on the way.

No real hub is asked: a server on 127.0.0.1 speaks the part of its protocol that is used (tests/hub_server.py), and
the checkpoints are small ones with random weights.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from convert_checkpoints import MODELS, write_huggingface, write_json, write_open_clip
from hub_server import TINY, Hub, HubRepository, read_files
from safetensors.numpy import load_file
from test_convert_adopt import CARD, make_image_tower, make_text_tower
from torch_archives import write_archive

from clipworks.bundle.card import TextSpec, TowerSpec
from clipworks.bundle.files import verify_bundle
from clipworks.bundle.known_model import KnownModel
from clipworks.bundle.provenance import Source
from clipworks.errors import (
    BundleError,
    ClipworksError,
    ClipworksWarning,
    ConversionError,
    DownloadError,
    UsageError,
)
from clipworks.families.preprocessing import openai_preprocessing
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder
from clipworks.store import hub as hub_module
from clipworks.store import open_bundle
from clipworks.store.known import known_models, models_folder
from clipworks.store.listing import find_bundle, list_models, remove_model
from clipworks.store.pulling import pull_model

ID = TINY
KEY = "someone--tiny-clip"
WEIGHTS = "model.safetensors"
SMALL = MODELS["quick"]  # what the fixture ``hub`` offers
NEWER = dataclasses.replace(SMALL, seed=1)


def leftovers() -> list[str]:
    """What is in the cache besides whole bundles and locks."""
    return sorted(
        path.relative_to(models_folder()).as_posix()
        for path in models_folder().rglob("*")
        if path.is_file() and path.suffix != ".lock" and not (path.parent / "model.json").is_file()
    )


def test_a_model_is_downloaded_converted_and_kept(hub: Hub) -> None:
    """The first use pulls; the card says where every byte came from; the second use asks nobody."""
    bundle = open_bundle(ID)
    verify_bundle(bundle)
    repository = hub.repositories[ID]
    source = bundle.card.source
    assert (bundle.folder, bundle.card.name) == (models_folder() / KEY, ID)
    assert (source.hub, source.revision, source.layout) == (ID, repository.commit, "huggingface")
    assert WEIGHTS in source.files
    for name, file in source.files.items():
        content = repository.files[name]
        assert (file.sha256, file.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert not hub.transfers("README.md")
    assert leftovers() == []
    asked = len(hub.requests)
    assert open_bundle(ID).card == bundle.card
    assert len(hub.requests) == asked


@pytest.mark.usefixtures("hub")
def test_what_was_pulled_runs() -> None:
    card = pull_model(ID, check=False).card
    with_runtime = open_encoder(open_bundle(ID), "image", RuntimeOptions(runtime="onnxruntime"))
    images = np.zeros((2, card.image.size, card.image.size, 3), np.uint8)
    assert with_runtime(images).shape == (2, card.dim)
    with_runtime.close()


def test_a_short_break_is_bridged_at_once(hub: Hub) -> None:
    """A connection that breaks off is taken up where it stopped, within the same pull."""
    hub.repositories[ID].breaks = {WEIGHTS: [1_500_000]}
    pull_model(ID, check=False)
    assert hub.transfers(WEIGHTS)[0] is None
    assert [range_ for range_ in hub.transfers(WEIGHTS)[1:] if range_] != []


def test_an_interrupted_pull_is_resumed(hub: Hub) -> None:
    """After giving up, or Ctrl-C, the next pull asks for the missing bytes only."""
    hub.repositories[ID].breaks = {WEIGHTS: [2_000_000, 0, 0, 0]}
    with pytest.raises(DownloadError, match=r"cannot be reached for model\.safetensors of someone/tiny-clip") as caught:
        pull_model(ID)
    assert "resumes where it stopped" in str(caught.value.hint)
    assert not (models_folder() / KEY).exists()
    hub.repositories[ID].breaks, hub.requests[:] = {}, []
    seen: list[str] = []
    verify_bundle(pull_model(ID, progress=seen.append))
    (asked,) = hub.transfers(WEIGHTS)
    assert asked is not None
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= 2_000_000
    assert not hub.transfers("config.json")
    assert any("model.safetensors 3." in text for text in seen)
    assert leftovers() == []


def test_a_killed_process_leaves_nothing_that_harms(hub: Hub) -> None:
    """Ctrl-C in the middle of a transfer keeps what came; Ctrl-C in the conversion keeps the checkpoint."""

    def interrupt_at(word: str) -> None:
        def progress(text: str) -> None:
            if word in text:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pull_model(ID, progress=progress)

    interrupt_at("model.safetensors 2.")
    interrupt_at("converting")
    interrupt_at("comparing")
    assert not (models_folder() / KEY).exists()
    assert [model.name for model in list_models() if model.state == "damaged"] == []
    hub.requests.clear()
    verify_bundle(pull_model(ID, check=False))
    assert hub.transfers(WEIGHTS) == []


def test_a_changed_model_on_the_hub_is_not_mixed_with_the_old_one(hub: Hub, tmp_path: Path) -> None:
    """Half a download of an older commit is of no use for a newer one."""
    hub.repositories[ID].breaks = {WEIGHTS: [2_000_000, 0, 0, 0]}
    with pytest.raises(DownloadError):
        pull_model(ID)
    hub.repositories[ID] = HubRepository(files=read_files(write_huggingface(tmp_path / "newer", NEWER)))
    hub.requests.clear()
    bundle = pull_model(ID, check=False)
    assert hub.transfers(WEIGHTS) == [None]
    assert bundle.card.source.revision == hub.repositories[ID].commit


def test_damage_on_the_way_is_noticed(hub: Hub) -> None:
    """A file whose SHA-256 is not the hub's is thrown away and named."""
    hub.repositories[ID].damaged = (WEIGHTS,)
    with pytest.raises(DownloadError, match=r"model\.safetensors of someone/tiny-clip arrived with another SHA-256"):
        pull_model(ID)
    hub.repositories[ID].damaged = ()
    verify_bundle(pull_model(ID, check=False))


def test_force_pulls_again(hub: Hub, tmp_path: Path) -> None:
    """Without it a model that is here stays as it is, though the hub has a newer one."""
    old = pull_model(ID, check=False)
    hub.repositories[ID] = HubRepository(files=read_files(write_huggingface(tmp_path / "newer", NEWER)))
    assert pull_model(ID).card == old.card
    assert pull_model(ID, check=False, force=True).card.source.revision == hub.repositories[ID].commit
    assert leftovers() == []


@pytest.mark.usefixtures("hub")
def test_a_damaged_bundle_says_how_to_mend_it() -> None:
    """Opening it is an error with the way out; pulling mends it."""
    bundle = pull_model(ID, check=False)
    (bundle.folder / "text.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"is damaged: text\.safetensors has 0 bytes") as caught:
        open_bundle(ID)
    assert caught.value.hint == f"download it again: clipworks models pull {ID} --force"
    assert [model.state for model in list_models() if model.name == ID] == ["damaged"]
    verify_bundle(pull_model(ID, check=False))
    verify_bundle(open_bundle(ID))


def test_two_processes_share_one_download(hub: Hub, tmp_path: Path) -> None:
    """The second waits for the first and takes what it made; each file is transferred once."""
    script = "import sys; from clipworks.store import open_bundle; print(open_bundle(sys.argv[1]).folder)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "CLIPWORKS_CACHE": str(tmp_path / "shared"),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, ID],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert {output for output, _ in ended} == {f"{tmp_path / 'shared' / 'models' / KEY}\n"}
    assert hub.transfers(WEIGHTS) == [None]


def test_two_threads_share_one_download(hub: Hub) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(pull_model(ID, check=False).folder)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [models_folder() / KEY] * 2
    assert hub.transfers(WEIGHTS) == [None]


def test_offline_nothing_is_asked(hub: Hub) -> None:
    """--offline opens what is here and says how to get what is not."""
    with pytest.raises(DownloadError, match="is not here, and asking the hub is forbidden") as caught:
        open_bundle(ID, offline=True)
    assert caught.value.hint == f"when online, run: clipworks models pull {ID}"
    assert hub.requests == []
    pull_model(ID, check=False)
    hub.requests.clear()
    verify_bundle(open_bundle(ID, offline=True))
    assert hub.requests == []


def test_the_environment_forbids_the_hub_too(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE means what --offline means."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="asking the hub is forbidden"):
        open_bundle(ID)
    assert hub.requests == []


@pytest.mark.parametrize("offline", [True, False])
def test_a_checkpoint_in_the_hub_librarys_cache_is_used(hub: Hub, offline: bool) -> None:  # noqa: FBT001
    """What transformers downloaded before needs no second download, and no network."""
    from huggingface_hub import snapshot_download

    del hub.repositories[ID].files["README.md"]
    hub.requests.clear()
    snapshot_download(ID, etag_timeout=5, max_workers=1)
    hub.requests.clear()
    verify_bundle(pull_model(ID, check=False, offline=offline))
    assert hub.transfers(WEIGHTS) == []
    assert (hub.requests == []) == offline


@pytest.mark.usefixtures("hub")
def test_half_a_checkpoint_in_the_hub_librarys_cache_is_no_checkpoint() -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(ID, "config.json")
    with pytest.raises(DownloadError, match="is not here"):
        pull_model(ID, offline=True)
    verify_bundle(pull_model(ID, check=False))


@pytest.mark.usefixtures("hub")
def test_an_unknown_model_is_named() -> None:
    """The hub does not tell a missing model from a private one, so the message says both."""
    with pytest.raises(
        DownloadError, match="no model 'no/such', or it is private, and there is no folder of that name"
    ):
        open_bundle("no/such")


@pytest.mark.usefixtures("hub")
def test_an_unknown_revision_is_named() -> None:
    with pytest.raises(DownloadError, match="someone/tiny-clip has no revision 'v9'"):
        open_bundle(f"{ID}@v9")


def test_a_revision_has_a_bundle_of_its_own(hub: Hub) -> None:
    hub.repositories[ID].revisions = ("main", "v1")
    assert open_bundle(f"{ID}@v1").folder == models_folder() / f"{KEY}@v1"


def test_a_gated_model_says_what_to_do(hub: Hub) -> None:
    hub.repositories[ID].gated = True
    with pytest.raises(DownloadError, match="someone/tiny-clip is gated: its owners ask you to accept") as caught:
        open_bundle(ID)
    assert caught.value.hint == f"accept them at {hub.url}/{ID}, then log in with: hf auth login"


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_hub_in_trouble_is_told_in_one_line(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(DownloadError, match=f"the hub answered {status} when asked for {ID}$"):
        pull_model(ID)


@pytest.mark.usefixtures("hub")
def test_no_network_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"the hub at http://127\.0\.0\.1:9 cannot be reached") as caught:
        pull_model(ID)
    assert "\n" not in caught.value.message


@pytest.mark.usefixtures("hub")
def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored stays for the next try."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub_module, "_append", refuse)
    with pytest.raises(DownloadError, match=r"no space left in .* for config\.json of someone/tiny-clip") as caught:
        pull_model(ID)
    assert "CLIPWORKS_CACHE" in str(caught.value.hint)


@pytest.mark.usefixtures("hub")
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot be made: Not a directory"):
        pull_model(ID)


def test_a_repository_of_something_else_is_refused(hub: Hub) -> None:
    hub.repositories[ID].files = {"config.json": b"{}", "weights.gguf": b"?"}
    with pytest.raises(DownloadError, match="someone/tiny-clip holds no CLIP checkpoint or ONNX towers"):
        pull_model(ID)


def test_pytorch_files_are_taken_where_there_are_no_others(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hub.repositories[ID].files
    (tmp_path / WEIGHTS).write_bytes(files.pop(WEIGHTS))
    files["pytorch_model.bin"] = write_archive(tmp_path / "weights.bin", load_file(tmp_path / WEIGHTS)).read_bytes()
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert pull_model(ID).card.source.layout == "huggingface"
    assert hub.transfers("pytorch_model.bin") != []


def test_a_checkpoint_that_cannot_be_converted_leaves_nothing(hub: Hub) -> None:
    """The converter's message comes through, and no bundle appears."""
    config = json.loads(hub.repositories[ID].files["config.json"])
    config["text_config"]["hidden_act"] = "relu"
    hub.repositories[ID].files["config.json"] = json.dumps(config).encode()
    with pytest.raises(ConversionError, match="hidden_act is 'relu'"):
        pull_model(ID)
    assert not (models_folder() / KEY).exists()


@pytest.mark.usefixtures("hub")
def test_towers_that_differ_from_the_checkpoint_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipworks.convert import verify

    monkeypatch.setattr(verify, "LIMIT", 1e-12)
    with pytest.raises(ConversionError, match=r"converted towers of someone/tiny-clip differ .* by .*; allowed: 1e-12"):
        pull_model(ID)
    assert not (models_folder() / KEY).exists()


@pytest.fixture
def tiny_known(monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """The hub's model as a known one with two sources, of which the first is gone."""
    image, text = SMALL.image, SMALL.text
    known = KnownModel(
        name="tiny",
        family="clip",
        title="A tiny CLIP",
        licence="CC0-1.0",
        notes=("Random weights.",),
        dim=SMALL.dim,
        image_size=SMALL.size,
        text=TextSpec(
            tokenizer="clip",
            context=SMALL.context,
            pad_id=0,
            start_id=49406,
            end_id=49407,
            vocabulary=49408,
        ),
        image=openai_preprocessing(SMALL.size),  # drops alpha after the crop, the checkpoint's library before it
        image_tower=TowerSpec(
            kind="vit",
            layers=image.layers,
            width=image.width,
            heads=image.heads,
            mlp_dim=image.mlp,
            patch_size=SMALL.patch,
            activation="quick_gelu",
            input_norm=True,
            cls_token=True,
            pooling="cls",
        ),
        text_tower=TowerSpec(
            kind="transformer", layers=text.layers, width=text.width, heads=text.heads, mlp_dim=text.mlp, mask="causal"
        ),
        sources=(Source(hub="someone/gone"), Source(hub=ID)),
    )
    make_known(monkeypatch, known)
    return known


def make_known(monkeypatch: pytest.MonkeyPatch, known: KnownModel) -> None:
    """Add a model to the known ones."""
    table = {**known_models(), known.name: known}
    for module in ("known", "listing"):
        monkeypatch.setattr(f"clipworks.store.{module}.known_models", lambda: table)


@pytest.mark.usefixtures("hub", "tiny_known")
def test_a_known_model_gets_what_is_published() -> None:
    """The second source is taken where the first is gone; title, licence and notes come from the record."""
    card = open_bundle("tiny").card
    assert (card.name, card.title, card.licence, card.notes) == ("tiny", "A tiny CLIP", "CC0-1.0", ("Random weights.",))
    assert card.source.hub == ID
    assert card.image.drop_alpha == "after"
    assert open_bundle(ID).folder == models_folder() / "tiny"
    assert [(model.name, model.state) for model in list_models() if model.name == "tiny"] == [("tiny", "here")]


@pytest.mark.usefixtures("hub")
def test_what_a_licence_forbids_is_said_before_anything_is_downloaded(
    tiny_known: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_known(monkeypatch, dataclasses.replace(tiny_known, licence="CC-BY-NC-4.0", forbids=("commercial use",)))
    seen: list[str] = []
    with pytest.warns(ClipworksWarning, match=r"^tiny: its licence, CC-BY-NC-4\.0, forbids commercial use$") as caught:
        bundle = pull_model("tiny", progress=lambda _: seen.append(str(len(caught))))
    assert seen[0] == "1"
    assert bundle.card.forbids == ("commercial use",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pull_model("tiny")  # which is here already


@pytest.mark.usefixtures("tiny_known")
def test_a_checkpoint_that_contradicts_what_is_published_is_refused(hub: Hub, tmp_path: Path) -> None:
    files = read_files(write_huggingface(tmp_path / "other", dataclasses.replace(SMALL, activation="gelu")))
    hub.repositories[ID] = HubRepository(files=files)
    with pytest.raises(
        ConversionError, match=r"contradicts what is published: image_tower\.activation is 'gelu', not 'quick_gelu'"
    ):
        open_bundle("tiny")


def test_a_source_names_its_layout(
    hub: Hub, tiny_known: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip's file is taken where the record says so, though Hugging Face's is there too; the towers are equal."""
    expected = pull_model(ID, check=False)
    hub.repositories[ID].files |= read_files(write_open_clip(tmp_path / "more", SMALL))
    sources = (Source(hub=ID, layout="open_clip"),)
    make_known(monkeypatch, dataclasses.replace(tiny_known, name="pinned", sources=sources))
    bundle = pull_model("pinned")
    assert bundle.card.source.layout == "open_clip"
    assert "open_clip_model.safetensors" in bundle.card.source.files
    images = np.random.default_rng(0).integers(0, 256, (2, SMALL.size, SMALL.size, 3), dtype=np.uint8)
    rows = []
    for each in (expected, bundle):
        encoder = open_encoder(each, "image", RuntimeOptions(runtime="onnxruntime"))
        rows.append(encoder(images))
        encoder.close()
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def offer_ready_made_towers(hub: Hub, folder: Path) -> None:
    """Put towers as transformers.js exports them on the hub, in the place of the checkpoint."""
    make_image_tower(folder / "onnx" / "vision_model.onnx")
    make_text_tower(folder / "onnx" / "text_model.onnx")
    write_json(folder / "preprocessor_config.json", {"size": CARD.image.size, "crop_size": CARD.image.size})
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    hub.repositories[ID] = HubRepository(files=read_files(folder))


def test_ready_made_towers_are_taken_with_what_is_published(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_ready_made_towers(hub, tmp_path / "theirs")
    known = KnownModel(
        name="ready",
        family="clip",
        title=CARD.title,
        licence=CARD.licence,
        dim=CARD.dim,
        image_size=CARD.image.size,
        text=CARD.text,
        score=CARD.score,
        image=CARD.image,
        image_tower=CARD.image_tower,
        text_tower=CARD.text_tower,
        sources=(Source(hub=ID),),
    )
    make_known(monkeypatch, known)
    bundle = open_bundle("ready")
    verify_bundle(bundle)
    source = bundle.card.source
    assert (bundle.card.score.logit_scale, bundle.card.text.padding) == (100.0, "none")
    assert (source.hub, source.revision) == (ID, hub.repositories[ID].commit)
    assert set(source.files) == {"onnx/vision_model.onnx", "onnx/text_model.onnx"}


def test_ready_made_towers_of_a_stranger_need_a_card(hub: Hub, tmp_path: Path) -> None:
    """Nothing in a graph says the logit scale; the hint says what to do with what was downloaded."""
    offer_ready_made_towers(hub, tmp_path / "theirs")
    with pytest.raises(ConversionError, match="holds ready-made ONNX towers, which do not say") as caught:
        open_bundle(ID)
    folder = Path(str(caught.value.hint).split(" convert ")[1].split(" --card ")[0])
    assert (folder / "onnx" / "vision_model.onnx").is_file()


@pytest.mark.usefixtures("hub")
def test_the_list_shows_what_is_here() -> None:
    """Built in, known, and pulled ones that nobody knows."""
    pull_model(ID, check=False)
    states = {model.name: model.state for model in list_models()}
    assert (states["starter"], states["openai-b-32"], states[ID]) == ("built in", "known", "here")


@pytest.mark.usefixtures("hub")
def test_a_pulled_model_can_be_removed() -> None:
    folder = pull_model(ID, check=False).folder
    assert remove_model(ID) == folder
    assert find_bundle(ID) is None
    assert leftovers() == []
    with pytest.raises(UsageError, match="someone/tiny-clip is not in the cache"):
        remove_model(ID)
    with pytest.raises(UsageError, match="starter is built in"):
        remove_model("starter")


def test_what_an_interrupted_pull_left_can_be_removed(hub: Hub) -> None:
    hub.repositories[ID].breaks = {WEIGHTS: [2_000_000, 0, 0, 0]}
    with pytest.raises(DownloadError):
        pull_model(ID)
    assert leftovers()
    remove_model(ID)
    assert leftovers() == []


def test_a_checkpoint_folder_in_the_place_of_a_bundle_is_told(tiny_checkpoint: Path) -> None:
    with pytest.raises(ClipworksError, match=r"is not a bundle: it has no model\.json"):
        open_bundle(str(tiny_checkpoint))


def test_a_folder_goes_before_a_hub_id(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local copy of a bundle, named as on the hub, is used as it is."""
    shutil.copytree(pull_model(ID, check=False).folder, tmp_path / ID)
    monkeypatch.chdir(tmp_path)
    hub.requests.clear()
    assert open_bundle(ID).folder == Path(ID)
    assert hub.requests == []
