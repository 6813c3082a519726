"""clipworks doctor names the first stage that differs, and why; what is healthy it leaves alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import doctor_traps as traps
import numpy as np
import pytest
from convert_checkpoints import MODELS, write_huggingface, write_open_clip
from PIL import Image

from clipworks.bundle.card import DropAlpha, ScoreRule
from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.doctor.inputs import TEXTS, list_images
from clipworks.doctor.stages import Trace
from clipworks.errors import RuntimeUnavailableError
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder
from clipworks.text.tokenizers import Ids, Tokenizer

pytestmark = pytest.mark.usefixtures("small_photographs")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return traps.make_bundle(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def source(bundle: Bundle) -> Path:
    return bundle.folder.parent / "source"


def examine(capsys: pytest.CaptureFixture[str], model: Path, *words: str | Path) -> tuple[int, dict[str, Any]]:
    """Run ``clipworks doctor --json``; its status and record."""
    runtime = () if "--runtime" in words else ("--runtime", "onnxruntime")
    status = main(["doctor", "--model", str(model), *runtime, "--json", *map(str, words)])
    record: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON
    return status, record


def tell_causes(record: dict[str, Any]) -> str:
    """All causes that were tried and proven, one a line."""
    return "\n".join(f"{cause['stage']}: {cause['text']}" for cause in record["causes"] if cause["proven"])


# The fault in a dump of another pipeline, the stages where it begins, and what is said of it.
DUMPS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], list[str], str]] = {
    "floored crop": (traps.floor_crop, ["pixels"], "here offsets rounded; in the reference offsets floored"),
    "bilinear": (traps.resize_bilinear, ["resized"], "here bicubic; in the reference bilinear"),
    "squashed": (traps.squash, ["resized"], "in the reference bicubic, squashed to 32 x 32"),
    "no antialiasing": (traps.resize_without_antialiasing, ["resized"], "reference bicubic without antialiasing"),
    "BGR, read so": (traps.read_as_bgr, ["decoded"], "BGR"),
    "BGR after the crop": (traps.crop_to_bgr, ["pixels"], "in the reference offsets rounded, red and blue exchanged"),
    "exact GELU": (
        traps.use_exact_gelu,
        ["image_layer_0", "text_layer_0"],
        "in the reference it is computed with exact",
    ),
    "no causal mask": (traps.leave_out_mask, ["text_layer_0"], "in the reference it is computed with no causal mask"),
    "pooled at the first token": (traps.pool_first, ["text_pooled"], "in the reference the first"),
    "pooled before the end": (traps.pool_before_last, ["text_pooled"], "in the reference at 5, 18, 18"),
    "no last normalisation": (
        traps.leave_out_norm,
        ["image_embedding", "text_embedding"],
        "in the reference it is projected without the last normalisation",
    ),
    "embeddings of any length": (traps.leave_out_lengths, ["cosines"], "embeddings that are not of unit length"),
    "softmax without the scale": (traps.leave_out_scale, ["scores"], "the logit scale is left out"),
    "cut without the end token": (traps.cut_end_token, ["ids"], "cut without its end token in the reference"),
}


@pytest.mark.parametrize("trap", DUMPS)
def test_a_fault_in_another_pipeline_is_named_by_its_first_stage(
    trap: str, bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One fault, one origin, although everything behind it differs too."""
    plant, begins, said = DUMPS[trap]
    dump = traps.make_dump(source, tmp_path / "theirs.npz", plant)
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["verdict"], record["begins"]) == (1, "differs", begins)
    assert said in tell_causes(record)


BUNDLES: dict[str, tuple[Callable[[Bundle, Path], Bundle], list[str], str]] = {
    "bilinear": (
        lambda bundle, folder: traps.change_card(
            bundle, folder, image=dataclasses.replace(bundle.card.image, interpolation="bilinear")
        ),
        ["resized"],
        "here bilinear; in the reference bicubic",
    ),
    "wrong mean": (lambda _, folder: traps.change_mean(folder), ["normalised"], "here with mean 0.5/0.5/0.5"),
    "exact GELU": (
        lambda _, folder: traps.make_bundle(folder, activation="gelu"),
        ["image_layer_0", "text_layer_0"],
        "here it is computed with exact GELU; in the reference it is computed with QuickGELU",
    ),
    "logit scale missing": (
        lambda bundle, folder: traps.change_card(bundle, folder, score=ScoreRule(logit_scale=1.0)),
        ["logit_scale"],
        "here it is 1, as where it is left out",
    ),
    "logarithm of the logit scale": (
        lambda bundle, folder: traps.change_card(
            bundle, folder, score=ScoreRule(logit_scale=float(np.log(bundle.card.score.logit_scale)))
        ),
        ["logit_scale"],
        "the exponential was not taken",
    ),
    "swapped merges": (traps.swap_merges, ["ids"], "the vocabulary in tokenizer.json is not OpenAI's: 2 merges differ"),
}


@pytest.mark.parametrize("trap", BUNDLES)
def test_a_fault_in_a_bundle_is_named_by_its_first_stage(
    trap: str, bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, begins, said = BUNDLES[trap]
    status, record = examine(capsys, make(bundle, tmp_path / "trap").folder, "--reference", source)
    assert (status, record["verdict"], record["begins"]) == (1, "differs", begins)
    assert said in tell_causes(record)


def test_an_overflow_of_f16_is_named_with_its_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The towers are f16 graphs whose weights make it happen; ONNX Runtime computes it."""
    status, record = examine(
        capsys, traps.overflow_f16(tmp_path, monkeypatch).folder, "--runtime", "onnxruntime", "--precision", "f32"
    )
    assert (status, record["begins"]) == (1, ["image_layer_1"])
    assert record["subject"]["precision"] == "f16"
    assert "f16 overflows here" in tell_causes(record)
    assert "f16 ends at 65,504" in tell_causes(record)


def test_a_swapped_vocabulary_needs_no_other_reference(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The equations of the bundle's own weights read texts with OpenAI's vocabulary."""
    status, record = examine(capsys, traps.swap_merges(bundle, tmp_path / "trap").folder)
    assert (status, record["reference"]["kind"], record["begins"]) == (1, "equations", ["ids"])


def test_a_division_done_twice_is_seen_in_the_numbers(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = traps.make_dump(source, tmp_path / "theirs.npz", traps.plant_nothing, traps.rescale_twice)
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["begins"]) == (1, ["normalised"])
    assert "divided by 255 once more" in tell_causes(record)


def test_images_that_were_not_turned_are_told(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = Image.open(list_images()[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    words: list[str | Path] = ["--images", tmp_path / "turned.jpg", "--texts", "a rocket", "a cat"]
    examine(capsys, bundle.folder, *words, "--exif", "ignore", "--dump", tmp_path / "theirs.npz")
    status, record = examine(capsys, bundle.folder, *words, "--reference", tmp_path / "theirs.npz")
    assert (status, record["begins"]) == (1, ["decoded"])
    assert "turned by" in tell_causes(record)
    assert "EXIF" in tell_causes(record)


# How a bundle drops alpha, what another pipeline does, and what is said of the two.
ALPHAS: dict[str, tuple[DropAlpha, Callable[[pytest.MonkeyPatch], None], str, str]] = {
    "over white": ("before", traps.treat_alpha("white"), "dropped before the resize", "composited over white"),
    "over black": ("before", traps.lay_over_black, "dropped before the resize", "composited over black"),
    "dropped after": (
        "before",
        traps.treat_alpha("after"),
        "dropped before the resize",
        "dropped after resize and crop",
    ),
    "dropped before": (
        "after",
        traps.treat_alpha("before"),
        "dropped after resize and crop",
        "dropped before the resize",
    ),
    "over white, not after": (
        "after",
        traps.treat_alpha("white"),
        "dropped after resize and crop",
        "composited over white",
    ),
}


@pytest.mark.parametrize(
    ("trap", "kept"),
    [
        *((trap, "decoded") for trap in ALPHAS),
        *((trap, "pixels") for trap in ALPHAS),
        *(("dropped before", kept) for kept in ("resized", "normalised")),
    ],
)
def test_another_treatment_of_alpha_is_named_whatever_the_dump_begins_with(
    trap: str, kept: str, bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order, plant, here, there = ALPHAS[trap]
    made = traps.change_card(
        bundle, tmp_path / "bundle", image=dataclasses.replace(bundle.card.image, drop_alpha=order)
    )
    clear = Image.open(list_images()[1]).resize((120, 90))
    fade = Image.linear_gradient("L").rotate(90).resize(clear.size)
    clear.putalpha(fade.point(lambda value: max(0, min(255, 2 * value - 128))))
    clear.save(tmp_path / "clear.png")
    plain = tmp_path / "plain.png"
    clear.convert("RGB").save(plain)
    files = (str(plain), str(tmp_path / "clear.png"))
    names = ["decoded", "resized", "pixels", "normalised"]
    names = names[names.index(kept) :] if kept != "normalised" else [kept]
    dump = traps.make_dump(
        source, tmp_path / "theirs.npz", plant, lambda trace: traps.keep_only(trace, *names, "ids"), files
    )
    status, record = examine(capsys, made.folder, "--reference", dump)
    assert (status, record["begins"]) == (1, [kept])
    said = tell_causes(record)
    assert said.count("alpha ") >= 1
    assert f"alpha {'is ' if kept == 'decoded' else ''}{there}" in said.partition("in the reference ")[2]
    assert here in said or kept != "decoded"
    assert not any("no image has alpha" in note for note in record["notes"])


def test_two_faults_are_both_named(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step is given the reference's own input, so that one fault does not hide the next."""
    changed = dataclasses.replace(bundle.card.image, interpolation="bilinear")
    made = traps.change_card(bundle, tmp_path / "trap", image=changed, score=ScoreRule(logit_scale=1.0))
    _, record = examine(capsys, made.folder, "--reference", source)
    assert record["begins"] == ["resized", "logit_scale"]


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_healthy_pipeline_alarms_nobody(
    runtime: str, precision: str, bundle: Bundle, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against its own equations, its checkpoint and another runtime."""
    try:
        open_encoder(bundle, "text", RuntimeOptions(runtime=runtime, device="cpu", precision=precision)).close()
    except RuntimeUnavailableError as error:
        pytest.skip(error.message)
    words = ["--runtime", runtime, "--device", "cpu", "--precision", precision]
    for reference in ([], ["--reference", source], ["--reference-runtime", "onnxruntime"]):
        status, record = examine(capsys, bundle.folder, *words, *reference)
        assert (status, record["verdict"], record["begins"]) == (0, "healthy", [])
        assert record["subject"]["precision"] == precision
        assert all(stage["mark"] == "ok" for stage in record["stages"] if stage["figures"])
        assert {drift["branch"] for drift in record["drifts"]} == (set() if precision == "f32" else {"image", "text"})


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_another_layout_of_the_reference_is_no_matter(
    runtime: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An open_clip checkpoint says the same."""
    folder = bundle.folder
    other = write_open_clip(tmp_path / "open_clip", traps.MODEL)
    status, record = examine(capsys, folder, "--runtime", runtime, "--precision", "f32", "--reference", other)
    assert (status, record["verdict"]) == (0, "healthy")
    assert all(stage["mark"] == "ok" for stage in record["stages"])


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("int8")
    image = dataclasses.replace(MODELS["openai"].image, layers=2)
    model = dataclasses.replace(MODELS["openai"], context=77, image=image)
    made = convert_checkpoint(write_huggingface(folder / "source", model), folder / "bundle")
    return quantize_towers(made, load_batch(list_images() * 8, made.card.image))


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_int8_within_its_tolerances_is_healthy_and_its_drift_is_told(
    runtime: str, int8_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    status, record = examine(capsys, int8_bundle.folder, "--precision", "int8", "--runtime", runtime)
    assert (status, record["verdict"]) == (0, "healthy")
    image = next(drift for drift in record["drifts"] if drift["branch"] == "image")
    assert image["grows_at"] == "image_layer_0"  # the last layer stays in float
    assert 1e-4 < image["growth"] <= image["largest"] < 0.2


def test_int8_past_tolerance_is_told_as_precision_loss(int8_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tolerance that f32 keeps and int8 does not."""
    words = ["--precision", "int8", "--tolerance", "values=1e-4"]
    status, record = examine(capsys, int8_bundle.folder, *words)
    assert (status, record["verdict"]) == (1, "precision")
    assert record["begins"] == ["image_patches", "text_layer_0"]
    assert all(
        cause["text"] == "in f32 this stage is within tolerance, in int8 it is not" for cause in record["causes"]
    )
    assert main(["doctor", "--model", str(int8_bundle.folder), *words]) == 1
    assert capsys.readouterr().out.startswith(
        "PRECISION LOSS: in f32 nothing differs; with int8 what is past tolerance"
    )


def test_a_fault_below_a_coarse_precisions_tolerance_is_found_in_f32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """int8's tolerance would hide another activation; the same tower in f32 does not."""
    model = dataclasses.replace(MODELS["openai"], context=77, activation="gelu")
    made = convert_checkpoint(write_huggingface(tmp_path / "source", model), tmp_path / "bundle")
    quantized = quantize_towers(made, load_batch(list_images() * 8, made.card.image))
    right = write_huggingface(tmp_path / "right", dataclasses.replace(model, activation="quick_gelu"))
    status, record = examine(capsys, quantized.folder, "--precision", "int8", "--reference", right)
    assert (status, record["verdict"]) == (1, "differs")
    assert "here it is computed with exact GELU" in tell_causes(record)
    layer = next(stage for stage in record["stages"] if stage["name"] == record["begins"][0])
    assert layer["figures"]["judged"] < 0.2


@pytest.mark.runtimes
def test_towers_of_other_makers_are_compared_at_their_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """The starter's towers have no layers that are known; that is said, not guessed."""
    status, record = examine(capsys, Path("starter"), "--precision", "f32", "--runtime", "openvino")
    assert (status, record["verdict"]) == (0, "healthy")
    assert (record["reference"]["runtime"], record["reference"]["precision"]) == ("onnxruntime", "f32")
    marks = {stage["name"]: stage["mark"] for stage in record["stages"]}
    assert marks["image_embedding"] == marks["pixels"] == marks["scores"] == "ok"
    assert marks["image_patches"] == marks["text_pooled"] == "missing"
    assert any("only the towers' ends are seen" in note for note in record["notes"])


def test_a_dump_with_ends_only_says_what_lies_between(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not given is named beside the stage where the difference is seen first."""
    dump = traps.make_dump(
        source,
        tmp_path / "theirs.npz",
        traps.pool_first,
        lambda trace: traps.keep_only(trace, "ids", "text_embedding", "image_embedding"),
    )
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["begins"]) == (1, ["text_embedding"])
    begins = next(stage for stage in record["stages"] if stage["mark"] == "begins")
    assert begins["unseen"] == ["text_tokens", "text_layer_0", "text_layer_1", "text_pooled"]
    assert "in the reference it is that of the first token" in tell_causes(record)


def test_a_dump_of_our_own_is_healthy_and_holds_the_inputs(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "ours.npz"
    examine(capsys, bundle.folder, "--dump", dump)
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["verdict"], record["texts"]) == (0, "healthy", list(TEXTS))
    assert record["images"] == list(list_images())
    with np.load(dump) as file:
        assert file["pixels"].shape == (2, 32, 32, 3)
        assert file["ids.0"].tolist()[-1] == 49407
        assert file["image_layer_0"].shape == (2, 17, 24)
        assert file["text_pooled"].shape == (3, 16)
        assert file["logit_scale"].shape == ()


def test_padded_ids_and_channels_first_are_read_as_others_write_them(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As transformers gives them: one array each, ids filled up with the end token, pixels [3, H, W]."""
    made = traps.make_dump(source, tmp_path / "made.npz", traps.plant_nothing)
    with np.load(made) as file:
        ids = np.full((3, 20), 49407)
        for row, name in zip(ids, ("ids.0", "ids.1", "ids.2"), strict=True):
            row[: len(file[name])] = file[name]
        values = file["normalised"].transpose(0, 3, 1, 2)
        rows = np.zeros((3, 20, 16), np.float32)
        for row, name in zip(rows, ("text_layer_0.0", "text_layer_0.1", "text_layer_0.2"), strict=True):
            row[: len(file[name])] = file[name]
        np.savez(tmp_path / "theirs.npz", ids=ids, normalised=values, text_layer_0=rows)
    status, record = examine(capsys, bundle.folder, "--reference", tmp_path / "theirs.npz")
    compared = [stage["name"] for stage in record["stages"] if stage["mark"] == "ok"]
    assert (status, compared) == (0, ["normalised", "ids", "text_layer_0"])


def test_a_dump_of_half_precision_is_held_to_its_tolerances(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to say that the values are f16 or bf16 numbers: they tell it."""

    def halve(trace: Trace) -> None:
        for name in [name for name in trace if name.startswith(("image_", "text_"))]:
            trace[name] = [array.astype(np.float16) for array in trace[name]]

    dump = traps.make_dump(source, tmp_path / "theirs.npz", traps.plant_nothing, halve)
    with np.load(dump) as file:  # without its own word on the precision
        np.savez(dump, **{name: file[name] for name in file.files if name != "precision"})
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["reference"]["precision"]) == (0, "f16")
    assert any("are f16 numbers" in note for note in record["notes"])


def test_an_embedding_that_only_a_batch_spoils_is_told(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where padding is attended to: here shorter texts are filled up in front, when they are."""
    dump = traps.make_dump(source, tmp_path / "theirs.npz", traps.plant_nothing)

    def pad(self: Tokenizer, rows: Sequence[Ids]) -> Ids:  # noqa: ARG001  # the form of the method
        longest = max(map(len, rows))
        return np.stack([np.pad(row, (longest - len(row), 0)) for row in rows])

    monkeypatch.setattr(Tokenizer, "pad", pad)
    status, record = examine(capsys, bundle.folder, "--reference", dump)
    assert (status, record["begins"]) == (1, ["text_embedding"])
    assert "each text by itself gets the reference's embedding, in a batch of 3 it does not" in tell_causes(record)


def test_what_the_inputs_cannot_show_is_said(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (64, 64), 90).save(tmp_path / "grey.png")
    _, record = examine(capsys, bundle.folder, "--images", tmp_path / "grey.png", "--texts", "a cat")
    notes = "\n".join(record["notes"])
    for said in (
        "no image has an odd margin",
        "no image has colours",
        "no image has alpha",
        "no text has 20 tokens",
        "one text alone",
    ):
        assert said in notes


def test_the_table_names_the_place(
    bundle: Bundle, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = traps.make_dump(source, tmp_path / "theirs.npz", traps.floor_crop)
    assert main(["doctor", "--model", str(bundle.folder), "--precision", "f32", "--reference", str(dump)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DIFFERS: it begins at crop"
    assert [line.split()[0] for line in lines if line.endswith("BEGINS HERE")] == ["crop"]
    assert any(line.startswith("crop: image 1, row ") for line in lines)
    assert all(len(line) <= 100 for line in lines if str(tmp_path) not in line)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reference", "MISSING.npz"], "MISSING.npz does not exist"),
        (["--reference", "TEXT.npz"], "is no .npz file that can be read: it is no ZIP archive"),
        (["--reference", "NAMES.npz"], "unknown stage 'crop': known"),
        (["--reference", "FEW.npz"], "has 1 of pixels, but 2 images are given"),
        (["--reference", "FLAT.npz"], "pixels has the shape [2, 3]"),
        (["--reference", "EMPTY"], "holds no checkpoint"),
        (["--reference", "equations", "--reference-precision", "f32"], "--reference-precision goes with"),
        (["--reference-runtime", "tensorflow"], "unknown runtime 'tensorflow'"),
        (["--tolerance", "valeus=1"], "unknown stage 'valeus': did you mean 'values'?"),
        (["--tolerance", "values=much"], "allowed: a number from 0 on"),
        (["--images", "https://x.org/a.jpg"], "https://x.org/a.jpg is a URL; allowed: files of this machine"),
        (["--images", "MISSING.jpg"], "MISSING.jpg does not exist"),
        (["--precision", "f8"], "unknown precision 'f8'"),
        (["--dump", "MISSING/x.npz"], "cannot be written"),
        (["--dump", "x.json"], "ends in .npz"),
    ],
    ids=lambda value: "_".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    words: list[str],
    said: str,
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEXT.npz").write_text("no archive")
    (tmp_path / "EMPTY").mkdir()
    np.savez("NAMES.npz", crop=np.zeros((2, 32, 32, 3)))
    np.savez("FEW.npz", pixels=np.zeros((1, 32, 32, 3), np.uint8))
    np.savez("FLAT.npz", pixels=np.zeros((2, 3), np.uint8))
    status = main(["doctor", "--model", str(bundle.folder), "--runtime", "onnxruntime", *words])
    out, err = capsys.readouterr()
    assert status in (1, 2)
    assert out == "" or said == "cannot be written"  # what was found is not lost
    assert err.startswith("clipworks: ")
    assert said in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if not line.startswith("  hint: ")]) == 1
