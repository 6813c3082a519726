"""What the options of match, classify, embed and retrieve change in what is printed, written or asked of an encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sets import LABELS, make_image, write_images, write_labels
from option_effects import Recorder, read, row, run
from PIL import Image

from clipworks import pipeline
from clipworks.cluster import running
from clipworks.cluster.job import Request, ShardProgress
from clipworks.cluster.statistics import Statistics
from clipworks.images import decoders
from clipworks.images.resize import Cut
from clipworks.results.formats import read_results

FAKE = ("--runtime", "fake")
COUNT = 5
LONG = "word " * 600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a set of class folders, lists, labels, a turned JPEG beside what it shows either way."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "set", COUNT)
    write_labels(tmp_path / "labels.txt")
    (tmp_path / "one.txt").write_text("0000.png\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0000.png").write_bytes(make_image(9))
    (tmp_path / "a.png").write_bytes(make_image(1))
    (tmp_path / "b.png").write_bytes(make_image(2))
    (tmp_path / "bad.txt").write_text("a.png\nmissing.png\n")
    (tmp_path / "texts.txt").write_text("a cat\n")
    (tmp_path / "gbk.txt").write_bytes("狗\n".encode("gbk"))
    (tmp_path / "drawings.txt").write_text("a drawing of a {}.\n")
    (tmp_path / "pairs.txt").write_text("0000.png\tone caption\n0000.png\tanother\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    rows, columns = np.mgrid[0:40, 0:60]
    Image.fromarray(np.stack([4 * columns, 6 * rows, rows], -1).astype(np.uint8)).save("turned.jpg", exif=exif)
    with Image.open("turned.jpg") as image:
        image.save("raw.png", exif=Image.Exif())
        image.transpose(Image.Transpose.ROTATE_270).save("upright.png", exif=Image.Exif())
    return tmp_path


def match(capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, float]]:
    """The texts and cosines, in the order printed."""
    found = json.loads(read(capsys, "match", *words, "--json", *FAKE))
    return [(item["text"], item["cosine"]) for item in found["scores"]]


# match


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "others"),
    [
        row("match SOURCE", ("a.png", "a dog"), ("b.png", "a dog")),
        row("match TEXT", ("a.png", "a dog"), ("a.png", "a cat")),
        row("match --texts", ("a.png", "--texts", "a dog"), ("a.png", "--texts", "a cat")),
        row("match --texts-file", ("a.png", "--texts-file", "texts.txt"), ("a.png", "a dog")),
        row(
            "match --encoding",
            ("a.png", "--texts-file", "gbk.txt", "--encoding", "gbk"),
            ("a.png", "--texts-file", "gbk.txt", "--encoding", "latin-1"),
        ),
    ],
)
def test_match_takes_the_image_and_the_texts(
    words: Sequence[str], others: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert match(capsys, *words) != match(capsys, *others)


@pytest.mark.usefixtures("home")
@pytest.mark.shows("match --top")
def test_match_prints_the_best_only(capsys: pytest.CaptureFixture[str]) -> None:
    found = match(capsys, "a.png", "a dog", "a cat", "a bird")
    assert match(capsys, "a.png", "a dog", "a cat", "a bird", "--top", "2") == found[:2]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "words",
    [
        row("match --truncate", ("match", "a.png", LONG)),
        row("retrieve --truncate", ("retrieve", "long.txt")),
        row("classify --truncate", ("classify", "set", "--labels", "longs.txt", "-o", "long.jsonl")),
    ],
)
def test_a_text_that_is_too_long_is_refused_or_cut(
    words: Sequence[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "long.txt").write_text(f"a.png\t{LONG}\n")
    (home / "longs.txt").write_text(f"{LONG}\na cat\n")
    status, _, err = run(capsys, *words, *FAKE)
    assert (status, "the model takes at most" in err, "--truncate" in err) == (1, True, True)
    assert run(capsys, *words, "--truncate", *FAKE)[0] == 0
    Path("long.jsonl").unlink(missing_ok=True)
    assert run(capsys, *words, *FAKE)[0] == 1  # nothing that was cut is kept for it


@pytest.mark.usefixtures("home")
@pytest.mark.shows("match --exif")
def test_match_turns_an_image_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    for exif, same in (("apply", "upright.png"), ("ignore", "raw.png")):
        assert match(capsys, "turned.jpg", "a dog", "--exif", exif) == match(capsys, same, "a dog")


@pytest.mark.usefixtures("home")
@pytest.mark.shows("match --output")
def test_match_writes_a_table_of_all_scores(capsys: pytest.CaptureFixture[str]) -> None:
    read(capsys, "match", "a.png", "a dog", "a cat", "-o", "scores.csv", *FAKE)
    assert [line.split(",")[0] for line in Path("scores.csv").read_text().splitlines()] == ["image", "a.png", "a.png"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "paths"),
    [
        row("match --root", ("one.txt", "--root", "other"), ["0000.png"]),
        row("match --no-recursive", ("nested", "--no-recursive"), ["nested/top.png"]),
        row("match --limit", ("set", "--limit", "2"), ["set/bird/0002.png", "set/cat/0000.png"]),
    ],
)
def test_match_takes_the_images_that_are_meant(
    words: Sequence[str], paths: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "nested" / "deep").mkdir(parents=True)
    for name in ("top.png", "deep/low.png"):
        (home / "nested" / name).write_bytes(make_image(3))
    found = json.loads(read(capsys, "match", *words, "--texts", "a dog", "--json", *FAKE))
    assert [one["image"] for one in found["matches"]] == paths


# classify and embed


def write(capsys: pytest.CaptureFixture[str], command: str, source: str, *words: str, name: str = "") -> list[Any]:
    """Classify or embed into an output of its own; for each image what was made of it."""
    output = f"{command}{name or len(list(Path().iterdir()))}"
    own = ["--labels", "labels.txt"] if command == "classify" and "--labels" not in words else []
    read(capsys, command, source, "-o", output, *own, *FAKE, *words)
    if command == "classify":
        return [(item.path, item.top) for item in read_results(output)]
    records = [json.loads(line) for line in Path(output, "records.jsonl").read_text().splitlines()]
    rows = np.load(Path(output, "embeddings.npy"))
    return [(item["path"], tuple(values)) for item, values in zip(records, rows.tolist(), strict=True)]


BOTH = ("classify", "embed")


def both(option: str) -> list[Any]:
    """A line of a table for classify, and one for embed."""
    return [row(f"{command} {option}", command) for command in BOTH]


@pytest.mark.parametrize("command", [row(f"{name} SOURCE, {name} --output", name) for name in BOTH])
def test_the_images_of_the_source_go_to_the_output(
    command: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {str(path.relative_to(home)) for path in (home / "set").rglob("*.png")}
    assert {item[0] for item in write(capsys, command, "set")} == paths
    assert [item[0] for item in write(capsys, command, "bad.txt", name="named")] == ["a.png", "missing.png"]
    assert Path(f"{command}named").exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", both("--root"))
def test_a_list_s_paths_are_below_the_root(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        write(capsys, command, *words)[0][1]
        for words in (("one.txt", "--root", "other"), ("other",), ("one.txt", "--root", "set/cat"))
    ]
    assert made[0] == made[1] != made[2]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", [*both("--no-recursive")])
def test_the_folders_below_are_left_out(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other/deep").mkdir()
    Path("other/deep/0001.png").write_bytes(make_image(8))
    assert len(write(capsys, command, "other")) == 2
    assert [item[0] for item in write(capsys, command, "other", "--no-recursive")] == ["other/0000.png"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", [*both("--limit"), row("retrieve --limit", "retrieve")])
def test_the_first_images_only_are_taken(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "retrieve":
        Path("three.txt").write_text("a.png\tone\nb.png\ttwo\na.png\tthree\n")
        found = json.loads(read(capsys, "retrieve", "three.txt", "--limit", "1", "--json", *FAKE))
        assert [found[way]["queries"] for way in ("image_to_text", "text_to_image")] == [1, 2]
    else:
        assert len(write(capsys, command, "set", "--limit", "3")) == 3


@pytest.mark.usefixtures("home")
@pytest.mark.shows("retrieve --encoding")
def test_captions_are_read_in_their_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    Path("captions.txt").write_bytes("a.png\t狗\nb.png\t猫\n".encode("gbk"))
    found = json.loads(read(capsys, "retrieve", "captions.txt", "--encoding", "gbk", "--json", *FAKE))
    assert found["image_to_text"]["queries"] == 2
    status, _, err = run(capsys, "retrieve", "captions.txt", "--encoding", "utf-8", *FAKE)
    assert (status, "captions.txt, line 1: is not utf-8 text" in err) == (1, True)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", [*both("--batch-size"), row("retrieve --batch-size", "retrieve")])
def test_so_many_images_are_encoded_at_once(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Recorder(monkeypatch)
    if command == "retrieve":
        Path("five.txt").write_text("".join(f"{path}\ta text\n" for path in sorted(Path("set").rglob("*.png"))))
        read(capsys, "retrieve", "five.txt", "--batch-size", "2", *FAKE)
    else:
        write(capsys, command, "set", "--batch-size", "2")
    assert [len(batch) for batch in asked.of("image")] == [2, 2, 1]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", [*both("--workers"), row("retrieve --workers", "retrieve")])
def test_so_many_threads_decode(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pools: dict[str, int] = {}

    def open_pool(workers: int, thread_name_prefix: str) -> ThreadPoolExecutor:
        pools[thread_name_prefix] = workers
        return ThreadPoolExecutor(workers, thread_name_prefix)

    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", open_pool)
    if command == "retrieve":
        read(capsys, "retrieve", "pairs.txt", "--root", "other", "--workers", "7", *FAKE)
    else:
        write(capsys, command, "set", "--workers", "7")
    assert pools["decode"] == 7


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", both("--exif"))
def test_an_image_is_turned_or_not(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("turned.txt").write_text("turned.jpg\nupright.png\nraw.png\n")
    turned, upright, raw = (item[1] for item in write(capsys, command, "turned.txt"))
    assert turned == upright != raw
    turned, upright, raw = (item[1] for item in write(capsys, command, "turned.txt", "--exif", "ignore"))
    assert turned == raw != upright


class BlackDecoder:
    """Decodes every JPEG file to a black square."""

    name = "a decoder for tests"

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[Any]:
        """See `clipworks.images.decoders.JpegDecoder`."""
        return [np.zeros((260, 260, 3), np.uint8) for _ in zip(files, cuts, strict=True)]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", both("--decoder"))
def test_the_decoder_that_is_named_decodes(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def open_decoder(device: str) -> BlackDecoder:
        opened.append(device)
        return BlackDecoder()

    monkeypatch.setattr(decoders, "_is_installed", lambda _package: True)
    monkeypatch.setattr(decoders, "_open_nvimgcodec", open_decoder)
    asked = Recorder(monkeypatch)
    Path("plain").mkdir()
    Image.new("RGB", (30, 30), "white").save("plain/white.jpg")
    write(capsys, command, "plain", "--decoder", "nvimgcodec")
    assert opened == ["cpu"]
    assert not asked.of("image")[0].any()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", both("--restart"))
def test_a_run_with_other_settings_starts_over_when_told(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(capsys, command, "bad.txt", name="same")
    own = ["--labels", "labels.txt"] if command == "classify" else []
    words = [command, "set", "-o", f"{command}same", *own, *FAKE]
    assert run(capsys, *words)[0] == 2
    assert run(capsys, *words, "--restart")[0] == 0
    assert len(write(capsys, command, "set", name="same")) == COUNT


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", both("--strict"))
def test_an_image_that_cannot_be_read_is_exit_status_1_when_told(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--labels", "labels.txt"] if command == "classify" else []
    words = [command, "bad.txt", "-o", "out", *own, *FAKE]
    assert [run(capsys, *words)[0], run(capsys, *words, "--strict")[0]] == [0, 1]


@pytest.mark.usefixtures("home")
@pytest.mark.shows("classify --labels", "classify --templates", "classify --top")
def test_classes_prompts_and_their_number_are_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.txt").write_text("ant\nbee\n")
    found = write(capsys, "classify", "one.txt", "--root", "other", "--labels", "two.txt")
    assert {guess.name for guess in found[0][1]} == {"ant", "bee"}
    found = write(capsys, "classify", "one.txt", "--root", "other", "--templates", "drawings.txt", "--top", "3")
    cosines = match(capsys, "other/0000.png", *(f"a drawing of a {label}." for label in LABELS), "--top", "3")
    assert [f"a drawing of a {guess.name}." for guess in found[0][1]] == [text for text, _ in cosines]


@pytest.mark.usefixtures("home")
@pytest.mark.shows("classify --encoding")
def test_class_names_are_read_in_their_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("classify", "one.txt", "--root", "other", "--labels", "gbk.txt", "-o", "gbk.jsonl", *FAKE)
    assert run(capsys, *words)[0] == 1
    read(capsys, *words, "--encoding", "gbk")
    assert [record.top[0].name for record in read_results("gbk.jsonl")] == ["狗"]


@pytest.mark.usefixtures("home")
@pytest.mark.shows("classify --format")
def test_results_have_the_format_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write(capsys, "classify", "set", "--format", "text", name="text")
    assert ": top-1 id: " in Path("classifytext").read_text()
    write(capsys, "classify", "set", name="lines")
    assert ": top-1 id: " not in Path("classifylines").read_text()


@pytest.mark.usefixtures("home")
@pytest.mark.shows("embed --format")
def test_embeddings_have_the_format_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    read(capsys, "embed", "set", "-o", "table", "--format", "parquet", *FAKE)
    assert {path.name for path in Path("table").iterdir()} >= {"embeddings.parquet"}
    assert not Path("table", "embeddings.npy").exists()


ON_RAY: dict[str, tuple[str, Callable[[Request], object], object]] = {
    "--ray": ("head:6379", lambda request: request.address, "head:6379"),
    "--encoders": ("3", lambda request: request.encoders, 3),
    "--shard-size": ("64", lambda request: request.shard_size, 64),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("command", "option"), [row(f"{name} {option}", name, option) for name in BOTH for option in ON_RAY]
)
def test_ray_is_asked_what_the_options_say(
    command: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Ray makes of it is shown in test_ray.py; without --ray nothing is asked of it."""
    asked: list[Request] = []

    def run_here(request: Request, **options: object) -> ShardProgress:  # noqa: ARG001  # the form of the function
        asked.append(request)
        statistics = Statistics()
        return ShardProgress(
            done=1, before=0, total=1, failed=0, shards_done=1, shards=1, elapsed_s=1, statistics=statistics
        )

    monkeypatch.setattr(running, "run", run_here)
    value, find, expected = ON_RAY[option]
    own = ["--labels", "labels.txt"] if command == "classify" else []
    words = [] if option == "--ray" else ["--ray", "local"]
    read(capsys, command, "set", "-o", "shards", *own, *words, option, value)
    assert [find(request) for request in asked] == [expected]


# retrieve


def retrieve(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read(capsys, "retrieve", *words, "--json", *FAKE))
    return found


@pytest.mark.usefixtures("home")
@pytest.mark.shows("retrieve PAIRS", "retrieve --root")
def test_the_pairs_are_those_of_the_list_below_the_root(capsys: pytest.CaptureFixture[str]) -> None:
    found = retrieve(capsys, "pairs.txt", "--root", "other")
    assert (found["text_to_image"]["queries"], found["image_to_text"]["queries"]) == (2, 1)
    assert run(capsys, "retrieve", "pairs.txt", *FAKE)[0] == 2
