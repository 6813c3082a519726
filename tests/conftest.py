"""Fixtures that several test files share."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from convert_checkpoints import MODELS, write_huggingface
from hub_server import TINY, Hub, HubRepository, read_files, serve_hub
from PIL import Image

from clipworks.convert import convert_checkpoint, quantize
from clipworks.convert.rounding import LEVELS, QuantizedWeights
from clipworks.doctor import inputs as doctor_inputs
from clipworks.processor import find_onednn_ceiling, read_cpuinfo
from clipworks.profiling import inputs, parity
from clipworks.runtimes import drawn_tower, rates
from clipworks.text import clip_vocabulary, library_file

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "examples" / "CLIP.png"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; compiled towers are shared within one run."""
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(parity, "_SECONDS", 0.0)  # how quick something is matters to no test: the fewest calls do
    monkeypatch.setattr(inputs, "POOL", 16)
    for name in ("COLUMNS", "LINES", "PYTHONIOENCODING"):  # as whoever runs the tests has them
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _rates_of_a_narrow_tower() -> Iterator[None]:
    """What ``clipworks devices`` and ``auto`` measure is one call of one image through a tower that soon compiles."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SECONDS", 0.0), ("_FEWEST", 1), ("_IMAGES", 1)):
            patch.setattr(rates, name, value)
        patch.setattr(drawn_tower, "_WIDTH", 96)
        patch.setattr(drawn_tower, "_MLP_DIM", 384)
        patch.setattr(drawn_tower, "_SPEC", dataclasses.replace(drawn_tower._SPEC, width=96, mlp_dim=384))
        yield


@pytest.fixture(autouse=True, scope="session")
def _each_tokenizer_is_read_once() -> Iterator[None]:
    """Tests open the same few tokenizer.json hundreds of times: files of the same bytes are parsed once a process."""

    def once(read: Callable[..., Any]) -> Callable[..., Any]:
        kept: dict[tuple[object, ...], Any] = {}

        def read_once(path: Path, *rules: object) -> Any:
            key = (hashlib.sha256(path.read_bytes()).digest() if path.is_file() else path, *rules)
            if key not in kept:
                kept[key] = read(path, *rules)
            return kept[key]

        return read_once

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((clip_vocabulary, "read_clip_vocabulary"), (library_file, "open_with_library")):
            patch.setattr(module, name, once(getattr(module, name)))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_crash_of_an_openvino_that_is_held_to_avx2() -> Iterator[None]:
    """Skips what ends the process in OpenVINO 2026.4 when its oneDNN is held to AVX2 on a CPU with AVX-512.

    Its own kernel of a normalisation (MVN) then goes by 16 values all the same and has no code for what is left over. A
    CPU that has no more than AVX2 goes by 8; the widths of published models are multiples of 16.
    """
    held = find_onednn_ceiling() == "avx2" and "avx512f" in read_cpuinfo().get("flags", "").split()
    if not held or importlib.util.find_spec("openvino") is None:
        yield
        return
    import openvino

    compile_model = openvino.Core.compile_model

    def check(core: Any, model: Any, *words: Any, **options: Any) -> Any:
        graph = model if isinstance(model, openvino.Model) else core.read_model(model)
        for node in graph.get_ops():
            if node.get_type_name() == "MVN" and node.input(0).get_partial_shape()[-1].get_length() % 16:
                pytest.skip("OpenVINO held to AVX2 ends the process on a tower of this width")
        return compile_model(core, model, *words, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino.Core, "compile_model", check)
        yield


@pytest.fixture
def photo() -> Image.Image:
    """A small RGB image with structure in both directions."""
    rows, columns = np.mgrid[0:48, 0:64]
    waves = [128 + 120 * np.sin(rows / (3 + band) + columns / (5 - band)) for band in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


@pytest.fixture
def photo_file(photo: Image.Image, tmp_path: Path) -> Path:
    """The same image as a PNG file."""
    path = tmp_path / "photo.png"
    photo.save(path)
    return path


@pytest.fixture(scope="module")
def small_photographs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The doctor's own images at half their sides: a quarter of the pixels, and margins as odd as theirs."""
    folder, files = tmp_path_factory.mktemp("photographs"), doctor_inputs.list_images()
    for file in map(Path, files):
        with Image.open(file) as image:
            image.resize((image.width // 2 - 1, image.height // 2)).save(folder / file.name, quality=95)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor_inputs, "_IMAGES", tuple(str(folder / Path(file).name) for file in files))
        yield


@pytest.fixture
def plain_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights become int8 by the nearest level: for tests to which it is all one how far int8 is from f32."""

    def round_weights(_: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> QuantizedWeights:
        scales = np.abs(weights).max(axis=0) / LEVELS
        return QuantizedWeights(weight=np.rint(weights / scales).astype(np.int8), scales=scales)

    monkeypatch.setattr(quantize, "round_weights", round_weights)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Hugging Face checkpoint with random weights."""
    return write_huggingface(tmp_path_factory.mktemp("checkpoint"), MODELS["quick"])


@pytest.fixture(scope="session")
def clip_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with CLIP's own vocabulary."""
    return convert_checkpoint(tiny_checkpoint, tmp_path_factory.mktemp("bundle") / "bundle").folder


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model and some files besides, asked in the place of the real one; caches of the test's own."""
    from huggingface_hub import constants

    with serve_hub() as server:
        server.repositories[TINY] = HubRepository(files={**read_files(tiny_checkpoint), "README.md": b"# tiny"})
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("clipworks.store.hub._PAUSES_S", (0.0,) * 3)
        monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "cache"))
        yield server
