"""The compiled towers defend themselves: bad arguments, calls from several threads, forks, and weights that are broken.

Everything here goes to ``clipworks.runtimes.native._towers`` as it is, without the checks of the package around it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from convert_checkpoints import MODELS, VOCABULARY, draw_images, write_huggingface

from clipworks.convert import convert_checkpoint
from clipworks.runtimes import Opening
from clipworks.text.packing import pack_texts

compiled = pytest.importorskip("clipworks.runtimes.native._towers", reason="built without a C compiler")
if not compiled.list_instruction_sets():
    pytest.skip("the towers were not compiled for this system", allow_module_level=True)

from clipworks.runtimes import ROLES  # noqa: E402
from clipworks.runtimes.native import layout  # noqa: E402  # needs the compiled module
from clipworks.runtimes.native.encoder import NativeEncoder  # noqa: E402
from clipworks.runtimes.native.facts import HEAD, Facts  # noqa: E402
from clipworks.towers.files import read_tower  # noqa: E402
from clipworks.towers.stored import find_tower  # noqa: E402

MODEL = MODELS["quick"]
INPUTS = ("ids", "places", "groups", "ends", "back", "texts")
NOTHING = np.empty(0, np.float32)
REFUSED = (ValueError, TypeError)
SET = list(compiled.list_instruction_sets())[-1]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Weights and facts, as `open_tower` takes them."""

    body: Bytes
    facts: dict[str, Any]

    def open(self, threads: int = 2, **changes: Any) -> Any:
        """Open the tower, with some facts changed."""
        return compiled.open_tower(self.body, tuple({**self.facts, **changes}.values()), threads, SET)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Packed]:
    folder = tmp_path_factory.mktemp("defence")
    bundle = convert_checkpoint(write_huggingface(folder / "checkpoint", MODEL), folder / "bundle")
    towers: dict[str, Packed] = {}
    for role in ROLES:
        facts, body = layout.pack_tower(read_tower(find_tower(bundle, role)), bf16=False)
        sides = facts._asdict()
        del sides["end_id"]
        towers[role] = Packed(body=body[HEAD:], facts=sides)
    return towers


def encode(tower: Any, images: Bytes) -> npt.NDArray[np.float32]:
    out = np.full((len(images), MODEL.dim), np.nan, np.float32)
    compiled.encode_images(tower, images, out, NOTHING)
    return out


def draw_texts(count: int = 6) -> list[Any]:
    """The arrays of packed texts in the order of `encode_texts`, and where to put embeddings."""
    ids = np.random.default_rng(count).integers(1, VOCABULARY, (count, 9), dtype=np.int32)
    ids[1:, :3] = ids[0, :3]
    inputs = pack_texts(ids, filled=False)
    pooled = np.full(count, 4, np.int32)
    return [*(inputs[name] for name in INPUTS), pooled, np.empty((count, MODEL.dim), np.float32), NOTHING]


@contextlib.contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(REFUSED) as caught:
        yield
    assert str(caught.value)
    assert "\n" not in str(caught.value)


NUMBERS = [0, -1, 2**31, 2**62, -(2**63), 2**64, 1.5, None, "1", float("nan")]
BAD: dict[str, list[Any]] = {
    **dict.fromkeys(("image_size", "grid", "patch_size", "width", "heads", "dim", "layers", "mlp_dim"), NUMBERS),
    "heads": [*NUMBERS, 5, 25],
    "vocabulary": [1, -1, 2**64],
    "context": [1, -1, 2**64],
    "activation": [0, -1, 4, 2**64, None],
    "center": [-1.0, 256.0, float("nan"), float("inf"), None, 10**400],
    "epsilon": [-1.0, 2.0, float("nan"), float("inf"), None],
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_tower_of_wrong_sizes_is_refused(packed: dict[str, Packed], name: str) -> None:
    for value in BAD[name]:
        with refused():
            packed["image"].open(**{name: value})
        if name not in ("image_size", "grid", "patch_size", "vocabulary", "context") or value not in (0, 1):
            with refused():
                packed["text"].open(**{name: value})


def test_weights_and_threads_that_are_none_are_refused(packed: dict[str, Packed]) -> None:
    body = packed["image"].body
    facts = tuple(packed["image"].facts.values())
    for threads in (0, -1, 2**20, 2**40, 2**70, None, 1.5):
        with refused():
            compiled.open_tower(body, facts, threads, SET)
    room = np.zeros(len(body) + 1, np.uint8)
    room[1:] = body
    aligned_off = room[1:] if room.ctypes.data % 4 == 0 else room[:-1][: len(body)]
    wrong_weights: list[Any] = [
        None, 5, "text", [1, 2], body[:-64], body[:0], np.concatenate([body, body]), body[::-1], body[::2], aligned_off,
        body.view(np.float32), body.view(np.int8), body.reshape(-1, 64), body.view(">u4"),
    ]  # fmt: skip
    for wrong in wrong_weights:
        with refused():
            compiled.open_tower(wrong, facts, 1, SET)
    wrong_facts: list[Any] = [
        (),
        facts[:-1],
        (*facts, 1),
        None,
        dict(enumerate(facts)),
        "facts",
    ]
    for sides in wrong_facts:
        with refused():
            compiled.open_tower(body, sides, 1, SET)
    with refused():
        compiled.open_tower(body, facts)
    for name in ("", "AVX2", "sse", None, 5, SET + "\0"):
        with refused():
            compiled.open_tower(body, facts, 1, name)


def test_sizes_drawn_at_random_are_refused_or_run(packed: dict[str, Packed]) -> None:
    """What fits the weights' length by chance computes something, and nothing past an end."""
    rng = np.random.default_rng(5)
    names, opened = list(packed["image"].facts)[:8], 0
    for _ in range(1500):
        changes = {
            name: int(rng.choice([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 33, 48, 96, 2**16, 2**31 - 1]))
            for name in rng.choice(names, int(rng.integers(1, 4)), replace=False)
        }
        try:
            tower = packed["image"].open(1, **changes)
        except REFUSED:
            continue
        facts, opened = packed["image"].facts | changes, opened + 1
        images = np.zeros((2, facts["image_size"], facts["image_size"], 3), np.uint8)
        compiled.encode_images(tower, images, np.empty((2, facts["dim"]), np.float32), NOTHING)
    assert opened  # or nothing was tried


def test_images_that_are_none_are_refused(packed: dict[str, Packed]) -> None:
    tower, text = packed["image"].open(), packed["text"].open()
    good, out = draw_images(MODEL), np.empty((3, MODEL.dim), np.float32)
    fixed = out.copy()
    fixed.flags.writeable = False
    wrong_images: list[Any] = [
        good[:2], good[0], good[:, 1:], good[:, :, ::-1], good[..., :2], good.transpose(0, 3, 1, 2), good.view(np.int8),
        good.astype(np.float32), good.astype(np.int64), good.tobytes(), good.tolist(), None, 7,
        np.zeros((3, 0, 0, 3), np.uint8),
    ]  # fmt: skip
    wrong_outs: list[Any] = [
        out[:2], out[:, :-1], out.T, out.ravel(), out.astype(np.float64), out.view(np.int32), fixed, bytes(out.nbytes),
        out.byteswap().view(">f4"), np.empty((6, MODEL.dim), np.float32)[::2], None, [],
    ]  # fmt: skip
    wrong_watched: list[Any] = [np.empty(5, np.float32), np.empty((1, 0), np.float32), np.empty(0), None, b""]
    for images in wrong_images:
        with refused():
            compiled.encode_images(tower, images, out, NOTHING)
    for place in wrong_outs:
        with refused():
            compiled.encode_images(tower, good, place, NOTHING)
    for watched in wrong_watched:
        with refused():
            compiled.encode_images(tower, good, out, watched)
    for capsule in (text, None, 5, "tower", compiled):
        with refused():
            compiled.encode_images(capsule, good, out, NOTHING)
    with pytest.raises(ValueError, match=r"pixels is float64 \[3, 32, 32, 3\]; allowed: uint8 \[n, 32, 32, 3\]"):
        compiled.encode_images(tower, good / 255, out, NOTHING)
    with pytest.raises(ValueError, match=r"out is float32 \[2, 12\]; allowed: float32 \[3, 12\]"):
        compiled.encode_images(tower, good, out[:2], NOTHING)
    compiled.encode_images(tower, good[:0], out[:0], NOTHING)
    compiled.encode_images(tower, good, out, NOTHING)
    assert np.isfinite(out).all()


def test_texts_that_are_none_are_refused(packed: dict[str, Packed]) -> None:
    tower, image = packed["text"].open(), packed["image"].open()
    good = draw_texts()
    compiled.encode_texts(tower, *good)
    expected = good[7].copy()
    for place, array in enumerate(good[:8]):
        fixed = array.copy()
        fixed.flags.writeable = False
        wrong = [None, 3, array.tolist(), array.astype(np.int64), array.view(np.uint32), array[..., :-1], array[None]]
        wrong += [np.repeat(array, 2, axis=-1)[..., ::2], array[:0], *([fixed] if place == 7 else [])]
        if place < 7:
            wrong += [np.full_like(array, value) for value in (-1, 2**31 - 1, VOCABULARY + 5, -(2**31))]
        for value in wrong:
            with refused():
                compiled.encode_texts(tower, *good[:place], value, *good[place + 1 :])
    with refused():
        compiled.encode_texts(image, *good)
    with refused():
        compiled.encode_texts(tower, *good[:-1])
    compiled.encode_texts(tower, *good)
    np.testing.assert_array_equal(good[7], expected)


def test_numbers_drawn_at_random_are_refused_or_run(packed: dict[str, Packed]) -> None:
    rng = np.random.default_rng(6)
    towers = [packed["text"].open(threads) for threads in (1, 2)]
    samples = [draw_texts(6), draw_texts(40)]
    ran = 0
    for number in range(1500):
        arrays = [array.copy() for array in samples[number % 2]]
        for _ in range(int(rng.integers(1, 3))):
            flat = arrays[int(rng.integers(0, 7))].reshape(-1)
            flat[rng.integers(0, len(flat))] = rng.choice(
                [-1, 0, 1, 2, flat.max(), flat.max() + 1, len(flat), 33, 2**30]
            )
        try:
            compiled.encode_texts(towers[number // 2 % 2], *arrays)
        except REFUSED:
            continue
        ran += 1
    assert 0 < ran < 1500


def test_a_closed_tower_is_an_error_and_closing_waits_for_the_call_under_way(packed: dict[str, Packed]) -> None:
    images = np.tile(draw_images(MODEL), (40, 1, 1, 1))
    tower = packed["image"].open()
    expected = encode(tower, images)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(encode, tower, images)
        time.sleep(0.001)
        compiled.close_tower(tower)
        with contextlib.suppress(ValueError):  # where it came after the closing
            np.testing.assert_array_equal(job.result(), expected)
    compiled.close_tower(tower)
    with pytest.raises(ValueError, match="the tower is closed"):
        encode(tower, images)
    for wrong in (None, 5, images):
        with pytest.raises(TypeError, match="the tower is none that open_tower gave"):
            compiled.close_tower(wrong)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_from_several_threads_take_turns(packed: dict[str, Packed], threads: int) -> None:
    """Without any lock of Python's around them."""
    tower, text = packed["image"].open(threads), packed["text"].open(threads)
    images = [draw_images(dataclasses.replace(MODEL, seed=seed), count=2 + seed) for seed in range(4)]
    expected = [encode(tower, batch) for batch in images]
    prompts = [draw_texts(4 + seed) for seed in range(4)]
    answers = []
    for arrays in prompts:
        compiled.encode_texts(text, *arrays)
        answers.append(arrays[7].copy())

    def call(seed: int) -> int:
        wrong = 0
        for _ in range(60 // threads):
            wrong += not np.array_equal(encode(tower, images[seed]), expected[seed])
            prompts[seed][7][:] = np.nan
            compiled.encode_texts(text, *prompts[seed])
            wrong += not np.array_equal(prompts[seed][7], answers[seed])
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(call, range(4))) == 0


@contextlib.contextmanager
def working(work: Callable[[], Any]) -> Iterator[None]:
    """A thread that does it over and over."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a system that forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of what is tried here
def test_a_process_forked_during_a_call_encodes_on_its_own(packed: dict[str, Packed]) -> None:
    opening = Opening(read_ms=None, compile_ms=0.0)
    encoder = NativeEncoder(
        Facts(**packed["image"].facts), packed["image"].body, threads=2, opening=opening, instruction_set=SET
    )
    images = draw_images(MODEL)
    many = np.tile(images, (40, 1, 1, 1))
    expected = encoder(images)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def child() -> None:
        answers.put([encoder(images) for _ in range(2)])
        encoder.close()  # there are no threads of the parent's to wait for

    with working(lambda: encoder(many)):
        for _ in range(8):
            process = fork.Process(target=child)
            process.start()
            process.join(5)
            code = process.exitcode
            if code is None:
                process.kill()
            assert code == 0
            for found in answers.get():
                np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(encoder(images), expected)
