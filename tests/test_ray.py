"""Classify and embed on a real Ray: the rows of a run on one machine, whatever is killed on the way.

One cluster of three nodes, all on this machine, serves most tests; commands join it as a user's do.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
import siglip_checkpoints
from image_sets import write_bad_files, write_images, write_labels

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.ray,
    # Ray's own: what it leaves to the collector, and what of its libraries' ways goes out of use.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

import ray  # noqa: E402  # not before it is known to be there
from ray.cluster_utils import Cluster  # noqa: E402  # not before it is known to be there
from ray_runs import POISON, STARTUP, environment, run, shard_rows, start, table_rows  # noqa: E402  # as above
from signal_runs import allowing_signals  # noqa: E402  # as above

from clipworks.cluster.failures import explain_errors  # noqa: E402  # as above
from clipworks.convert import convert_checkpoint  # noqa: E402  # as above
from clipworks.errors import ClusterError  # noqa: E402  # as above

STORE = 100 << 20
SLOW = 700


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two data sets, labels, and what makes workers die of certain bytes."""
    home = tmp_path_factory.mktemp("ray")
    write_images(home / "set", 150)
    write_bad_files(home / "set" / "bad")
    write_images(home / "large", SLOW)
    write_labels(home / "labels.txt")
    (home / "startup").mkdir()
    (home / "startup" / "sitecustomize.py").write_text(STARTUP)
    return home


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    """Three nodes; the first one is the driver's."""
    kept = dict(os.environ)
    os.environ.update(environment(PYTHONPATH=str(home / "startup"), CLIPWORKS_CACHE=str(home / "cache")))
    os.environ.update(HF_HUB_OFFLINE="1", RAY_USAGE_STATS_ENABLED="0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=STORE)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(kept)


def words(cluster: Cluster | None, *more: str | Path) -> list[str | Path]:
    """Options of a run on Ray."""
    return [*more, "--ray", cluster.address if cluster else "local"]


EXACT = ("--runtime", "openvino", "--precision", "f32", "--batch-size", "8")
FAKE = ("--runtime", "fake", "--batch-size", "4", "--shard-size", "40")


def local_embeddings(home: Path, source: str, *options: str) -> list[dict[str, Any]]:
    """Rows of the same run on one machine."""
    output = home / f"local-{source}-{len(options)}"
    if not output.exists():
        status, _, err = run("embed", source, "-o", output, "--format", "parquet", *options, folder=home)
        assert status == 0, err
    return table_rows(output / "embeddings.parquet")


def same_rows(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Whether rows are the same, and embeddings the same bits."""
    pairs = list(zip(mine, theirs, strict=True))
    bits = [[np.array(row.pop("embedding") or (), np.float32).tobytes() for row in pair] for pair in pairs]
    return mine == theirs and all(one == other for one, other in bits)


def wait_for(what: Callable[[], Any], *, seconds: float = 120) -> Any:
    """Wait until something is true; return it."""
    for _ in range(round(seconds / 0.05)):
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def find_processes(title: str) -> list[int]:
    """Ray's worker processes whose title holds a word."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and title in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_embeddings_are_bit_for_bit_those_of_one_machine_and_a_rerun_finds_them(home: Path, cluster: Cluster) -> None:
    """Bad files are the same errors in the same places, with relative names and another number of encoders."""
    command = words(cluster, "embed", "set", "-o", "exact", *EXACT, "--shard-size", "50", "--encoders", "2", "--json")
    status, out, err = run(*command, folder=home)
    assert status == 0, err
    assert "dashboard: " in err
    assert len(err.splitlines()) == 3, err
    found = json.loads(out)
    rows = local_embeddings(home, "set", *EXACT)
    assert (found["done"], found["failed"], found["shards"], found["whole"]) == (155, 5, 3, True)
    assert [row["index"] for row in shard_rows(home / "exact")] == list(range(155))
    assert same_rows(shard_rows(home / "exact"), rows)
    stages = found["statistics"]["stages"]
    assert [stage["rows"] for stage in stages[1:]] == [20, len(rows)]
    manifest = json.loads((home / "exact" / "run.json").read_text())
    assert [shard["images"] for shard in manifest["shards"]] == [56, 56, 43]
    before = {path: path.stat().st_mtime_ns for path in (home / "exact").iterdir()}
    status, _, err = run(*command, "--strict", folder=home)
    assert (status, before) == (1, {path: path.stat().st_mtime_ns for path in (home / "exact").iterdir()})
    assert "complete already: 155 images in 3 shards, 5 could not be read" in err


def test_classes_are_those_of_one_machine_and_evaluate_and_report_read_the_folder(home: Path) -> None:
    """On a Ray that the command starts itself, and that is gone afterwards."""
    options = ("--labels", "labels.txt", "--top", "3", *EXACT)
    status, _, err = run("classify", "set", "-o", "local.parquet", *options, folder=home)
    assert status == 0, err
    clusters = len(find_processes("gcs_server"))
    status, _, err = run(*words(None, "classify", "set", "-o", "classes", *options, "--shard-size", "64"), folder=home)
    assert status == 0, err
    assert shard_rows(home / "classes") == table_rows(home / "local.parquet")
    wait_for(lambda: len(find_processes("gcs_server")) == clusters)
    found = [json.loads(run("evaluate", name, "--json", folder=home)[1]) for name in ("classes", "local.parquet")]
    assert {**found[0], "results": ""} == {**found[1], "results": ""}
    assert found[0]["images"] == 155
    status, out, err = run("report", "classes", folder=home)
    assert status == 0, err
    assert "top-1" in out


def test_siglip_gives_the_rows_of_one_machine(home: Path, cluster: Cluster) -> None:
    """Squashed images, and sigmoid scores: each class by itself, so that they do not add up to one."""
    source = siglip_checkpoints.write_huggingface(home / "siglip", siglip_checkpoints.MODELS["second"])
    bundle = convert_checkpoint(source, home / "siglip-bundle").folder
    model = ("--model", str(bundle), *EXACT)
    local = local_embeddings(home, "set", *model)
    status, _, err = run(
        *words(cluster, "embed", "set", "-o", "siglip-rows", *model, "--shard-size", "64"), folder=home
    )
    assert status == 0, err
    assert same_rows(shard_rows(home / "siglip-rows"), local)
    options = ("--labels", "labels.txt", "--top", "100", *model)
    status, _, err = run("classify", "set", "-o", "siglip.parquet", *options, folder=home)
    assert status == 0, err
    command = words(cluster, "classify", "set", "-o", "siglip-classes", *options, "--shard-size", "64")
    status, _, err = run(*command, folder=home)
    assert status == 0, err
    rows = shard_rows(home / "siglip-classes")
    assert rows == table_rows(home / "siglip.parquet")
    assert json.loads((home / "siglip-classes" / "run.json").read_text())["settings"]["score_kind"] == "sigmoid"
    assert max(abs(sum(row["scores"]) - 1) for row in rows if row["error"] is None) > 0.1


def test_a_run_is_resumed_after_finished_shards_and_refuses_other_settings(home: Path, cluster: Cluster) -> None:
    command = words(cluster, "embed", "set", "-o", "again", *FAKE)
    assert run(*command, folder=home)[0] == 0
    rows = shard_rows(home / "again")
    times = {number: (home / "again" / f"part-{number:06}.parquet").stat().st_mtime_ns for number in (0, 2, 3)}
    (home / "again" / "part-000001.parquet").unlink()
    (home / "again" / "part-000001.parquet.part").write_bytes(b"half")
    assert run(*command, folder=home)[0] == 0
    assert shard_rows(home / "again") == rows
    for number, then in times.items():
        assert (home / "again" / f"part-{number:06}.parquet").stat().st_mtime_ns == then
    for option, said in (
        (("--exif", "ignore"), "exif was apply and is ignore"),
        (("--shard-size", "80"), "shard_size was 40 and is 80"),
        (("--batch-size", "8"), "batch_size was 4 and is 8"),
    ):
        status, _, err = run(*command, *option, folder=home)
        assert status == 2
        assert f"again was begun with other settings: {said}" in err
    assert run(*command, "--exif", "ignore", "--restart", folder=home)[0] == 0


def test_a_driver_that_is_killed_loses_no_finished_shard(home: Path, cluster: Cluster) -> None:
    command = words(cluster, "embed", "large", "-o", "killed", *EXACT, "--shard-size", "64")
    process = start(*command, folder=home)
    wait_for(lambda: len(list((home / "killed").glob("part-*.parquet"))) >= 2 if (home / "killed").exists() else False)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in (home / "killed").glob("part-*.parquet")}
    assert 2 <= len(finished) < 11
    status, _, err = run(*command, folder=home)
    assert status == 0, err
    assert f"({64 * len(finished)} of an earlier run)" in err
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items())
    assert same_rows(shard_rows(home / "killed"), local_embeddings(home, "large", *EXACT))


def test_ctrl_c_ends_a_run_that_the_same_command_completes(home: Path, cluster: Cluster) -> None:
    command = words(cluster, "embed", "large", "-o", "stopped", *EXACT, "--shard-size", "64")
    with allowing_signals():
        process = start(*command, folder=home)
    wait_for(lambda: list((home / "stopped").glob("part-*.parquet")) if (home / "stopped").exists() else False)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "of 11 shards finished; the same command resumes from there" in err
    assert run(*command, folder=home)[0] == 0
    assert same_rows(shard_rows(home / "stopped"), local_embeddings(home, "large", *EXACT))


def test_killed_workers_and_then_a_killed_node_change_no_row(home: Path, cluster: Cluster) -> None:
    lost = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    cluster.wait_for_nodes()
    command = words(cluster, "embed", "large", "-o", "harmed", *EXACT, "--shard-size", "64", "--encoders", "3")
    process = start(*command, folder=home)
    wait_for(lambda: list((home / "harmed").glob("part-*.parquet")) if (home / "harmed").exists() else False)
    for title in ("ray::MapWorker(MapBatches(EncodingActor)", "ray::MapBatches(decode_pieces)"):
        os.kill(wait_for(functools.partial(find_processes, title))[0], signal.SIGKILL)
    wait_for(lambda: len(list((home / "harmed").glob("part-*.parquet"))) >= 3)
    cluster.remove_node(lost, allow_graceful=False)
    assert process.poll() is None, "nothing was left to harm"
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert same_rows(shard_rows(home / "harmed"), local_embeddings(home, "large", *EXACT))


def test_an_image_that_kills_its_decoder_is_one_error_row(home: Path, cluster: Cluster) -> None:
    poisoned = home / "poisoned"
    write_images(poisoned, 20)
    (poisoned / "dog" / "0001.png").write_bytes(POISON)
    status, _, err = run(*words(cluster, "embed", "poisoned", "-o", "survived", *FAKE), folder=home)
    assert status == 0, err
    rows = shard_rows(home / "survived")
    errors = [row["error"] for row in rows if row["error"] is not None]
    assert errors == ["poisoned/dog/0001.png ends the process that decodes it (signal 11)"]
    (poisoned / "dog" / "0001.png").unlink()
    others = [row for row in rows if row["error"] is None]
    assert [row["path"] for row in others] == [row["path"] for row in local_embeddings(home, "poisoned", *FAKE[:4])]


def test_labels_of_a_list_that_are_no_classes_are_told_before_the_run(home: Path, cluster: Cluster) -> None:
    (home / "list.txt").write_text("set/cat/0000.png\tcat\nset/dog/0001.png\tunicorn\n")
    command = words(cluster, "classify", "list.txt", "-o", "labelled", "--labels", "labels.txt", *FAKE)
    status, _, err = run(*command, folder=home)
    assert status == 2
    assert "the label 'unicorn', which is none of the 7 classes" in err
    assert not (home / "labelled").exists()


def test_what_cannot_be_run_is_one_clear_line(home: Path, cluster: Cluster) -> None:
    def fails(*command: str | Path) -> str:
        status, out, err = run(*command, folder=home)
        assert (status, out) == (1 if "no/such" in command else 2, ""), err
        said = [line for line in err.splitlines() if line.startswith("clipworks: ")]
        assert len(said) == 1, err
        return said[0]

    base = ("embed", "set", "-o", "none", *FAKE, "--ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert f"no Ray cluster is at 127.0.0.1:{port}" in fails(*base, f"127.0.0.1:{port}")
    assert "--ray is 'nonsense'; allowed: local, auto or HOST:PORT" in fails(*base, "nonsense")
    joined = (*base, cluster.address)
    assert "there is no room in the object store: 8 batches" in fails(*joined, "--batch-size", "512")
    assert "99 encoders do not fit: the cluster has 5 CPUs" in fails(*joined, "--encoders", "99")
    assert "the device cuda was asked for, and the cluster has no GPU" in fails(*joined, "--device", "cuda")
    unknown = ("embed", "set", "-o", "none", "--model", "no/such", "--offline", "--ray")
    assert "no/such" in fails(*unknown, cluster.address)


def test_a_source_that_nodes_cannot_see_is_named(home: Path, cluster: Cluster) -> None:
    """Files in the memory of the driver's process are the plainest case of what only the driver sees."""
    program = (
        "import sys, fsspec; from clipworks.cli import main; "
        "fsspec.filesystem('memory').pipe('/set/a.png', b'x'); sys.exit(main(sys.argv[1:]))"
    )
    command = [*map(str, words(cluster, "embed", "memory://set", "-o", "unseen", *FAKE))]
    done = children.run(
        [sys.executable, "-c", program, *command],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot see memory://set/a.png: it is missing there and file here" in done.stderr


def test_an_encoder_that_takes_something_else_ends_the_run_in_one_line(home: Path, cluster: Cluster) -> None:
    """As on a node with another processor: what the first one found is changed here before the others compare."""
    done = embed_as_taken(home, cluster, "mixed", cpu="another processor")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith(("Ray: ", "set: 1 file is no image"))]
    assert len(said) == 2, done.stderr
    assert "would make other rows than the rest of this run: cpu is " in said[0]
    assert " and not another processor" in said[0]


def test_every_node_takes_the_precision_that_the_first_encoder_took(home: Path, cluster: Cluster) -> None:
    """Auto is settled once: here the first encoder is made to say bf16, which none would choose for itself."""
    done = embed_as_taken(home, cluster, "settled", precision="bf16")
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "settled" / "run.json").read_text())["settings"]["precision"] == "bf16"


def embed_as_taken(home: Path, cluster: Cluster, output: str, **facts: str) -> subprocess.CompletedProcess[str]:
    """Embed a set where the first encoder is made to find something else than is there."""
    program = (
        "import dataclasses, sys; from clipworks.cli import main; from clipworks.cluster import stages; "
        "whole = stages.examine\n"
        "def differ(*given):\n"
        "    found = whole(*given)\n"
        f"    return dataclasses.replace(found, facts={{**found.facts, **{facts!r}}})\n"
        "stages.examine = differ\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [*map(str, words(cluster, "embed", "set", "-o", output, *FAKE))]
    return children.run(
        [sys.executable, "-c", program, *command],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_store_that_fills_up_is_one_clear_line() -> None:
    """As Ray raises it, from a task or from the driver."""
    for error in (ray.exceptions.ObjectStoreFullError("full"), ray.exceptions.OutOfDiskError("full")):
        with (
            pytest.raises(ClusterError, match="there is no room in the object store, nor on the disk"),
            explain_errors(),
        ):
            raise ray.exceptions.RayTaskError("decode", "trace", error)
        with (
            pytest.raises(ClusterError, match="there is no room in the object store, nor on the disk"),
            explain_errors(),
        ):
            raise error


START = """
import os, sys
from clipworks.cluster import cluster
from urllib.request import urlopen
with cluster.join_cluster(cluster.LOCAL, encoders=1, threads=1) as joined:
    with urlopen(joined.dashboard) as answer:
        print(answer.status, joined.nodes, *cluster.ask_nodes(lambda: "a worker").values())
    names = [open(f"/proc/{name}/cmdline").read() for name in os.listdir("/proc") if name.isdigit()]
    print(any("raylet" in name and f"_{os.getpid()}/" in name for name in names))
print(f"_{os.getpid()}/")
"""


def test_a_ray_that_is_started_here_has_a_dashboard_and_ends(tmp_path: Path) -> None:
    done = children.run(
        [sys.executable, "-c", START],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    answered, running, session = done.stdout.splitlines()
    assert (answered, running) == ("200 1 a worker", "True"), done.stderr
    assert "Traceback" not in done.stderr
    wait_for(lambda: not find_processes(session), seconds=20)
