"""--exif, --alpha, --as-published and --max-pixels do the same in every command that reads images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clipworks
from clipworks.cli import main
from clipworks.options import ImageOptions, RuntimeOptions

FAKE = ("--model", "starter", "--runtime", "fake")
TEXTS = ("a dog", "a cat")
# Words, and what the API takes for them; each makes another embedding of one of the files.
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "--exif": (("--exif", "ignore"), {"exif": "ignore"}),
    "--alpha": (("--alpha", "white"), {"alpha": "white"}),
    "--alpha before": (("--alpha", "before"), {"alpha": "before"}),
    "--as-published": (("--as-published",), {"as_published": True}),
}


@pytest.fixture
def folder(photo: Image.Image, tmp_path: Path) -> Path:
    """A turned JPEG, a PNG with alpha and one with 16 bits, each of which shows some option."""
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    clear.save(folder / "clear.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 200).save(folder / "deep.png")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as error:
        status = int(str(error.code))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.shows("match --exif", "match --alpha", "match --as-published")
@pytest.mark.shows("embed --exif", "embed --alpha", "embed --as-published")
@pytest.mark.parametrize("option", OPTIONS)
def test_match_and_embed_do_what_the_api_does(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command match decodes is not turned, or freed from alpha, by the model again."""
    words, arguments = OPTIONS[option]
    files = sorted(folder.iterdir())
    with clipworks.load(options=RuntimeOptions(runtime="fake")) as model:
        usual = model.embed_images(files)
    with clipworks.load(options=RuntimeOptions(runtime="fake"), images=ImageOptions(**arguments)) as model:
        expected = model.embed_images(files)
        matches = [[score.cosine for score in model.match(file, TEXTS).scores] for file in files]
    changed = {file.name for file, one, other in zip(files, usual, expected, strict=True) if (one != other).any()}
    assert (
        changed
        == {
            "--exif": {"turned.jpg"},
            "--alpha": {"clear.png"},
            "--alpha before": {"clear.png"},
            "--as-published": {"turned.jpg", "deep.png"},
        }[option]
    )
    for file, cosines in zip(files, matches, strict=True):
        status, out, _ = run(capsys, "match", file, *TEXTS, *FAKE, *words, "--json")
        assert (status, [score["cosine"] for score in json.loads(out)["scores"]]) == (0, cosines)
    assert run(capsys, "embed", folder, "-o", tmp_path / "rows", *FAKE, *words)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "rows" / "embeddings.npy"), expected)
    status, _, err = run(capsys, "embed", folder, "-o", tmp_path / "rows", *FAKE)  # not one run
    assert (status, " was " in err) == (2, True), err


def test_match_reads_standard_input_with_the_same_options(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ((), ("--exif", "ignore")):
        out = run(capsys, "match", folder / "turned.jpg", *TEXTS, *FAKE, *words)[1]
        with (folder / "turned.jpg").open("rb") as stream:
            monkeypatch.setattr("sys.stdin", type("Input", (), {"buffer": stream}))
            assert run(capsys, "match", "-", *TEXTS, *FAKE, *words)[1] == out


@pytest.mark.shows("match --max-pixels", "embed --max-pixels", "retrieve --max-pixels", "profile --max-pixels")
def test_a_limit_of_pixels_is_named_and_raised_by_its_option(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, low = folder / "turned.jpg", ("--max-pixels", "3071")  # of 3072
    said = f"{file} unpacks to more than 3,071 pixels (max_pixels)"
    status, out, err = run(capsys, "match", file, *TEXTS, *FAKE, *low)
    assert (status, out, said in err, "hint: --max-pixels N raises the limit" in err) == (1, "", True, True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own refuses 2001, if it is asked
    assert run(capsys, "match", file, *TEXTS, *FAKE, "--max-pixels", "3072")[0] == 0
    assert run(capsys, "embed", folder, "-o", tmp_path / "rows", *FAKE, *low)[0] == 0
    records = [json.loads(line) for line in (tmp_path / "rows" / "records.jsonl").read_text().splitlines()]
    assert all("more than 3,071 pixels (max_pixels)" in record["error"] for record in records)
    assert len(records) == 3
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(f"{file}\ta dog\n")
    assert run(capsys, "retrieve", pairs, *FAKE, *low)[0] != 0
    assert run(capsys, "retrieve", pairs, *FAKE)[0] == 0
    status, _, err = run(capsys, "profile", "image", "--images", folder, *FAKE, *low)
    assert (status, "none of its 3 files is an image" in err) == (1, True)


@pytest.mark.shows(
    *(
        f"{command} {option}"
        for command in ("classify", "compare", "doctor", "profile", "retrieve")
        for option in ("--exif", "--alpha", "--as-published", "--max-pixels")
    )
)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_other_command_passes_them_on_whole(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, arguments = OPTIONS[option]
    expected = ImageOptions(max_pixels=5000, **arguments)
    seen: list[ImageOptions] = []

    class SeenError(Exception):
        pass

    def see(options: ImageOptions) -> None:
        seen.append(options)
        raise SeenError

    labels, pairs = tmp_path / "labels.txt", tmp_path / "pairs.tsv"
    labels.write_text("a dog\na cat\n")
    pairs.write_text(f"{folder / 'clear.png'}\ta dog\n")
    monkeypatch.setattr("clipworks.tasks.retrieve.retrieve", lambda model, *_, **__: see(model.image_options))
    monkeypatch.setattr("clipworks.tasks.classify.classify", lambda model, *_, **__: see(model.image_options))
    monkeypatch.setattr("clipworks.comparison.comparing.compare", lambda plan, *_, **__: see(plan.images))
    monkeypatch.setattr("clipworks.doctor.diagnosing.diagnose", lambda _, __, choose, **___: see(choose(None).options))
    monkeypatch.setattr("clipworks.profiling.profiler.profile", lambda setup, *_, **__: see(setup.reading))
    monkeypatch.setattr("clipworks.cluster.running.run", lambda request, **_: see(request.loading.images))
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("retrieve", pairs, *FAKE),
        ("classify", folder, "--labels", labels, "-o", tmp_path / "r.jsonl", *FAKE),
        ("classify", folder, "--labels", labels, "-o", tmp_path / "ray", "--ray", "local", *FAKE),
        ("embed", folder, "-o", tmp_path / "ray", "--ray", "local", *FAKE),
        ("compare", folder, "--labels", labels, "--runtime", "onnxruntime", "-o", tmp_path / "c"),
        ("doctor", "--images", folder / "clear.png"),
        ("profile", "image", "--images", folder, *FAKE),
    )
    for command in commands:
        run(capsys, *command, *words, "--max-pixels", "5000")
        assert seen.pop() == expected, command[0]
    assert not seen


def test_options_that_do_nothing_or_contradict_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "clear.png"
    for words, message in (
        (("match", file, *TEXTS, "--as-published", "--exif", "apply"), "exif is 'apply'; allowed as published: ignore"),
        (("match", file, *TEXTS, "--as-published", "--alpha", "white"), "alpha is 'white'; allowed as published: card"),
        (("match", file, *TEXTS, "--max-pixels", "0"), "'0' is not a whole number from 1 on"),
        (("profile", "image", *FAKE, "--alpha", "white"), "say how the files of --images are read"),
    ):
        status, out, err = run(capsys, *words)
        assert (status, out, message in err) == (2, "", True), err


def test_a_run_record_tells_all_of_them() -> None:
    from clipworks.results.manifest import describe_model

    with clipworks.load(
        options=RuntimeOptions(runtime="fake"), images=ImageOptions(alpha="white", max_pixels=7000)
    ) as model:
        described = describe_model(model)
    assert {**described, **dataclasses.asdict(ImageOptions(alpha="white", max_pixels=7000))} == described
