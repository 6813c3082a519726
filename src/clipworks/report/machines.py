"""The environments that results were measured in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clipworks.environment import Environment
from clipworks.report.document import Caution, Document, Section, warn
from clipworks.report.phrases import join_words, say_number
from clipworks.report.tables import tabulate


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and when (UTC, ISO 8601) a file's figures were made, as far as its format records it."""

    source: str
    model: str
    card_sha256: str
    environment: Environment
    measured_at: str = ""


# A machine with more than this share of its cores busy before the run was not quiet.
_BUSY = 0.5
_FACETS: tuple[tuple[str, Callable[[Setting], str]], ...] = (
    ("model, card", lambda item: f"{item.model} {item.card_sha256[:12]}".strip()),
    ("processor", lambda item: item.environment.cpu),
    ("cores", lambda item: str(item.environment.cores or "")),
    ("extensions", lambda item: ", ".join(item.environment.isa)),
    ("memory GiB", lambda item: say_number(item.environment.memory_gib)),
    ("system", lambda item: item.environment.system),
    ("Python", lambda item: item.environment.python),
    ("packages", lambda item: ", ".join(" ".join(one) for one in sorted(item.environment.packages.items()))),
)


def read_manifest(source: str, settings: dict[str, Any]) -> Setting:
    """What a run's manifest says of its machine."""
    packages, isa = settings.get("packages"), settings.get("isa")
    return Setting(
        source=source,
        model=str(settings.get("model", "")),
        card_sha256=str(settings.get("card_sha256", "")),
        environment=Environment(
            cpu=str(settings.get("cpu", "")),
            cores=0,
            isa=tuple(map(str, isa)) if isinstance(isa, list) else (),
            memory_gib=None,
            load_1m=None,
            system="",
            python="",
            packages={str(name): str(value) for name, value in packages.items()} if isinstance(packages, dict) else {},
        ),
    )


def report_machines(found: Sequence[Setting]) -> Document:
    """Tell each file's machine and software, equal ones once, and which machines were busy or differ."""
    machines: dict[tuple[str, ...], list[str]] = {}
    for item in found:
        sources = machines.setdefault(tuple(read(item) for _, read in _FACETS), [])
        sources += [item.source] if item.source not in sources else []
    table = tabulate(
        "Machine and software",
        list(machines.items()),
        (
            ("files", lambda row: join_words(row[1], 8)),
            *((name, lambda row, place=place: row[0][place]) for place, (name, _) in enumerate(_FACETS)),
        ),
        spare=("extensions", "packages"),
    )
    times = tabulate(
        "When, and how busy the machine was before",
        list({(item.source, item.measured_at): item for item in found if item.measured_at}.values()),
        (
            ("file", lambda item: item.source),
            ("measured at (UTC)", lambda item: item.measured_at),
            ("load average", lambda item: say_number(item.environment.load_1m)),
            ("cores", lambda item: str(item.environment.cores)),
        ),
    )
    section = Section(title="Environment", items=(table, times))
    return Document(warnings=_doubt(found), sections=(section,) if found else ())


def _doubt(found: Sequence[Setting]) -> tuple[Caution, ...]:
    """Cautions about machines: busy ones, and more than one."""
    processors = {item.environment.cpu for item in found if item.environment.cpu}
    loads = [(item.source, item.environment.load_1m or 0.0, item.environment.cores) for item in found]
    busy = {source: load / cores for source, load, cores in sorted(loads) if cores and load > _BUSY * cores}
    low, high = (f"{end(busy.values(), default=0.0):.1f}" for end in (min, max))
    load = f"load average {low if low == high else f'{low} to {high}'} for each core"
    return warn(
        "",
        (len(processors) > 1, "The files come from machines with different processors: speeds do not compare."),
        (busy, f"The machine was busy before {join_words(list(busy), 4, 'files')}: {load}."),
    )
