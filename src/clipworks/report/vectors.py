"""Stored vectors beside a model's: how far they are, and why."""

from __future__ import annotations

from clipworks.doctor.vector_check import VectorCheck
from clipworks.report.document import Document, FactList, Section
from clipworks.report.phrases import say_cosine, say_count
from clipworks.report.tables import tabulate


def show_vectors(found: VectorCheck) -> Document:
    """A check of vectors with the verdict as its title."""
    what = "image" if found.role == "image" else "text"
    facts = [
        ("model", f"{found.model}: {found.runtime} on {found.device}, {found.precision}"),
        ("file", f"{say_count(found.vectors, 'vector')} of {found.dim:,} numbers, {found.stored_as}"),
        ("lengths", _say_lengths(found)),
        ("compared", f"{say_count(found.compared, what)}{_say_left_out(found)}"),
        ("cosines", f"median {say_cosine(found.median_cosine)}, lowest {say_cosine(found.least_cosine)}"),
    ]
    worst = tabulate(
        "Furthest",
        found.worst,
        (
            (what, lambda one: one.name),
            ("vector", lambda one: str(one.index)),
            ("cosine", lambda one: say_cosine(one.cosine)),
        ),
    )
    sections = (Section(items=(FactList(rows=tuple(facts)), worst)), Section(text=_say_causes(found)))
    return Document(title=_say_verdict(found), sections=tuple(one for one in sections if one.items or one.text))


def _say_verdict(found: VectorCheck) -> str:
    if found.verdict == "same":
        return f"SAME: {say_count(found.compared, 'vector')} compared, none past {found.tolerance:g} of its length"
    return f"DIFFERS: {found.differing:,} of {found.compared:,} vectors are not what {found.model} gives"


def _say_lengths(found: VectorCheck) -> str:
    if found.normalised:
        return "1: the vectors are normalised"
    return f"{found.shortest:.4g} to {found.longest:.4g}: not normalised; their directions are compared"


def _say_left_out(found: VectorCheck) -> str:
    parts = [
        f"{say_count(found.empty, 'vector')} of zeros, NaN or Inf left out" if found.empty else "",
        f"{say_count(found.unreadable, 'image')} could not be read" if found.unreadable else "",
    ]
    return "".join(f"; {part}" for part in parts if part)


def _say_causes(found: VectorCheck) -> tuple[str, ...]:
    causes, subject = found.causes, "images" if found.role == "image" else "texts"
    if found.verdict == "same":
        return ()
    if causes.proven:
        made = f"so the model gives these vectors ({causes.confirmed} of {causes.confirmed} tried)"
        return (f"cause: {subject} {'; '.join(causes.proven)}: {made}",)
    said = [f"no variant tried explains it: another checkpoint, or other steps before the {found.role} tower?"]
    if causes.nearest and causes.nearest_cosine is not None:
        near = f"{subject} {'; '.join(causes.nearest)}"
        said.append(f"nearest: {near}; median cosine {say_cosine(causes.nearest_cosine)} over those tried")
    if causes.likely:
        said.append(causes.likely)
    return tuple(said)
