"""What the PyTorch runtime asks of a CUDA device, on a fake one; and on a real one where it is."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from convert_checkpoints import MODELS, VOCABULARY, draw_ids, draw_images, write_huggingface

from clipworks import runtimes
from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint
from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import Role

torch = pytest.importorskip("torch")

from cuda_fake import FakeCuda  # noqa: E402  # needs PyTorch

from clipworks.runtimes import ROLES  # noqa: E402
from clipworks.runtimes.torch import lanes, streams  # noqa: E402  # as above
from clipworks.runtimes.torch.loading import load_tower  # noqa: E402
from clipworks.towers.files import read_tower  # noqa: E402
from clipworks.towers.stored import find_tower  # noqa: E402

MODEL = MODELS["quick"]
NEAR = 2e-6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("torch")
    return convert_checkpoint(write_huggingface(folder / "checkpoint", MODEL), folder / "bundle")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(streams, "_taken", set())
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


def open_tower(bundle: Bundle, role: Role, device: str = "cuda:0") -> Any:
    return runtimes.open_encoder(bundle, role, RuntimeOptions(runtime="torch", device=device, precision="f32"))


def unit(rows: Any) -> Any:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def check(found: Any, expected: Any) -> None:
    assert np.abs(unit(found) - unit(expected)).max() <= NEAR


def draw_texts(count: int, length: int) -> Any:
    ids = np.random.default_rng(length).integers(1, VOCABULARY - 2, (count, length)).astype(np.int32)
    ids[:, -1] = VOCABULARY - 1
    return ids


def repeat_images(count: int) -> Any:
    images = draw_images(MODEL)
    return np.stack([np.roll(images[index % len(images)], index, axis=0) for index in range(count)])


@pytest.mark.usefixtures("cuda")
def test_batches_of_every_size_give_what_the_cpu_gives(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured and filled up (1 to 16), whole (17 on), in parts; small ones after large ones, and staged."""
    monkeypatch.setattr(lanes, "_PART", 20)
    images = repeat_images(45)
    expected = open_tower(bundle, "image", "cpu")(images)
    encoder = open_tower(bundle, "image")
    for count in (16, 1, 3, 17, 45, 20, 2, 16, 44):
        check(encoder(images[:count]), expected[:count])
        check(encoder(encoder.stage(images[-count:])), expected[-count:])


@pytest.mark.usefixtures("cuda")
def test_texts_of_every_length_give_what_the_cpu_gives(bundle: Bundle) -> None:
    """Shorter texts after longer ones find old ids behind their end; the longest length is the context's own."""
    encoder, plain = open_tower(bundle, "text"), open_tower(bundle, "text", "cpu")
    for count, length in ((4, 20), (3, 5), (1, 17), (2, 9), (17, 20), (16, 8), (5, 3), (4, 19)):
        texts = draw_texts(count, length)
        check(encoder(texts), plain(texts))
    encoder(draw_texts(1, 8))
    endless = draw_texts(1, 6)
    endless[0, -1] = 7  # pooled by what stands in it, not by an end that an earlier text has left behind it
    check(encoder(endless), plain(endless))
    check(encoder(draw_ids(MODEL)), plain(draw_ids(MODEL)))
    assert not encoder.packs  # fixed shapes run whole texts


def test_a_batch_is_waited_for_on_its_own_stream_and_the_result_before_it_is_read(
    bundle: Bundle, cuda: FakeCuda
) -> None:
    encoder = open_tower(bundle, "image")
    images = repeat_images(17)
    encoder(images)
    cuda.log.clear()
    encoder(images)
    copying, computing = cuda.log[0].split()[-1], cuda.log[1].split()[0]
    assert copying != computing
    assert cuda.log == [
        f"to the device on {copying}",
        f"{computing} waits for {copying}",
        f"kept for {computing}",
        f"to the host on {computing}",
        f"host waits for {computing}",
    ]


def test_a_large_batch_goes_in_parts_and_the_host_waits_once(
    bundle: Bundle, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part is on its way while the first is computed."""
    monkeypatch.setattr(lanes, "_PART", 20)
    encoder = open_tower(bundle, "image")
    encoder(repeat_images(60))
    assert sum(line.startswith("to the device") for line in cuda.log) == 3
    assert sum(line.startswith("host waits") for line in cuda.log) == 1
    assert cuda.log[-1].startswith("host waits")


def test_a_staged_batch_is_there_when_stage_returns_and_is_not_copied_again(bundle: Bundle, cuda: FakeCuda) -> None:
    encoder = open_tower(bundle, "image")
    staged = encoder.stage(repeat_images(17))
    assert cuda.log[-1].startswith("host waits for")
    cuda.log.clear()
    encoder(staged)
    assert not any(line.startswith("to the device") for line in cuda.log)


@pytest.mark.usefixtures("cuda")
def test_a_result_stays_as_it_is_when_the_next_call_comes(bundle: Bundle) -> None:
    encoder, images = open_tower(bundle, "image"), repeat_images(2)
    first = encoder(images[:1])
    before = first.copy()
    encoder(images[1:])
    np.testing.assert_array_equal(first, before)


def test_a_shape_is_captured_once(bundle: Bundle, cuda: FakeCuda) -> None:
    encoder = open_tower(bundle, "image")
    for count in (1, 1, 3, 4, 3, 1):
        encoder(repeat_images(count))
    assert cuda.graphs == 2  # of 1 and of 4


@pytest.mark.usefixtures("cuda")
def test_calls_from_several_threads_do_not_mix_and_no_two_share_a_stream(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake fails a thread that sends to a stream which another one captures."""
    images = repeat_images(24)
    expected = open_tower(bundle, "image", "cpu")(images)
    encoder = open_tower(bundle, "image")
    problems: list[object] = []

    def call(index: int) -> None:
        try:
            for count in (1, 2, 4, 1, 7):
                check(encoder(images[index : index + count]), expected[index : index + count])
        except BaseException as error:  # noqa: BLE001  # a thread's failure must reach the test
            problems.append(error)

    monkeypatch.setattr(lanes, "_PART", 20)
    threads = [threading.Thread(target=call, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len({lane._own.cuda_stream for lane in encoder._idle}) == len(encoder._idle)


def test_lanes_beyond_the_streams_that_there_are_capture_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCuda(streams=1)
    fake.install(monkeypatch)
    monkeypatch.setattr(streams, "_taken", set())
    first, second, images = open_tower(bundle, "image"), open_tower(bundle, "image"), repeat_images(2)
    check(first(images), second(images))
    assert fake.graphs == 1
    first.close()
    open_tower(bundle, "image")(images)
    assert fake.graphs == 2  # the stream of the closed one is free again


@pytest.mark.usefixtures("cuda")
def test_a_thread_gets_the_lane_that_it_had_before(bundle: Bundle) -> None:
    """Libraries keep a workspace for each pair of thread and stream: lanes that wander would fill the memory."""
    encoder, images = open_tower(bundle, "image"), repeat_images(1)
    with encoder._lane(1) as first, encoder._lane(1) as second:
        second.thread = -1  # another thread's
    for _ in range(3):
        with encoder._lane(1) as lane:
            assert lane is first
    encoder(images)
    assert len(encoder._idle) == 2


@pytest.mark.parametrize(
    ("where", "count"), [("pin", 2), ("copy", 2), ("capture", 2), ("compute", 2), ("copy", 17), ("compute", 17)]
)
def test_a_batch_that_does_not_fit_is_one_error_and_the_next_one_works(
    bundle: Bundle, cuda: FakeCuda, where: str, count: int
) -> None:
    encoder, images = open_tower(bundle, "image"), repeat_images(count)
    cuda.failing[where] = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore lines")
    with pytest.raises(EncodingError, match=f"cuda:0 has not enough memory for a batch of {count}") as caught:
        encoder(images)
    assert caught.value.hint == "try a smaller --batch-size"
    assert cuda.log[-1] == "cache emptied"
    assert not streams._taken
    check(encoder(images[:1]), open_tower(bundle, "image", "cpu")(images[:1]))


def test_closing_frees_graphs_and_streams_also_of_a_call_under_way(bundle: Bundle, cuda: FakeCuda) -> None:
    encoder = open_tower(bundle, "image")
    with encoder._lane(1) as lane:
        lane.run(repeat_images(1))
        encoder.close()
        assert streams._taken
    assert not streams._taken
    assert not lane._graphs
    assert lane._pinned is None
    assert cuda.log[-1] == "cache emptied"
    with pytest.raises(EncodingError, match="closed"):
        encoder(repeat_images(1))


@pytest.mark.usefixtures("cuda")
def test_an_encoder_that_nobody_closed_leaves_its_streams_too(bundle: Bundle) -> None:
    encoder = open_tower(bundle, "image")
    encoder(repeat_images(1))
    assert streams._taken
    del encoder
    gc.collect()
    assert not streams._taken


@pytest.mark.usefixtures("cuda")
def test_devices_are_opened_by_name_or_place_and_others_refused(bundle: Bundle) -> None:
    assert [open_tower(bundle, "image", device).device for device in ("cuda", "cuda:1", "1", "auto")] == [
        "cuda:0",
        "cuda:1",
        "cuda:1",
        "cuda:0",
    ]
    with pytest.raises(RuntimeUnavailableError, match=r"'cuda:2' is not available on torch; .*: cuda:0, cuda:1, cpu"):
        open_tower(bundle, "image", "cuda:2")


def test_two_blocks_are_on_their_way_to_a_gpu_at_once() -> None:
    assert runtimes.choose_streams(RuntimeOptions(device="cuda:0", streams=None)) == 2


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("staged", [False, True])
def test_several_devices_are_profiled_at_once_from_host_or_device_memory(bundle: Bundle, *, staged: bool) -> None:
    from clipworks.profiling.profile import Load
    from clipworks.profiling.profiler import profile
    from clipworks.profiling.setup import Setup

    setup = Setup(
        options=RuntimeOptions(runtime="torch", precision="bf16"),
        target="image",
        model=str(bundle.folder),
        devices=("cuda:0", "cuda:1"),
        batch_size=2,
        staged=staged,
    )
    found = profile(setup, Load(depth=2, iterations=20, duration_s=0, warmup_s=0))
    assert (found.devices, found.precision) == (("cuda:0", "cuda:1"), "bf16")
    assert found.input == ("device" if staged else "host")


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("spoil", ["matmul", "everything", "old"])
def test_f32_is_refused_while_the_process_computes_tf32(bundle: Bundle, spoil: str) -> None:
    """PyTorch has three ways to say it, and those who read one after another was set get an exception."""
    encoder = open_tower(bundle, "image")
    try:
        if spoil == "matmul":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        elif spoil == "everything":
            torch.backends.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision("high")
        with pytest.raises(EncodingError, match="f32 is in use, but this process has set f32 products to tf32"):
            encoder(repeat_images(1))
    finally:
        torch.set_float32_matmul_precision("highest")
        for place in (torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
            place.fp32_precision = "none"
    encoder(repeat_images(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_captured_or_not(bundle: Bundle) -> None:
    device = torch.device("cuda:0")
    for role in ROLES:
        batch = draw_images(MODEL) if role == "image" else draw_ids(MODEL)
        tower = load_tower(read_tower(find_tower(bundle, role)), device, torch.float32)
        captured, plain = lanes.CudaLane(tower, device), lanes.CudaLane(tower, device, capture=False)
        for count in (len(batch), 1, 3, len(batch)):  # a smaller batch after a larger one finds the old rows behind
            part = batch[:count]
            check(captured.run(part), plain.run(part))
            check(captured.run(captured.stage(part)), plain.run(part))
        captured.close()
