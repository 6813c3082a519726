"""What Ray's tasks do, without Ray: plans, sources, reading, decoding in a process apart, shards."""

from __future__ import annotations

import dataclasses
import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_sets import make_image, write_bad_files, write_images, write_labels

pytest.importorskip("pyarrow")

import pyarrow as pa
from PIL import Image
from ray_runs import POISON, STARTUP, environment, table_rows

from clipworks.cli import main
from clipworks.cli.ray import format_state
from clipworks.cluster.cluster import Cluster, check_store, plan_pool
from clipworks.cluster.collecting import Collector
from clipworks.cluster.decoder_process import DecoderProcess
from clipworks.cluster.decoding import Decoding, decode_block, decode_pieces, unpack_block
from clipworks.cluster.encoding import Encoding, EncodingActor, Loading, check_facts, examine
from clipworks.cluster.job import Request, ShardProgress
from clipworks.cluster.plan import Piece, make_plan
from clipworks.cluster.reading import RawBlock, read_piece
from clipworks.cluster.running import share_cores
from clipworks.cluster.statistics import StageStatistics, Statistics
from clipworks.datasets.listing import Sample, read_dataset
from clipworks.datasets.selection import Selection
from clipworks.datasets.sources import Archives, read_source
from clipworks.errors import ImageError, ResultsError, UsageError
from clipworks.images.decode import prepare_image
from clipworks.images.decoders import PillowDecoder
from clipworks.loading import load
from clipworks.options import ImageOptions, RuntimeOptions
from clipworks.pipeline import attempt
from clipworks.results.shards import list_shards, open_folder, write_shard
from clipworks.tasks.classify import Classes
from clipworks.text.prompts import read_labels


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar as WebDataset does: members of one sample beside each other."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    return path


def read_tar(path: Path, batch_size: int) -> list[tuple[int, int | None, list[str], list[str | None]]]:
    """Start, size, paths and truths of each block of a tar; paths stand for errors too."""
    piece = Piece(shard=3, start=0, size=None, archive=str(path))
    return [
        (
            block.start,
            block.size,
            [
                content if isinstance(content, str) else sample.path
                for sample, content in zip(block.samples, block.contents, strict=True)
            ],
            [sample.truth for sample in block.samples],
        )
        for block in read_piece(piece, batch_size=batch_size, base="/")
    ]


def test_blocks_of_a_plan_are_those_of_a_run_on_one_machine(tmp_path: Path) -> None:
    """Whatever the cluster's size, pieces hold whole blocks, and blocks begin at multiples of the batch size."""
    found = read_dataset(write_images(tmp_path / "set", 101))
    plan = make_plan(found, batch_size=4, shard_size=40)
    assert plan.shards == 3
    for cores in (1, 2, 64):
        pieces = list(plan.cut(range(3), cores))
        assert [sample for piece in pieces for sample in piece.samples] == list(found)
        blocks = [block for piece in pieces for block in read_piece(piece, batch_size=4, base="/")]
        assert [block.start for block in blocks] == list(range(0, 101, 4))
        assert [len(block.samples) for block in blocks] == [4] * 25 + [1]
        assert {(piece.shard, piece.size) for piece in pieces} == {(0, 40), (1, 40), (2, 21)}
    assert [piece.shard for piece in plan.cut([2], 1)] == [2] * len(list(plan.cut([2], 1)))


def test_a_shard_holds_whole_batches() -> None:
    with pytest.raises(UsageError, match="shard size is 10; allowed: a multiple of the batch size, 4"):
        make_plan(Archives(source="x", files=("x",)), batch_size=4, shard_size=10)


def test_tars_are_told_by_name_folder_list_or_pattern(tmp_path: Path) -> None:
    names = [f"{number:03}.tar" for number in range(8, 11)]
    (tmp_path / "tars").mkdir()
    for name in names:
        write_tar(tmp_path / "tars" / name, {"a.png": make_image(1)})
    files = tuple(str(tmp_path / "tars" / name) for name in names)
    (tmp_path / "list.txt").write_text("\n".join(files))
    for source in (tmp_path / "tars", tmp_path / "list.txt", tmp_path / "tars" / "{008..010}.tar"):
        assert read_source(Selection(sources=(str(source),))) == Archives(source=str(source), files=files)
    assert read_source(Selection(sources=files[:1])) == Archives(source=files[0], files=files[:1])
    joined = Archives(source=f"{files[0]} and 2 more", files=files)
    assert read_source(Selection(sources=files)) == joined
    with pytest.raises(UsageError, match=r"has the range 5\.\.1; allowed: from low to high"):
        read_source(Selection(sources=("x-{5..1}.tar",)))
    with pytest.raises(UsageError, match="--root r goes with a list of images"):
        read_source(Selection(sources=files[:1], root="r"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no image"):
        read_source(Selection(sources=(str(tmp_path / "empty"),)))
    with pytest.raises(UsageError, match="--limit 3 goes with a list or folder"):
        read_source(Selection(sources=files, limit=3))
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match="tar shards and images; allowed on Ray: one of the two"):
        read_source(Selection(sources=(*files, str(tmp_path / "a.png"))))


def test_a_tar_gives_its_images_in_order_with_their_classes(tmp_path: Path) -> None:
    members = {
        "a/1.png": make_image(1),
        "a/1.cls": b"3\n",
        "a/1.json": b"{}",
        "a/2.cls": b"dog",
        "a/2.jpg": make_image(2),
        "a/3.txt": b"only text",
        "a/4.seg.png": make_image(3),
        "b/4.webp": make_image(4),
    }
    path = write_tar(tmp_path / "x.tar", members)
    assert read_tar(path, 2) == [
        (0, None, [f"{path}/a/1.png", f"{path}/a/2.jpg"], ["3", "dog"]),
        (2, 3, [f"{path}/b/4.webp"], [None]),
    ]
    assert read_tar(path, 3) == [(0, 3, [f"{path}/a/1.png", f"{path}/a/2.jpg", f"{path}/b/4.webp"], ["3", "dog", None])]


def test_a_damaged_tar_is_an_error_behind_the_images_before_it(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", {f"{n}.png": make_image(n) for n in range(5)})
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[: 3 * 1024 + 600])
    ((_, size, paths, _),) = read_tar(cut, 8)
    assert size == len(paths)
    assert paths[-1].startswith(f"{cut} is damaged after {len(paths) - 1} images")
    empty = write_tar(tmp_path / "empty.tar", {"readme.txt": b"none"})
    assert read_tar(empty, 8) == [(0, 1, [f"{empty} holds no image"], [None])]
    assert read_tar(tmp_path / "no.tar", 8) == [(0, 1, [f"{tmp_path}/no.tar does not exist"], [None])]


def test_decoding_apart_gives_the_same_squares_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the letter, relative names too: rows must not tell where they were made."""
    monkeypatch.chdir(tmp_path)
    expected = write_bad_files(Path("set"))
    Path("set/good.png").write_bytes(make_image(5))
    names = ["good.png", *expected, "good.png"]
    samples = tuple(Sample(path=name, file=f"set/{name}", truth=None, labelled=False) for name in names)
    with load("starter", RuntimeOptions(runtime="fake"), towers=("image",)) as model:
        spec = model.card.image
        local = [attempt(PillowDecoder(spec).prepare, sample.file) for sample in samples]
    monkeypatch.chdir("/")
    piece = Piece(shard=7, start=16, size=64, samples=samples)
    job = Decoding(spec=spec, options=ImageOptions(), batch_size=32, base=str(tmp_path))
    (table,) = decode_pieces(pa.table({"piece": [pickle.dumps(piece)]}), job)
    shard, start, size, items, prepared = unpack_block(table, spec.size)
    assert (shard, start, size, items) == (7, 16, 64, samples)
    for mine, theirs in zip(prepared, local, strict=True):
        assert isinstance(mine, str) == isinstance(theirs, str)
        assert np.array_equal(np.asarray(mine), np.asarray(theirs))


@pytest.mark.parametrize(
    "options",
    [ImageOptions(), ImageOptions(alpha="white"), ImageOptions(as_published=True), ImageOptions(max_pixels=100)],
)
def test_decoding_apart_reads_images_as_the_options_say(options: ImageOptions, tmp_path: Path) -> None:
    clear = Image.effect_noise((40, 30), 90).convert("RGB")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(tmp_path / "clear.png")
    with load("starter", RuntimeOptions(runtime="fake"), towers=("image",)) as model:
        spec = model.card.image
    decoder = DecoderProcess(spec, options)
    (found,) = decoder.decode([("clear.png", (tmp_path / "clear.png").read_bytes())])
    decoder.close()
    if options.max_pixels == 100:
        assert found == "clear.png unpacks to more than 100 pixels (max_pixels), which may be a decompression bomb"
    else:
        np.testing.assert_array_equal(found, prepare_image(tmp_path / "clear.png", spec, options=options))


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderProcess]:
    """A decoder whose process certain bytes end."""
    (tmp_path / "sitecustomize.py").write_text(STARTUP)
    monkeypatch.setenv("PYTHONPATH", environment(PYTHONPATH=str(tmp_path))["PYTHONPATH"])
    with load("starter", RuntimeOptions(runtime="fake"), towers=("image",)) as model:
        decoder = DecoderProcess(model.card.image, ImageOptions())
    yield decoder
    decoder.close()


def name_samples(*names: str) -> list[Sample]:
    """Samples that decoding needs no more of than their names."""
    return [Sample(path=name, file=name, truth=None, labelled=False) for name in names]


def test_an_image_that_ends_its_process_is_one_error(deadly: DecoderProcess) -> None:
    """Whatever is decoded together with it: before it, behind it, and afterwards."""
    for _ in range(2):
        block = RawBlock(
            shard=0,
            start=0,
            size=4,
            samples=tuple(name_samples("a.png", "no.png", "poison.png", "b.png")),
            contents=(make_image(1), "no.png does not exist", POISON, make_image(2)),
        )
        first, unread, said, last = decode_block(deadly, block)
        assert unread == "no.png does not exist"
        assert said == "poison.png ends the process that decodes it (signal 11)"
        for square, number in ((first, 1), (last, 2)):
            assert isinstance(square, np.ndarray)
            assert np.array_equal(square, deadly.decode([("alone.png", make_image(number))])[0])


def test_an_image_that_never_ends_is_one_error(deadly: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipworks.cluster.decoder_process.LIMIT_S", 0.0)
    said = deadly.decode([("a.png", make_image(1))])
    assert said == ["a.png takes longer than 0 s to decode"]


def test_images_of_many_messages_keep_their_places(deadly: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut by number and by size; an image that is larger than a message may be goes alone."""
    contents = [make_image(number % 7) for number in range(70)]
    monkeypatch.setattr("clipworks.cluster.decoder_process._TOGETHER_BYTES", sum(map(len, contents[:20])))
    squares = deadly.decode(zip(map(str, range(70)), contents, strict=True))
    for number in range(70):
        assert np.array_equal(squares[number], squares[number % 7])
    assert not np.array_equal(squares[0], squares[1])
    monkeypatch.setattr("clipworks.cluster.decoder_process._TOGETHER_BYTES", 1)
    alone = deadly.decode(zip("abcdefgh", contents[:8], strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(alone, squares[:8], strict=True))


def make_table(shard: int, first: int, count: int, size: int | None) -> pa.Table:
    """Rows as an encoder gives them."""
    places = range(first, first + count)
    return pa.table(
        {
            "index": pa.array(places, pa.int64()),
            "error": pa.array(["no" if place == 3 else None for place in places], pa.string()),
            "shard": pa.array([shard] * count, pa.int64()),
            "size": pa.array([size] * count, pa.int64()),
        }
    )


def test_an_encoder_gives_the_rows_of_a_run_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both commands, bad files among them, without Ray around it."""
    monkeypatch.chdir(tmp_path)
    write_images(Path("set"), 20)
    write_bad_files(Path("set/bad"))
    write_labels(Path("labels.txt"))
    options = ["--runtime", "fake", "--batch-size", "64"]
    assert main(["classify", "set", "-o", "r.parquet", "--labels", "labels.txt", "--top", "3", *options]) == 0
    assert main(["embed", "set", "-o", "vectors", "--format", "parquet", *options]) == 0
    found = tuple(read_dataset("set"))
    piece = Piece(shard=0, start=0, size=len(found), samples=found)
    loading = Loading(options=RuntimeOptions(runtime="fake"), model="starter")
    classes = Classes(labels=read_labels("labels.txt"), templates=("a photo of a {}.",), top=3)
    for wanted, output in ((classes, "r.parquet"), (None, "vectors/embeddings.parquet")):
        found_there = examine(loading, wanted)
        decoding = Decoding(spec=found_there.spec, options=ImageOptions(), batch_size=64, base=str(tmp_path))
        (table,) = decode_pieces(pa.table({"piece": [pickle.dumps(piece)]}), decoding)
        rows = EncodingActor(Encoding(loading=loading, source="set", classes=wanted, found=found_there))(table)
        assert rows.drop_columns(["shard", "size"]).to_pylist() == table_rows(Path(output))


def test_shards_are_written_when_whole_in_the_order_of_their_rows(tmp_path: Path) -> None:
    folder = str(tmp_path / "out")
    assert open_folder(folder, restart=False) is None
    with Collector(folder) as collector:
        collector.add(make_table(1, 12, 4, None))
        collector.add(make_table(0, 4, 4, 8))
        collector.add(make_table(1, 8, 4, None))
        collector.finish()
        assert list_shards(folder) == {}
        collector.add(pa.concat_tables([make_table(0, 0, 4, 8), make_table(1, 16, 2, 10)]))
        collector.finish()
    found = list_shards(folder)
    assert [(shard.images, shard.failed) for _, shard in sorted(found.items())] == [(8, 1), (10, 0)]
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "out" / "part-000001.parquet").to_pydict()["index"] == list(range(8, 18))
    assert (collector.rows, collector.failed) == (18, 1)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_shard(str(tmp_path), 0, make_table(0, 0, 4, 4).drop_columns(["shard", "size"]))
    (tmp_path / "part-000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"part-000001\.parquet is damaged, or no shard of a run of ours"):
        list_shards(str(tmp_path))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for restart in (False, True):
        with pytest.raises(UsageError, match=r"is not empty.*run\.json is missing"):
            open_folder(str(tmp_path), restart=restart)
    with pytest.raises(UsageError, match="is a file; allowed: a folder's name"):
        open_folder(str(tmp_path / "mine.txt"), restart=False)
    with pytest.raises(UsageError, match=r"the folder .*/no does not exist"):
        open_folder(str(tmp_path / "no" / "out"), restart=False)


CLUSTER = Cluster(nodes=2, cpus=8, gpus=0, store=1 << 30, dashboard=None)


def test_encoders_leave_a_cpu_that_decodes() -> None:
    assert plan_pool(CLUSTER, encoders=None, device="auto", threads=None).size == 2
    assert plan_pool(CLUSTER, encoders=2, device="cpu", threads=64).cpus == 3
    with pytest.raises(UsageError, match=r"8 encoders do not fit: .* allowed: --encoders up to 7"):
        plan_pool(CLUSTER, encoders=8, device="cpu", threads=None)
    with pytest.raises(UsageError, match="the device cuda was asked for, and the cluster has no GPU"):
        plan_pool(CLUSTER, encoders=None, device="cuda", threads=None)


def test_a_ray_of_ones_own_has_two_encoders_and_half_as_many_decoding_tasks_as_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was asked for stays."""
    monkeypatch.setattr("clipworks.cluster.running.count_cores", lambda: 8)
    request = Request(selection=Selection(sources=("images",)), output="rows", loading=Loading(model="starter"))
    shared = share_cores(request)
    assert (shared.encoders, shared.loading.options.threads, shared.workers) == (2, 4, 4)
    assert share_cores(dataclasses.replace(request, workers=7)).workers == 7
    asked = dataclasses.replace(request, encoders=1)
    assert share_cores(asked) == asked


def test_no_room_in_the_object_store_is_told_before_the_run() -> None:
    check_store(CLUSTER, 32, 224)
    with pytest.raises(UsageError, match=r"there is no room in the object store.*allowed here: --batch-size up to 891"):
        check_store(CLUSTER, 2048, 224)


def test_a_node_that_uses_something_else_is_named() -> None:
    run = {"precision": "bf16", "isa": ["avx2", "avx512_bf16"], "cpu": "x"}
    check_facts(run, {**run, "isa": ("avx2", "avx512_bf16")}, "n1")
    with pytest.raises(UsageError, match=r"the node n1 would make other rows .*: precision is f32 and not bf16"):
        check_facts(run, {**run, "precision": "f32"}, "n1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "local"], "--ray needs the package ray, which is not installed"),
        (["--ray", "local", "--format", "jsonl"], "--format is jsonl; allowed with --ray: parquet"),
        (["--encoders", "2"], "--encoders goes with --ray"),
        (["--ray", "local", "--decoder", "nvimgcodec"], "--decoder is nvimgcodec; allowed with --ray: pillow"),
        (["--shard-size", "2"], "--shard-size goes with --ray"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clipworks.cluster.cluster.importlib.util.find_spec", {}.get)
    labels = write_labels(tmp_path / "labels.txt")
    write_images(tmp_path / "set", 2)
    command = ["classify", str(tmp_path / "set"), "-o", str(tmp_path / "out"), "--labels", str(labels), *words]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert ("pip install 'clipworks[ray]'" in error) == ("not installed" in error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.txt", "set"]


def test_progress_is_one_line_of_images_speed_time_errors_and_tasks() -> None:
    """Images of an earlier run are done and have no speed; of tars, shards tell how much is left."""
    stages = [
        StageStatistics(name=name, tasks_running=running)
        for name, running in (("Input", 0), ("decode", 2), ("encode", 1))
    ]
    state = ShardProgress(
        done=60,
        before=10,
        total=100,
        failed=3,
        shards_done=1,
        shards=4,
        elapsed_s=10.0,
        statistics=Statistics(stages=stages),
    )
    line = format_state(state)
    assert line.endswith(" 60 of 100, 5.0 images/s, 8 s left, 3 errors, tasks 2+1")
    line = format_state(dataclasses.replace(state, total=None))
    assert line.endswith(" 1 of 4 shards, 50 images, 5.0 images/s, 30 s left, 3 errors, tasks 2+1")
    assert "tasks" not in format_state(dataclasses.replace(state, statistics=Statistics()))
