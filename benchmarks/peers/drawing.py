"""The record as a page, a plot and a quotation in both READMEs; nothing in them is typed by hand."""

from __future__ import annotations

from pathlib import Path

from peers import tables
from peers.environments import ROOT
from peers.figures import LESS, Record, find_fault, find_figure
from peers.rows import ROWS
from peers.wording import COLUMNS

PAGE = ROOT / "docs" / "peers.md"
PLOT = ROOT / "docs" / "peers.svg"
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
MARKS = ("<!-- peers: written by benchmarks/peers -->", "<!-- /peers -->")
PLOTTED = ("a", "b", "c", "d", "d8", "e", "f", "g")
COLOURS = {"f32": "#4878a8", "bf16": "#6aa56e", "f16": "#6aa56e", "int8": "#c98a3b"}


def draw(record: Record) -> None:
    """Write all of it."""
    PAGE.write_text(write_page(record), encoding="utf-8")
    plot(record, PLOT)
    for language, path in enumerate(READMES):
        text = path.read_text(encoding="utf-8")
        if MARKS[0] in text:
            before, _, rest = text.partition(MARKS[0])
            after = rest.partition(MARKS[1])[2]
            quoted = tables.write_summary(record, language)
            path.write_text(f"{before}{MARKS[0]}\n\n{quoted}\n\n{MARKS[1]}{after}", encoding="utf-8")


def write_page(record: Record) -> str:
    """The page."""
    summary = tables.write_summary(record, 0).replace("[docs/peers.md](docs/peers.md) has", "Below are")
    return "\n\n".join(
        [
            "# clipworks beside its peers",
            "Written by `make bench-peers PHOTOGRAPHS=FOLDER` from [peers.json](peers.json); every figure, date and "
            "version on this page comes from that run, and none is typed by hand. What was tried, also what did not "
            "help, stands in [performance.md](performance.md).",
            "![The figures as bars](peers.svg)",
            "## All rows",
            summary,
            "## Goals",
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
            "## Spread",
            "The least and the most of the rounds, and the commit that they were taken on.",
            tables.write_spread(record),
            "",
        ]
    )


METHOD = """\
- One ViT-B/32 is drawn at random with a fixed seed and written as a Hugging Face checkpoint, open_clip's state dict,
  plain ONNX exports of transformers' towers, GGUF and a clipworks bundle, so every peer has the same numbers.
- Each peer lives in an environment of its own with pinned packages, and in worker processes that stay open: rounds
  alternate, row after row, so that a change of the machine's pace meets all alike. The median of the rounds counts.
- Before anything is timed, each row's embeddings, pixels, ids or classes are compared with the reference: OpenAI's
  transform by torchvision's code and CLIPModel in f32. A row that computes something else is marked and left out of the
  ratios.
- Each peer does what its documentation recommends: batches of 32 pictures and 64 texts, its own threads, PyTorch's
  scaled-dot-product attention, a DataLoader with two processes for transformers and open_clip, torchvision's image
  backend where transformers chooses it, bf16 weights where a peer loads them so.
- a is the time from the start of a process to its first scores, with files in the system's cache; clipworks has its
  compiled towers in its own cache, as on any run but the very first.
- b is the median call over photographs and texts that change; e has a tokenizer that has seen none of the strings;
  f runs on one core with one thread; g ranks 1,000 labels whose embeddings are given, but for the pipeline, which takes
  names only and embeds them again for each call.
- torchvision's wheel does not fit a PyTorch without CUDA: its compiled operators, which CLIP does not use, are left
  out, and its transforms run as they are."""


def plot(record: Record, path: Path) -> None:
    """Bars of every work, best first; hatched where a row computes something else."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    mpl.rcParams["svg.hashsalt"] = "clipworks"
    figure, axes = plt.subplots(4, 2, figsize=(13, 17), layout="constrained")
    for work, ax in zip(PLOTTED, axes.flat, strict=True):
        found = [(row, value) for row in ROWS if (value := find_figure(record, work, row)) is not None]
        found.sort(key=lambda item: item[1], reverse=work in LESS)
        for place, (row, value) in enumerate(found):
            odd = find_fault(record, work, row) is not None
            ax.barh(
                place,
                value,
                color=COLOURS[row.precision],
                alpha=1 if row.ours else 0.45,
                hatch="//" if odd else None,
                edgecolor="white" if odd else None,
            )
            ax.text(value, place, f" {tables.show(value)}", va="center", fontsize=8)
        ax.set_yticks(range(len(found)), [f"{row.label}, {row.precision}" for row, _ in found], fontsize=8)
        for label, (row, _) in zip(ax.get_yticklabels(), found, strict=True):
            label.set_fontweight("bold" if row.ours else "normal")
        ax.xaxis.set_major_locator(MaxNLocator(5))  # six digits want room
        ax.set_title(COLUMNS[work][0] + (", shorter is better" if work in LESS else ""), fontsize=10, loc="left")
        ax.margins(x=0.12)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
