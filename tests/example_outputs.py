"""What the examples of the documentation print, where the pages do not show it, and how the two are compared."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
RUNTIME = "(openvino|onnxruntime)"
TIME = r"[1-9]\d*"  # us, of something that takes time
RATE = r"[1-9]\d*\.\d\d"
BLOCK = (
    rf"  throughput \(qps\): (0\.\d*[1-9]\d*|{RATE})",
    r"  latency \(us\):",
    *(rf"    {name} latency: {TIME}" for name in ("avg", "min", "max", "p50", "p90", "p95", "p99")),
)


def profile(model: str, *measured: str, depth: int = 1, batch: int = 1) -> tuple[str, ...]:
    """The lines of a profile on a CPU: the block, what was profiled, how, and where."""
    head = (r"- number of instances: 1", r"  devices: \[cpu\]", f"  queue size: {depth}", f"  batch size: {batch}")
    return (*head, *BLOCK, model, *measured, r"machine +.*\d+ cores?, .+")


def sample_profile(depth: int) -> tuple[str, ...]:
    """The lines of the sample's profilers, and no others."""
    warm = ("Warmup done for instance 0", "")
    head = (r"- number of instances: 1", r"  devices: \[0\]", f"  queue size: {depth}", "  batch size: 1")
    return (*warm, *head, *BLOCK, "")


IMAGE = rf"model +starter, image on {RUNTIME}, precision f32"
TEXT = rf"model +starter, text on {RUNTIME}, precision f32"
LOAD_TIME = r"load time +import the runtime \d+ ms, (read \d+ ms, )?compile \d+ ms, first call \d+ us"
COMPARISON = (
    r"clipworks report",
    r"Fastest row: 515 images/s \(openvino int8, batch 8, depth 0; 3\.06 times its reference\)",
    r"Least agreement with its reference: 97\.0% \(openvino int8: .*",
    r"\* openvino int8 +cpu int8, 2 +89\.5% .* +515 +2\.97",
    r"  openvino int8 +openvino f32 +top-1 +-0\.5 \(-1\.5 to \+0\.5\) +0\.383 +8 +13",
    r"\* openvino int8 +agreement +0\.99 +0\.97 +MISSED",
    r"  openvino int8 +image +8 +0 +515 \(507 to 531\) +3\.06 .*",
)
CLOSED = r"closed loop +asked for {0} in flight, \d\.\d\d\d measured; Little's law: .+"
OPEN = r"open loop +Poisson, {0} requests/s asked for \(seed 0\), .+ offered, .+"

# Command -> patterns of lines that it prints, in this order; other lines may stand between them, but not where the
# first is EXACTLY. Numbers that a processor decides have a form, others have a value.
EXACTLY = "these lines and no others"
EXPECTED: dict[str, tuple[str, ...]] = {
    'clipworks match examples/CLIP.png "a diagram" "a dog" "a cat" --top 1 --json': (
        EXACTLY,
        rf'\{{"image": "examples/CLIP.png", "model": "starter", "runtime": "{RUNTIME}", "device": "cpu", '
        r'"precision": "f32", .*"scores": \[\{"index": 0, "text": "a diagram", "score": 0\.53\d+, '
        r'"cosine": 0\.04\d+\}\].*\}',
    ),
    "clipworks devices": (
        r"clipworks +\d+\.\d+\.\d+, Python 3\.\d+\.\d+, .+",
        r"CPU +.+, \d+ cores?, .+ GiB",
        r"cache +.+, [\d,]+ MB",
        r"  runtime +version +device +(kernels +)?precision +GFLOP/s +beside f32",
        rf"  {RUNTIME} +\S+ +cpu +f32 +[\d,.]+ +1\.00",
        r"auto takes:",
        r"  for +takes +why",
        r"  converted checkpoints +(native|openvino|onnxruntime), (f32|bf16) .+",
        rf"  ready-made ONNX, convolutional \(starter\) +{RUNTIME}, (f32|bf16) .+",
        rf"  ready-made ONNX, all other +{RUNTIME}, (f32|bf16) .+",
    ),
    "clipworks models export starter -o starter.tar --json": (
        EXACTLY,
        r'\{"output": "starter\.tar", "sha256": "[0-9a-f]{64}", "bytes": \d+, "folder": .+\}',
    ),
    "clipworks models import starter.tar -o my-starter": (EXACTLY, r"starter\tmy-starter"),
    'clipworks match examples/CLIP.png "a diagram" "a dog" --model my-starter --json': (
        EXACTLY,
        r'\{"image": "examples/CLIP\.png", "model": "starter", .*"text": "a diagram", .*\}',
    ),
    "clipworks profile image --duration 1": profile(
        IMAGE,
        r"inputs +64 views of 6 built-in (images|images); a request is a batch of 1 on the host",
        r"measured +5 requests in \d+\.\d\d s after warm-up; as many requests as asked for",
        CLOSED.format(1),
        r"p99 +too few samples to trust \(5; 662 needed\)",
        LOAD_TIME,
    ),
    "clipworks profile text --batch-size 8 --depth 2 --duration 1 --check": profile(
        TEXT,
        r"inputs +24 built-in prompts, batches 17 to 36 tokens long; a request is a batch of 8 on the",
        CLOSED.format(2),
        rf"parity +with {RUNTIME} f32, 24 inputs: cosine min (0\.9999\d\d|1\.000000), median .+, top-1.*",
        depth=2,
        batch=8,
    ),
    "clipworks report docs/examples/comparison.json": COMPARISON,
    "clipworks report results.jsonl -o report.html": (EXACTLY,),
    "clipworks doctor --precision f32": (
        r"HEALTHY: 10 of 14 stages compared, none past its tolerance",
        rf"model +starter: {RUNTIME} on cpu, f32",
        rf"reference +starter: {RUNTIME} on cpu, f32",
        r"  decode +0/255 +2/255",
        r"  resize +0/255 +2/255",
        r"  crop +0/255 +2/255",
        r"  image projection +\d(\.\d)?e-0[5-9] +0\.001",
        r"  tokens +0% +0%",
        r"  text projection +\d(\.\d)?e-0[5-9] +0\.001",
        r"  scores +(0|\d(\.\d)?e-\d\d) +0\.005",
        r"from file to score: .+",
    ),
    "clipworks profile image --depth 0 --duration 1": profile(
        IMAGE, r"measured +5 requests in .+", CLOSED.format(1), LOAD_TIME, depth=0
    ),
    "clipworks profile text --rate 30 --duration 2": profile(
        TEXT,
        r"measured +5 requests in .+",
        OPEN.format(30),
        r"queue delay +avg \d+ us, max \d+ us",
        r"service time +avg \d+ us, max \d+ us",
    ),
    "clipworks profile text --slo p90=200ms --duration 0.5 --iterations 1": (
        r"The closed loop gives .+ requests/s with 1 in flight\.",
        r"(Up to .+ requests/s keep|No rate that was tried keeps) p90 within 200 ms.*",
        r"  offered/s +answered/s +requests .* p90 ms .*bound",
        r"[* ] +[\d,.]+ +[\d,.]+ +\d+ .+ (kept|broken|overloaded|samples)",
    ),
    "clipworks profile text --sweep batch=1,8 depth=0,2 --duration 0.5": (
        r"  batch +load .+texts/s .+",
        *(rf"[* ] +{batch} +depth {depth} +[\d,.]+ .+" for batch in (1, 8) for depth in (0, 2)),
    ),
    "make_input_npz --label_file samples/clip/test_label.txt --npz_files_path npz_files": (EXACTLY,),
    "clip_sample --label_file samples/clip/test_label.txt --npz_files_path npz_files --input_file examples/CLIP.png": (
        EXACTLY,
        r"Top3:",
        r"0th, string: a diagram, score: 0\.53\d+",
        r"1th, string: a dog, score: 0\.32\d+",
        r"2th, string: a cat, score: 0\.14\d+",
    ),
    'clip_image_prof --device_ids [0] --batch_size 1 --instance 1 --iterations 1000 --percentiles "[50,90,95,99]" '
    "--input_host 1 --queue_size 0": (EXACTLY, *sample_profile(0)),
    'clip_text_prof -d [0] -b 1 -i 1 --iterations 1000 --percentiles "[50,90,95,99]" --input_host 1 -q 3': (
        EXACTLY,
        *sample_profile(3),
    ),
    "clipworks profile image --depth 3 --duration 1 --json > image.json": (
        EXACTLY,
        r"\{.*\"precision\": \"f32\".*\}",
    ),
    "clipworks report image.json --published vendor-card": (
        r"From 1 file of saved results: image\.json",
        rf"Highest throughput, image: .+ images/s \(image, starter, {RUNTIME}, cpu, f32\)",
        rf"Measured: image, starter, {RUNTIME}, cpu, f32, (\d+|auto) threads, 1 instance, batch 1, depth 3, .+",
        r"Published by others: not measured here:",
        r"  vendor's card +ViT-B/32 \(OpenAI\) +the vendor's +f16 +55\.6% +82\.6% .+",
        r"  vendor's card +image +1 +2\.98 +192\.8 +15\.5",
    ),
}


def find_difference(printed: str, expected: Sequence[str]) -> str | None:
    """What a command's output lacks, or has too much, by the patterns of the table; None where it is as expected."""
    lines = printed.splitlines()
    if expected[:1] == (EXACTLY,):
        expected = expected[1:]
        if len(lines) != len(expected):
            return f"{len(lines)} lines where {len(expected)} were expected"
        wrong = [line for line, pattern in zip(lines, expected, strict=True) if not re.fullmatch(pattern, line)]
        return f"not as expected: {wrong[0]}" if wrong else None
    rest = iter(lines)
    missing = [pattern for pattern in expected if not any(re.fullmatch(pattern, line) for line in rest)]
    return f"no line, or not at its place, is: {missing[0]}" if missing else None


def differs_from_shown(printed: str, shown: str) -> bool:
    """Whether an output differs from the one that a page shows: words to the letter, fractions to two decimals."""
    ours, theirs = (re.sub(r"\s+\]", "]", NUMBER.sub("0", text)).split() for text in (printed, shown))
    if ours != theirs:
        return True
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return any(abs(float(one) - float(two)) >= (0.005 if "." in two else 0.5) for one, two in pairs)
