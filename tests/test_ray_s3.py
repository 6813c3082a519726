"""Sources and shards in an object store: an S3 server on this machine, asked as the real one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_sets import LABELS, make_image, write_images, write_labels

pytest.importorskip("ray")
pytest.importorskip("moto")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

import pyarrow.fs  # noqa: E402  # not before it is known to be there
from moto.server import ThreadedMotoServer  # noqa: E402  # as above
from ray_runs import run, shard_rows, table_rows  # noqa: E402  # as above
from test_distributed import write_tar  # noqa: E402  # as above

SET = ("--runtime", "fake", "--batch-size", "4")


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[dict[str, str], pyarrow.fs.FileSystem]]:
    """An S3 server with an empty bucket: the environment that leads to it, and a way in."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    endpoint = f"http://{host}:{port}"
    system = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint,
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    system.create_dir("images")
    yield {**access, "AWS_ENDPOINT_URL": endpoint}, system
    server.stop()


def put(system: pyarrow.fs.FileSystem, key: str, content: bytes) -> None:
    """Write an object."""
    with system.open_output_stream(f"images/{key}") as stream:
        stream.write(content)


def get_rows(system: pyarrow.fs.FileSystem, key: str, folder: Path) -> list[dict[str, object]]:
    """Bring the shards of a run here and read them."""
    folder.mkdir()
    for item in system.get_file_info(pyarrow.fs.FileSelector(f"images/{key}")):
        with system.open_input_stream(item.path) as stream:
            (folder / item.base_name).write_bytes(stream.read())
    return shard_rows(folder)


def test_a_folder_in_a_store_becomes_shards_in_a_store(
    tmp_path: Path, store: tuple[dict[str, str], pyarrow.fs.FileSystem]
) -> None:
    """The rows are those of the same files on one machine, but for the beginning of the path; a rerun goes on."""
    access, system = store
    write_images(tmp_path / "set", 30)
    (tmp_path / "set" / "cat" / "text.jpg").write_text("no image at all")
    for path in (tmp_path / "set").rglob("*.*"):
        put(system, path.relative_to(tmp_path).as_posix(), path.read_bytes())
    write_labels(tmp_path / "labels.txt")
    options = ("--labels", "labels.txt", *SET)
    status, _, err = run("classify", "set", "-o", "local.parquet", *options, folder=tmp_path)
    assert status == 0, err
    command = ["classify", "s3://images/set", "-o", "s3://images/results", *options, "--ray", "local"]
    command += ["--shard-size", "12"]
    status, _, err = run(*command, folder=tmp_path, **access)
    assert status == 0, err
    rows = get_rows(system, "results", tmp_path / "found")
    expected = table_rows(tmp_path / "local.parquet")
    for row in expected:
        for name in ("path", "error"):
            row[name] = row[name] and row[name].replace("set/", "s3://images/set/")
    assert rows == expected
    status, out, err = run("evaluate", "s3://images/results", "--json", folder=tmp_path, **access)
    assert status == 0, err
    assert json.loads(out)["images"] == 31
    system.delete_file("images/results/part-000001.parquet")
    status, _, err = run(*command, folder=tmp_path, **access)
    assert (status, "(19 of an earlier run) in 3 shards" in err) == (0, True), err
    assert get_rows(system, "results", tmp_path / "again") == rows


def test_tar_shards_of_a_store_give_the_rows_of_their_images(
    tmp_path: Path, store: tuple[dict[str, str], pyarrow.fs.FileSystem]
) -> None:
    """A tar is a shard; one that ends within an image has an error row there; ``.cls`` is the truth."""
    access, system = store
    number = 0
    for tar, count in enumerate((8, 12, 4)):
        members: dict[str, bytes] = {}
        for _ in range(count):
            members |= {f"{number:04}.png": make_image(number), f"{number:04}.cls": LABELS[number % 7].encode()}
            number += 1
        content = write_tar(tmp_path / "x.tar", members).read_bytes()
        put(system, f"tars/{tar:03}.tar", content if tar < 2 else content[: 4 * 1024 + 512 + 40])
    write_labels(tmp_path / "labels.txt")
    options = ("--labels", "labels.txt", *SET)
    command = ["classify", "s3://images/tars/{000..002}.tar", "-o", "results", *options, "--ray", "local", "--json"]
    status, out, err = run(*command, folder=tmp_path, **access)
    assert status == 0, err
    found = json.loads(out)
    assert (found["shards_done"], found["total"], found["whole"]) == (3, None, True)
    rows = shard_rows(tmp_path / "results")
    last = rows.pop()
    assert last["error"].startswith("s3://images/tars/002.tar is damaged after 2 images")
    assert [len(table_rows(tmp_path / "results" / f"part-{tar:06}.parquet")) for tar in (0, 1)] == [8, 12]
    write_images(tmp_path / "flat", len(rows))
    ordered = sorted((tmp_path / "flat").rglob("*.png"), key=lambda path: path.name)
    (tmp_path / "list.txt").write_text("".join(f"{path}\t{path.parent.name}\n" for path in ordered))
    status, _, err = run("classify", "list.txt", "-o", "local.parquet", *options, folder=tmp_path)
    assert status == 0, err
    expected = table_rows(tmp_path / "local.parquet")
    assert [{**row, "index": 0, "path": ""} for row in rows] == [{**row, "index": 0, "path": ""} for row in expected]
    assert all(row["path"].endswith(f"/{place:04}.png") for place, row in enumerate(rows))


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    access = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    access |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    status, _, err = run("embed", "s3://none/set", "-o", "out", "--ray", "local", folder=tmp_path, **access)
    assert status == 1
    assert err.startswith("clipworks: s3://none/set cannot be reached: ")
    assert len(err.splitlines()) == 1
