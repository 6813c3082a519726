"""The record as a page, a plot and a quotation in both READMEs; nothing in them is typed by hand."""

from __future__ import annotations

from pathlib import Path

from peers import tables
from peers.environments import ROOT
from peers.figures import LESS, Record, find_fault, list_figures, shares_code
from peers.wording import COLUMNS, MEANING

PAGE = ROOT / "docs" / "peers.md"
PLOT = ROOT / "docs" / "peers.svg"
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
MARKS = ("<!-- peers: written by benchmarks/peers -->", "<!-- /peers -->")
PLOTTED = ("a", "b", "c", "g", "d", "d8", "e", "f")
COLOURS = {"any": "#8a8a8a", "f32": "#4878a8", "bf16": "#6aa56e", "f16": "#6aa56e", "int8": "#c98a3b"}


def draw(record: Record) -> None:
    """Write all of it."""
    PAGE.write_text(write_page(record), encoding="utf-8")
    plot(record, PLOT)
    for language, path in enumerate(READMES):
        text = path.read_text(encoding="utf-8")
        if MARKS[0] in text:
            before, _, rest = text.partition(MARKS[0])
            after = rest.partition(MARKS[1])[2]
            quoted = tables.write_front(record, language)
            path.write_text(f"{before}{MARKS[0]}\n\n{quoted}\n\n{MARKS[1]}{after}", encoding="utf-8")


def write_page(record: Record) -> str:
    """The page."""
    works = [work for work in tables.WORKS if list_figures(record, work)]
    figures = [
        "\n\n".join(
            [f"## {COLUMNS[work][0].rpartition(', ')[0].capitalize()}", MEANING[work], tables.write_work(record, work)]
        )
        for work in works
    ]
    stamp = max(record["works"].values(), key=lambda item: item["date"])
    machine = stamp["machine"]
    return "\n\n".join(
        [
            "# clipworks beside other libraries",
            "Written by `make bench-peers PHOTOGRAPHS=FOLDER` from [peers.json](peers.json); no figure on this page is "
            "typed by hand. What was tried to get here, also what did not help, stands in the "
            "[developers' log](developers/performance-log.md).",
            f"One machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, "
            f"{', '.join(machine['isa'])}. One ViT-B/32 with random weights, 256 ImageNet photographs. On another "
            "machine the order may be another: measure there before you choose.",
            READING,
            "![The figures as bars](peers.svg)",
            *figures,
            "## Goals",
            "Set before the work began. A ratio above 1 means that clipworks is ahead; its spread is what the rounds "
            "of both allow. A goal is met if the least of the spread reaches it; where one of the "
            "two has one round only, the figure decides.",
            tables.write_goals(record),
            "## What the machine allows",
            "Measured in the same environments, the best of numpy, PyTorch and OpenVINO for each.",
            tables.write_limits(record),
            "## How it was measured",
            METHOD,
            "## Notes",
            tables.write_notes(record) or "None.",
            "## Versions",
            tables.write_versions(record),
            "",
        ]
    )


READING = """\
How to read the tables: best first; the figure is the median of the rounds, with the least and the most of them beside
it. A row says how many rounds it has and on which commit of this repository they were taken. Bold: better than every
other row in every round; nothing is bold where rounds overlap, or where one of the first two has one round only. ✻
computes something else than the reference and is not compared (see the notes). A row that had to be timed on fewer
items says so by its items; the figure is still a rate."""

METHOD = """\
- One ViT-B/32 is drawn at random with a fixed seed and written as a Hugging Face checkpoint, open_clip's state dict,
  plain ONNX exports of transformers' towers, GGUF and a clipworks bundle, so every peer has the same numbers.
- Each peer lives in an environment of its own with pinned packages, and in worker processes that stay open: rounds
  alternate, row after row, so that a change of the machine's pace meets all alike. The median of the rounds counts.
- Before anything is timed, each row's embeddings, pixels, ids or classes are compared with the reference: OpenAI's
  transform by torchvision's code and CLIPModel in f32. A row that computes something else is marked and left out of the
  ratios.
- Each peer does what its documentation recommends: batches of 32 images and 64 texts, its own threads, PyTorch's
  scaled-dot-product attention, a DataLoader with two processes for transformers and open_clip, torchvision's image
  backend where transformers chooses it, bf16 weights where a peer loads them so.
- For the time to first result clipworks has its compiled towers in its own cache, as on any run but the very first.
- torchvision's wheel does not fit a PyTorch without CUDA: its compiled operators, which CLIP does not use, are left
  out, and its transforms run as they are."""


def plot(record: Record, path: Path) -> None:
    """Bars of every work with the spread of their rounds, best first; hatched where a row computes something else."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    mpl.rcParams["svg.hashsalt"] = "clipworks"
    sheet, axes = plt.subplots(4, 2, figsize=(13, 17), layout="constrained")
    for work, ax in zip(PLOTTED, axes.flat, strict=True):
        found = list_figures(record, work)[::-1]
        for place, (row, figure) in enumerate(found):
            odd = find_fault(record, work, row) is not None
            value = figure.median
            ax.barh(
                place,
                value,
                xerr=[[value - figure.least], [figure.most - value]] if len(figure.rounds) > 1 else None,
                error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
                color=COLOURS["any" if shares_code(work) else row.precision],
                alpha=1 if row.ours else 0.45,
                hatch="//" if odd else None,
                edgecolor="white" if odd else None,
            )
            ax.text(figure.most, place, f"  {tables.show(value)}", va="center", fontsize=8)
        names = [row.peer if shares_code(work) else f"{row.label}, {row.precision}" for row, _ in found]
        ax.set_yticks(range(len(found)), names, fontsize=8)
        for label, (row, _) in zip(ax.get_yticklabels(), found, strict=True):
            label.set_fontweight("bold" if row.ours else "normal")
        ax.xaxis.set_major_locator(MaxNLocator(5))  # six digits want room
        ax.set_title(COLUMNS[work][0] + (", shorter is better" if work in LESS else ""), fontsize=10, loc="left")
        ax.margins(x=0.12)
        ax.spines[["top", "right"]].set_visible(False)
    sheet.savefig(path, metadata={"Date": None})
    plt.close(sheet)
