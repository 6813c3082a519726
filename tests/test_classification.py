"""Classification: records in order, bad files as errors in place, and a run that any end leaves ready to go on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
from conftest import EXAMPLE
from image_sets import LABELS, make_image, write_bad_files, write_images, write_labels
from signal_runs import allowing_signals

from clipworks.cli import main
from clipworks.datasets.ground_truth import find_truths
from clipworks.datasets.listing import read_dataset
from clipworks.errors import ResultsError, UsageError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.pipeline import LoopOptions
from clipworks.results import journal
from clipworks.results.formats import read_results
from clipworks.results.locks import hold_file
from clipworks.tasks import kept_texts, zero_shot
from clipworks.tasks.classify import Classes, classify
from clipworks.tasks.runs import RunOptions
from clipworks.text.prompts import Labels, read_labels

COUNT = 45


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, labels, and the results of an uninterrupted run in every format."""
    home = tmp_path_factory.mktemp("classify")
    write_images(home / "set", COUNT)
    write_labels(home / "labels.txt")
    return home


@pytest.fixture
def fake() -> Iterator[Model]:
    with load("starter", RuntimeOptions(runtime="fake"), towers=("image",)) as model:
        yield model


def words(home: Path, output: Path, *more: str) -> list[str]:
    options = ["--labels", str(home / "labels.txt"), "--batch-size", "4", "--runtime", "fake", "--workers", "2"]
    return ["classify", str(home / "set"), "-o", str(output), *options, *more]


def run(home: Path, output: Path, *more: str) -> int:
    try:
        return main(words(home, output, *more))
    except SystemExit as stop:
        return int(stop.code or 0)


def whole(home: Path, name: str, *more: str) -> bytes:
    """What an uninterrupted run writes."""
    output = home / name
    if not output.exists():
        assert run(home, output, *more) == 0
    return output.read_bytes()


def test_records_come_in_order_with_truth_and_ranked_classes(home: Path) -> None:
    whole(home, "whole.jsonl")
    found = list(read_results(home / "whole.jsonl"))
    assert [record.path for record in found] == [sample.path for sample in read_dataset(home / "set")]
    assert [record.index for record in found] == list(range(COUNT))
    assert all(LABELS[record.truth or 0] == Path(record.path).parent.name for record in found)
    for record in found:
        assert len(record.top) == 5
        assert len({guess.id for guess in record.top}) == 5
        scores = [guess.score for guess in record.top]
        assert scores == sorted(scores, reverse=True)
        assert all(guess.name == LABELS[guess.id] for guess in record.top)


def test_scores_are_those_of_match_over_all_labels(home: Path) -> None:
    """The pipeline, batches and classifier lead to the same numbers as one image against the filled-in prompts."""
    whole(home, "whole.jsonl")
    record = list(read_results(home / "whole.jsonl"))[17]
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        match = model.match(record.path, [f"a photo of a {label}." for label in LABELS], top=5)
    assert [guess.id for guess in record.top] == [score.index for score in match.scores]
    assert [guess.score for guess in record.top] == pytest.approx([score.score for score in match.scores], rel=1e-4)


def test_every_format_says_the_same(home: Path) -> None:
    pytest.importorskip("pyarrow")
    whole(home, "whole.jsonl")
    assert run(home, home / "all.parquet") == 0
    assert run(home, home / "all.txt") == 0
    assert run(home, home / "all.csv") == 0
    expected = list(read_results(home / "whole.jsonl"))
    assert list(read_results(home / "all.parquet")) == expected
    assert list(read_results(home / "all.csv")) == expected
    assert [(item.path, item.top) for item in read_results(home / "all.txt")] == [
        (item.path, item.top) for item in expected
    ]
    assert (home / "all.txt").read_text().count("\n") == 5 * COUNT
    assert not (home / "all.parquet.journal").exists()


def test_bad_files_become_errors_in_place_and_strict_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_bad_files(tmp_path / "set")
    (tmp_path / "set" / "fine, really: ü.png").write_bytes(make_image(1))
    (tmp_path / "set" / "locked.png").write_bytes(make_image(2))
    expected["locked.png"] = "may not be read: permission denied"
    names = ["fine, really: ü.png", *expected, "fine, really: ü.png", "missing.png"]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(names) + "\n")
    write_labels(tmp_path / "labels.txt")
    open_path = Path.open

    def refuse_locked(path: Path, *options: Any, **named: Any) -> Any:
        if path.name == "locked.png":  # the tests may run as root, whom no mode keeps out
            raise PermissionError(13, "Permission denied")
        return open_path(path, *options, **named)

    monkeypatch.setattr(Path, "open", refuse_locked)
    for name in ("r.jsonl", "r.csv", "r.txt"):
        output = tmp_path / name
        command = ["classify", str(listing), "--root", str(tmp_path / "set"), "-o", str(output)]
        command += ["--labels", str(tmp_path / "labels.txt"), "--runtime", "fake", "--batch-size", "3"]
        assert main(command) == 0
        assert main([*command, "--strict"]) == 1
        err = capsys.readouterr().err
        assert f"{output}: {len(names):,} images, {len(expected) + 1} could not be read" in err
        assert "complete already" in err
        found = list(read_results(output))
        assert [record.path for record in found] == names
        for record in found:
            if record.path in expected:
                assert record.error is not None
                assert expected[record.path] in record.error
                assert record.top == ()
            else:
                assert record.error is None
                assert len(record.top) == 5
        assert found[0].top == found[-2].top


@pytest.mark.parametrize("name", ["cut.jsonl", "cut.txt", "cut.csv", "cut.parquet"])
def test_a_journal_cut_anywhere_is_continued_to_the_same_bytes(home: Path, name: str, fake: Model) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    labels = read_labels(str(home / "labels.txt"))
    classes = Classes(labels=labels, templates=("{}",))
    classifier = np.eye(len(labels), fake.card.dim, dtype=np.float32)
    dataset = read_dataset(home / "set")
    output = home / name
    written = home / (f"{name}.journal" if name.endswith(".parquet") else name)

    def go(stop_at: int = COUNT) -> bool:
        seen = 0

        def count(progress: object) -> None:  # noqa: ARG001
            nonlocal seen
            seen += 1

        options = RunOptions(loop=LoopOptions(batch_size=4), report=count, stop=lambda: seen * 4 >= stop_at)
        return classify(fake, dataset, classes, classifier, output, options).whole

    assert go()
    expected = output.read_bytes()
    output.unlink()
    assert not go(stop_at=36)
    journal_bytes = written.read_bytes()
    chances = random.Random(3)
    for _ in range(6):
        length = chances.randrange(len(journal_bytes) + 1)
        written.write_bytes(journal_bytes[:length] + chances.choice([b"", b"\0" * 50, b'{"index":', b"torn \n"]))
        assert go()
        assert output.read_bytes() == expected
        if written != output:
            assert not written.exists()
            output.unlink()


def test_a_run_killed_at_random_points_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL, again and again, at points of the file that chance chooses; then one run to the end."""
    write_images(tmp_path / "set", 300)
    write_labels(tmp_path / "labels.txt")
    expected = whole(tmp_path, "whole.jsonl")
    output = tmp_path / "killed.jsonl"
    command = [sys.executable, "-m", "clipworks", *words(tmp_path, output)]
    kills = 0
    third = len(expected) * 3 // 10
    for point in [random.randrange(third * part, third * (part + 1)) for part in range(3)]:
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while process.poll() is None and (not output.exists() or output.stat().st_size < point):
            time.sleep(0.0005)
        process.kill()
        assert process.communicate(timeout=60)[1] is not None
        kills += process.returncode == -signal.SIGKILL
        assert expected.startswith(output.read_bytes()), point
    assert kills >= 1
    done = children.run(command, capture_output=True, check=True, text=True)
    assert output.read_bytes() == expected
    assert "all could be read" in done.stderr
    sidecars = [(tmp_path / f"{name}.jsonl.run.json").read_bytes() for name in ("whole", "killed")]
    assert sidecars[0] == sidecars[1]


LIMITED = """
import resource, signal, sys
from clipworks.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_later(home: Path) -> None:
    expected = whole(home, "whole.jsonl")
    output = home / "full.jsonl"
    limit = str(len(expected) // 2 + 7)
    done = children.run(
        [sys.executable, "-c", LIMITED, limit, *words(home, output)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == [
        f"clipworks: {output} cannot be written: File too large",
        "  hint: what is written is kept: the same command resumes from there",
    ]
    assert output.stat().st_size == int(limit)
    assert run(home, output) == 0
    assert output.read_bytes() == expected


def test_ctrl_c_finishes_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 400)
    write_labels(tmp_path / "labels.txt")
    expected = whole(tmp_path, "whole.jsonl")
    output = tmp_path / "stopped.jsonl"
    command = [sys.executable, "-m", "clipworks", *words(tmp_path, output)]
    with allowing_signals():
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not output.exists() or output.stat().st_size < 1):
        time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    done = len(list(read_results(output)))
    assert 0 < done < 400
    assert done % 4 == 0
    assert f"stopped after {done} of 400 images; the same command resumes from there" in err
    assert expected.startswith(output.read_bytes())
    assert run(tmp_path, output) == 0
    assert output.read_bytes() == expected


def test_a_run_with_other_settings_refuses_and_says_what_differs(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = home / "mixed"
    assert run(home, output) == 0
    before = output.read_bytes()
    (tmp_path / "templates.txt").write_text("a drawing of a {}.\n")
    (tmp_path / "labels.txt").write_text("\n".join(reversed(LABELS)))
    for more, message in [
        (("--top", "3"), "top was 5 and is 3"),
        (("--precision", "bf16"), "precision was f32 and is bf16"),
        (("--templates", str(tmp_path / "templates.txt")), "the prompt templates changed"),
        (("--labels", str(tmp_path / "labels.txt")), "the class names changed"),
        (("--exif", "ignore"), "exif was apply and is ignore"),
        (("--batch-size", "5"), "batch_size was 4 and is 5"),
        (("--format", "text"), "format was jsonl and is text"),
    ]:
        assert run(home, output, *more) == 2
        err = capsys.readouterr().err
        assert f"{output} was begun with other settings: " in err
        assert message in err
        assert "--restart" in err
        assert output.read_bytes() == before
    assert run(home, output, "--workers", "1") == 0
    assert run(home, output, "--top", "3", "--restart") == 0
    assert len(next(read_results(output)).top) == 3


def test_a_changed_source_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "set", 9)
    write_labels(tmp_path / "labels.txt")
    output = tmp_path / "r.jsonl"
    assert run(tmp_path, output) == 0
    (tmp_path / "set" / "cat" / "new.png").write_bytes(make_image(99))
    assert run(tmp_path, output) == 2
    assert "other settings: images was 9 and is 10\n" in capsys.readouterr().err
    (tmp_path / "set" / "cat" / "new.png").rename(tmp_path / "set" / "0.png")
    next((tmp_path / "set" / "cat").glob("*.png")).unlink()
    assert run(tmp_path, output) == 2
    assert "other settings: the images that the source lists changed\n" in capsys.readouterr().err


def test_a_file_that_is_no_run_of_ours_is_never_overwritten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = home / "thesis.txt"
    output.write_text("years of work")
    assert run(home, output) == 2
    assert "no run can resume it" in capsys.readouterr().err
    assert output.read_text() == "years of work"
    assert run(home, home / "set") == 2
    assert "set is a folder; allowed: a file's name" in capsys.readouterr().err
    assert run(home, home / "no" / "r.jsonl") == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_second_run_on_the_same_file_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = home / "shared.jsonl"
    assert run(home, output) == 0
    with hold_file(str(output)):
        assert run(home, output) == 1
    assert f"another run is writing {output}" in capsys.readouterr().err


def test_fewer_labels_than_asked_for_give_all_of_them(home: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    for name in ("few.jsonl", "few.txt"):
        assert run(home, home / name, "--labels", str(tmp_path / "two.txt")) == 0
        assert run(home, home / name, "--labels", str(tmp_path / "two.txt")) == 0
        found = list(read_results(home / name))
        assert len(found) == COUNT
        assert all(len(record.top) == 2 for record in found)


def test_classes_of_one_name_tie_and_keep_their_order(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cranes.txt").write_text(
        "".join(f"{name}\n" for name in ["crane", *"abcdefghijklm", "crane", "n", "crane"])
    )
    output = home / "cranes.jsonl"
    assert run(home, output, "--labels", str(tmp_path / "cranes.txt"), "--top", "99") == 0
    for record in read_results(output):
        cranes = [guess for guess in record.top if guess.name == "crane"]
        assert [guess.id for guess in cranes] == [0, 14, 16]
        assert len({guess.score for guess in cranes}) == 1
        place = record.top.index(cranes[0])
        assert record.top[place : place + 3] == tuple(cranes)


def test_an_unfinished_run_evaluates_with_a_warning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = home / "unfinished.jsonl"
    assert run(home, output) == 0
    capsys.readouterr()
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:8]))
    assert main(["evaluate", str(output), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 8
    assert f"{output} holds 8 of the {COUNT} images of its run" in err
    output.write_bytes(b"".join(lines[:8]) + lines[8][:20])
    assert main(["evaluate", str(output)]) == 1
    assert "the same command completes it" in capsys.readouterr().err
    assert run(home, output) == 0
    capsys.readouterr()
    assert main(["evaluate", str(output)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.shows("classify --json")
def test_the_summary_is_one_json_object_when_asked_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = home / "summary.jsonl"
    assert run(home, output, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "output": str(output),
        "done": COUNT,
        "before": 0,
        "total": COUNT,
        "failed": 0,
        "whole": True,
    }


def test_a_list_s_label_must_be_a_class_and_a_folder_s_need_not(tmp_path: Path) -> None:
    labels = read_labels("imagenet-synsets")
    listing = tmp_path / "list.txt"
    for content, message in [
        ("a.jpg\tunicorn\n", "gives a.jpg the label 'unicorn', which is none of the 1000 classes"),
        ("a.jpg\tcrane\n", "'crane' is the name of 2 classes: 134, 517"),
        ("a.jpg\t1000\n", "the label '1000', which is none"),
    ]:
        listing.write_text(content)
        with pytest.raises(UsageError) as caught:
            find_truths(read_dataset(listing), labels)
        assert message in caught.value.message
    for folder, truth in [("unicorn", None), ("crane", None), ("n02012849", 134), ("hen", 8), ("517", 517)]:
        home = tmp_path / f"of-{folder}"
        (home / folder).mkdir(parents=True)
        (home / folder / "x.jpg").touch()
        dataset = read_dataset(home)
        assert find_truths(dataset, labels)(dataset[0]) == truth


def test_a_head_is_the_mean_direction_of_a_label_s_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Labels(name="three", names=("crane", "dog", "crane"))
    templates = ["a {}", "the {}", "{}"]
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        rows = [model.embed_texts([item.replace("{}", name) for item in templates]) for name in labels.names]
        expected = np.stack([part.mean(axis=0) / np.linalg.norm(part.mean(axis=0)) for part in rows])
        for at_once in (8192, 1):
            monkeypatch.setattr(zero_shot, "_PROMPTS", at_once)
            calls: list[tuple[int, int]] = []
            classifier = zero_shot.build_classifier(model, labels, templates, report=lambda *done: calls.append(done))  # noqa: B023
            assert np.abs(classifier - expected).max() < 1e-6
            assert np.array_equal(classifier[0], classifier[2])
            assert calls[-1] == (6, 6)
        with pytest.raises(UsageError, match="0 labels and 3 templates"):
            zero_shot.build_classifier(model, Labels(name="none", names=()), templates)


def test_progress_is_told_within_a_template_too() -> None:
    """Of 100,000 class names in one template nothing would be seen otherwise."""
    labels = Labels(name="many", names=tuple(f"class {number}" for number in range(500)))
    told: list[tuple[int, int]] = []
    with load("starter", RuntimeOptions(runtime="fake"), towers=("text",)) as tower:
        zero_shot.build_classifier(tower, labels, ["{}", "a {}"], report=lambda *done: told.append(done))
    assert (told[-1], told == sorted(told)) == ((1000, 1000), True)
    assert len(told) > 3


def test_a_classifier_is_kept_by_model_runtime_precision_labels_and_templates_and_a_damaged_one_is_not_used(
    fake: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    labels = Labels(name="two", names=("a", "b"))
    classifier = np.eye(2, fake.card.dim, dtype=np.float32)
    assert zero_shot.find_classifier(fake, labels, ["{}"]) is None
    zero_shot.keep_classifier(fake, labels, ["{}"], classifier)
    found = zero_shot.find_classifier(fake, labels, ["{}"])
    assert found is not None
    assert np.array_equal(found, classifier)
    assert (
        zero_shot.hash_classifier(found)
        == zero_shot.hash_classifier(classifier)
        != zero_shot.hash_classifier(classifier[::-1])
    )
    assert zero_shot.find_classifier(fake, labels, ["a {}"]) is None
    assert zero_shot.find_classifier(fake, Labels(name="two", names=("b", "a")), ["{}"]) is None
    with load("starter", RuntimeOptions(runtime="fake", precision="bf16"), towers=("image",)) as other:
        assert zero_shot.find_classifier(other, labels, ["{}"]) is None
    with monkeypatch.context() as upgraded:
        upgraded.setattr(kept_texts, "find_version", lambda name: f"another {name}")
        assert zero_shot.find_classifier(fake, labels, ["{}"]) is None
    (path,) = (tmp_path / "classifiers").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert zero_shot.find_classifier(fake, labels, ["{}"]) is None


def count_texts(monkeypatch: pytest.MonkeyPatch, *, until: int | None = None) -> list[int]:
    """How many texts each call of the model embeds from now on; Ctrl-C comes in the call after ``until`` of them."""
    calls: list[int] = []
    embed = Model.embed_texts

    def embed_texts(self: Model, texts: Sequence[str], **options: Any) -> Any:
        if until is not None and sum(calls) >= until:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return embed(self, texts, **options)

    monkeypatch.setattr(Model, "embed_texts", embed_texts)
    return calls


@pytest.mark.parametrize("command", ["match", "classify", "retrieve"])
def test_ctrl_c_keeps_the_texts_that_are_encoded(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_texts, "_PART", 400)
    many, image = tmp_path / "many.txt", str(EXAMPLE)
    caption = f"{image}\t" if command == "retrieve" else ""
    many.write_text("".join(f"{caption}thing number {number}\n" for number in range(1000)))
    words = {
        "match": ["match", image, "--texts-file", str(many), "--top", "3"],
        "classify": ["classify", image, "--labels", str(many), "-o", str(tmp_path / "r.jsonl")],
        "retrieve": ["retrieve", str(many)],
    }[command] + ["--runtime", "fake"]
    with monkeypatch.context() as ended:
        count_texts(ended, until=800)
        assert main(words) == 130
    capsys.readouterr()
    with monkeypatch.context() as resumed:
        calls = count_texts(resumed)
        assert main(words) == 0
        assert calls == [200]
    found = (capsys.readouterr().out, (tmp_path / "r.jsonl").read_bytes() if command == "classify" else b"")
    left = list((tmp_path / "cache" / "texts").iterdir())
    assert len(left) == (0 if command == "classify" else 3)  # the classifier is kept instead
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "other"))
    assert main([*words, *(["--restart"] if command == "classify" else [])]) == 0
    assert found[0] == capsys.readouterr().out
    assert not found[1] or found[1] == (tmp_path / "r.jsonl").read_bytes()


def test_few_texts_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    with load("starter", RuntimeOptions(runtime="fake"), towers="text") as tower:
        kept_texts.KeptTexts(tower).embed_texts(["a dog"])
    assert not (tmp_path / "texts").exists()


def test_what_cannot_be_written_keeps_no_head_and_is_no_error(
    fake: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "file"))
    labels = Labels(name="one", names=("a",))
    zero_shot.keep_classifier(fake, labels, ["{}"], np.ones((1, fake.card.dim), dtype=np.float32))
    assert zero_shot.find_classifier(fake, labels, ["{}"]) is None


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.run.json"
    for content, message in [("{", "cannot be read"), ("[]", "is no record of a run")]:
        path.write_text(content)
        with pytest.raises(ResultsError, match=message):
            journal.agree_on_manifest(str(path), {}, {})
    path.write_text('{"format": 9}')
    with pytest.raises(UsageError, match="has format 9; this clipworks reads 1"):
        journal.agree_on_manifest(str(path), {}, {})


def test_the_bar_shows_share_speed_and_the_time_left() -> None:
    from clipworks.cli.progress import format_bar, format_time

    assert (
        format_bar(500, 2000, 250, 5.0, "images") == "██████░░░░░░░░░░░░░░░░░░ 500 of 2,000, 50.0 images/s, 30 s left"
    )
    assert format_bar(0, 10, 0, 0.0, "images") == "░" * 24 + " 0 of 10"
    assert [format_time(seconds) for seconds in (0, 59.4, 60, 245, 3600, 3723)] == [
        "0 s", "59 s", "1:00", "4:05", "1:00:00", "1:02:03",
    ]  # fmt: skip


def test_disk_errors_say_what_is_full(tmp_path: Path) -> None:
    def fail(number: int) -> Any:
        with journal.explain_write_errors(str(tmp_path / "r")):
            raise OSError(number, os.strerror(number))

    with pytest.raises(ResultsError, match="r cannot be written: the disk is full"):
        fail(28)
    with pytest.raises(ResultsError, match="r cannot be written: Input/output error"):
        fail(5)
