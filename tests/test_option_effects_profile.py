"""What the options of profile and of the vendor's commands change; where time matters, on a clock of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from option_effects import Recorder, read, row, run, skip_warm_up
from PIL import Image
from virtual_clock import VirtualClock

from clipworks import pipeline
from clipworks.images import decoders
from clipworks.images.resize import Cut
from clipworks.profiling import profiler
from clipworks.profiling.clock import NS
from clipworks.profiling.profile import Profile
from clipworks.runtimes import Staged
from clipworks.runtimes.fake import FakeEncoder
from clipworks.vendor_sample.token_files import write_token_files

FAKE = ("--runtime", "fake")
VENDORS = ("clip_image_prof", "clip_text_prof")
BRIEF = ("--duration", "0", "--iterations", "3", "--warmup", "0")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """A clock on which a request to a fake encoder takes 10 ms, and longer from request to request: no rate settles."""
    clock, encode = VirtualClock(), FakeEncoder.__call__

    def encode_slowly(self: FakeEncoder, batch: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():  # the first, cold call is no request
            clock.sleep_until(clock.now() + NS // 100 + clock.now() // 400)
        return encode(self, batch)

    monkeypatch.setattr(FakeEncoder, "__call__", encode_slowly)
    monkeypatch.setattr(profiler, "MonotonicClock", lambda: clock)
    return clock


def profile(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The record of a profile with the fake runtime."""
    found: dict[str, Any] = json.loads(read(capsys, "profile", *words, "--json", *FAKE))
    return found


# Two seconds without warm-up, and whatever the rates: then it is over.
PLAIN = ("--duration", "2", "--warmup", "0", "--tolerance", "1", "--iterations", "1")


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ((), {}),
        row("profile --duration", ("--duration", "3"), {"measured": 3, "whole": 3}),
        row("profile --warmup", ("--warmup", "5"), {"whole": 7}),
        row("profile --tolerance", ("--tolerance", "0"), {"stop": "time is up", "measured": 12, "whole": 12}),
        row(
            "profile --timeout",
            ("--tolerance", "0", "--timeout", "4"),
            {"stop": "time is up", "measured": 4, "whole": 4},
        ),
        row("profile --depth", ("--depth", "3"), {"in flight": 3}),
        row("profile --instances", ("--instances", "2"), {"in flight": 2}),
    ],
)
def test_a_load_is_what_the_options_say(
    words: Sequence[str], changed: dict[str, object], clock: VirtualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = profile(capsys, "text", *PLAIN, *words)["runs"]
    window = run["window"]
    figures = {"measured": round(window["seconds"]), "whole": round(clock.now() / NS), "stop": run["stop"]}
    expected = {"measured": 2, "whole": 2, "stop": "stable", "in flight": 1}
    assert {**figures, "in flight": round(window["in_flight"])} == {**expected, **changed}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        row("profile --iterations", ("profile", "text", "--duration", "0", "--warmup", "0", "--iterations", "7"), 7),
        row("clip_image_prof --iterations", ("clip_image_prof", "--iterations", "7"), 7),
        row("clip_text_prof --iterations", ("clip_text_prof", "--iterations", "7"), 7),
    ],
)
def test_as_many_requests_are_measured_as_iterations_say(
    words: Sequence[str], count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_warm_up(monkeypatch)
    seen: list[Profile] = []
    real = profiler.profile

    def watch(*arguments: Any, **options: Any) -> Profile:
        seen.append(real(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(profiler, "profile", watch)
    read(capsys, *words, *FAKE)
    assert [found.run.window.requests for found in seen] == [count]


def list_percentiles(found: dict[str, Any]) -> list[float]:
    return [item["percent"] for item in found["runs"][0]["window"]["response"]["percentiles"]]


Show = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("words", "show", "expected"),
    [
        row("profile --repeats", ("text", "--repeats", "2"), lambda found: len(found["runs"]), 2),
        row("profile --percentiles", ("text", "--percentiles", "10,20"), list_percentiles, [10, 20]),
        row("profile --rate", ("text", "--rate", "1000"), lambda found: type(found["runs"][0]["overload"]), dict),
        row("profile --raw", ("text", "--raw"), lambda found: len(found["runs"][0]["response_us"]), 3),
        row("profile --sweep", ("text", "--sweep", "batch=1,2"), lambda found: len(found["profiles"]), 2),
        row(
            "profile --slo",
            ("text", "--slo", "p50=1s", "--duration", "0.02", "--timeout", "0.04"),
            lambda found: found["search"]["slo"],
            {"percent": 50, "bound_us": 1e6},
        ),
    ],
)
def test_a_record_has_what_the_options_ask_for(
    words: Sequence[str], show: Show, expected: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(profile(capsys, *words[:1], *BRIEF, *words[1:])) == expected


@pytest.mark.shows("profile --check")
def test_embeddings_are_compared_with_those_in_f32(
    home: Path, clip_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("text", "--model", clip_bundle, "--texts", home / "one.txt", *BRIEF)
    assert profile(capsys, *words)["parity"] is None
    assert abs(profile(capsys, *words, "--check")["parity"]["cosine_min"]) < 0.9  # of a fake, whose own are others


@pytest.mark.shows("profile --json")
def test_a_profile_is_json_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(capsys, "text", *BRIEF)["target"] == "text"
    assert not read(capsys, "profile", "text", *BRIEF, *FAKE).startswith("{")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a red image, a text and a token file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").mkdir()
    Image.new("RGB", (300, 300), "red").save(tmp_path / "red" / "red.png")
    (tmp_path / "one.txt").write_text("a dog\n")
    (tmp_path / "wide.txt").write_bytes("a dog\n".encode("utf-32"))
    Image.new("RGB", (300, 300), "blue").save(tmp_path / "zebra.png")
    (tmp_path / "list.txt").write_text("red/red.png\nzebra.png\n")
    write_token_files(["a dog"], tmp_path)
    return tmp_path


def unstage(batch: Any) -> Any:
    return batch.handle if isinstance(batch, Staged) else batch


Batches = list[tuple[str, Any]]


def are_of(role: str) -> Callable[[Batches], bool]:
    return lambda batches: {name for name, _ in batches} == {role}


def hold(count: int) -> Callable[[Batches], bool]:
    return lambda batches: {len(unstage(batch)) for _, batch in batches} == {count}


def are_staged(batches: Batches) -> bool:
    return all(isinstance(batch, Staged) for _, batch in batches[1:])  # the first, cold call is no request


def are_red(batches: Batches) -> bool:
    return all((batch == (255, 0, 0)).all() for _, batch in batches)


def are_one_text(batches: Batches) -> bool:
    return len({unstage(batch).tobytes() for _, batch in batches}) == 1


def are_of_both(batches: Batches) -> bool:
    """The image tower's requests, and the text tower's classifier."""
    return {name for name, _ in batches} == {"image", "text"}


def are_black(batches: Batches) -> bool:
    """Those of the image tower, but for its first call, which is of views that were decoded before."""
    return not any(unstage(batch).any() for name, batch in batches[1:] if name == "image")


class BlackDecoder:
    """Decodes every JPEG file to a black square."""

    name = "a decoder for tests"

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[Any]:
        """See `clipworks.images.decoders.JpegDecoder`."""
        return [np.zeros((260, 260, 3), np.uint8) for _ in zip(files, cuts, strict=True)]


@pytest.fixture(autouse=True)
def black_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch decoder whose images tell that it has decoded them."""
    monkeypatch.setattr(decoders, "_is_installed", lambda _package: True)
    monkeypatch.setattr(decoders, "_open_nvimgcodec", lambda _device: BlackDecoder())


@pytest.mark.shows("profile --workers")
def test_a_pipeline_decodes_on_so_many_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pools: dict[str, int] = {}

    def open_pool(workers: int, thread_name_prefix: str) -> ThreadPoolExecutor:
        pools[thread_name_prefix] = workers
        return ThreadPoolExecutor(workers, thread_name_prefix)

    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", open_pool)
    profile(capsys, "pipeline", *BRIEF, "--workers", "7")
    assert pools["decode"] == 7


def test_only_a_pipeline_decodes(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--workers", "2"), ("--decoder", "nvimgcodec")):
        status, _, err = run(capsys, "profile", "image", *words, *FAKE)
        assert (status, "--workers and --decoder do not go with image" in err) == (2, True)


ASKED = [
    row("profile target", ("image",), are_of("image")),
    row("profile target", ("text",), are_of("text")),
    row("profile target", ("pipeline",), are_of_both),
    row("profile --batch-size", ("text", "--batch-size", "3"), hold(3)),
    row("profile --input", ("text", "--input", "device"), are_staged),
    row("profile --decoder", ("pipeline", "--decoder", "nvimgcodec"), are_black),
    row("profile --images", ("image", "--images", "red"), are_red),
    row("profile --images", ("image", "--images", "r*/*.png", "red/red.png"), are_red),
    row("profile --limit", ("image", "--images", "list.txt", "--limit", "1"), are_red),
    row("profile --texts", ("text", "--texts", "one.txt"), are_one_text),
    row("profile --encoding", ("text", "--texts", "wide.txt", "--encoding", "utf-32"), are_one_text),
    row("clip_image_prof --batch_size", ("clip_image_prof", "--batch_size", "3"), hold(3)),
    row("clip_text_prof --batch_size", ("clip_text_prof", "--batch_size", "3"), hold(3)),
    row("clip_text_prof --test_input_npz", ("clip_text_prof", "--test_input_npz", "a dog.npz"), are_one_text),
]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("words", "fit"), ASKED)
def test_an_encoder_gets_what_the_options_say(
    words: Sequence[str],
    fit: Callable[[Batches], bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    skip_warm_up(monkeypatch)
    asked = Recorder(monkeypatch)
    vendor = words[0].startswith("clip_")
    read(capsys, *(() if vendor else ("profile",)), *words, *(("--iterations", "3") if vendor else BRIEF), *FAKE)
    assert len(asked.batches) > 3
    assert fit(asked.batches)
    if words[0] not in ("image", "pipeline"):  # without the option it is otherwise
        plain = Recorder(monkeypatch)
        read(capsys, *(() if vendor else ("profile",)), words[0], *(("--iterations", "3") if vendor else BRIEF), *FAKE)
        assert len(words) == 1 or not fit(plain.batches)


@pytest.mark.parametrize("command", [row(f"{name} --input_host", name) for name in VENDORS])
def test_a_request_of_the_vendor_s_begins_on_the_device_or_the_host(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_warm_up(monkeypatch)
    for value, staged in (("0", True), ("1", False)):
        asked = Recorder(monkeypatch)
        read(capsys, command, "--input_host", value, "--iterations", "3", *FAKE)
        assert {isinstance(batch, Staged) for _, batch in asked.batches[1:]} == {staged}


@pytest.mark.shows("profile --seed")
def test_another_seed_is_other_inputs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for seed in (1, 1, 2):
        asked = Recorder(monkeypatch)
        profile(capsys, "text", "--batch-size", "4", *BRIEF, "--seed", seed)
        seen.append(asked.batches[0][1].tobytes())
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("words", "own", "other"),
    [
        row("profile --image-size", ("profile", "image", *BRIEF, "--image-size"), "260", "224"),
        row(
            "clip_image_prof --shape", ("clip_image_prof", "--iterations", "3", "--shape"), "[3,260,260]", "[3,224,224]"
        ),
    ],
)
def test_only_the_tower_s_own_size_is_taken(
    words: Sequence[str], own: str, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_warm_up(monkeypatch)
    read(capsys, *words, own, *FAKE)
    status, _, err = run(capsys, *words, other, *FAKE)
    assert (status, "is 224; allowed: 260" in err) == (2, True)


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [
        row(f"{command} {option}", command, (option, value), line)
        for command in VENDORS
        for option, value, line in (
            ("--queue_size", "3", "3"),
            ("--instance", "2", "2"),
            ("--percentiles", "[10,20]", "min max p10 p20"),
        )
    ],
)
def test_a_load_of_the_vendor_s_profilers_is_what_the_options_say(
    command: str,
    words: Sequence[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Requests in flight, of all instances; or the latencies that are printed."""
    skip_warm_up(monkeypatch)
    places: list[int] = []
    real = profiler.profile

    def watch(*arguments: Any, **options: Any) -> Profile:
        found = real(*arguments, **options)
        places.append(found.run.places)
        return found

    monkeypatch.setattr(profiler, "profile", watch)
    out = read(capsys, command, "--iterations", "20", *words, *FAKE)
    latencies = [text.split()[0] for text in out.splitlines() if " latency: " in text]
    assert line in (str(places[0]), " ".join(latencies[1:]))
    assert str(places[0]) in (line, "1")


HARDWARE = {
    "clip_sample": (
        ("--imgmod_hw_config", "--norm_elf", "--space2depth_elf", "--txtmod_hw_config", "--txtmod_vdsp_params"),
        ("--input_file", "red/red.png", "--strings", "[a]"),
    ),
    "clip_image_prof": (("--hw_config", "--norm_elf", "--space2depth_elf"), ("--iterations", "3")),
    "clip_text_prof": (("--hw_config", "--vdsp_params"), ("--iterations", "3")),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "command",
    [row(", ".join(f"{name} {option}" for option in options), name) for name, (options, _) in HARDWARE.items()],
)
def test_files_of_the_vendor_s_card_are_taken_and_a_person_told_that_they_are_not_used(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_warm_up(monkeypatch)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options, words = HARDWARE[command]
    status, _, err = run(capsys, command, *words, *FAKE, *(word for option in options for word in (option, "f.json")))
    assert status == 0
    assert f"not used by this runtime: {', '.join(f'{option} f.json' for option in options)}" in err
