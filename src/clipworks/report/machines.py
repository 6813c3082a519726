"""The environments that results were measured in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipworks.environment import Environment
from clipworks.report.document import Column, Section, Table
from clipworks.report.figures import cut_rows, drop_empty, say_number


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and when a file's figures were made; None or empty for what its format does not record."""

    source: str
    model: str
    card_sha256: str
    cpu: str
    cores: int | None = None
    isa: tuple[str, ...] = ()
    memory_gib: float | None = None
    load_1m: float | None = None
    system: str = ""
    python: str = ""
    packages: tuple[tuple[str, str], ...] = ()
    measured_at: str = ""


def from_environment(source: str, model: str, card: str, environment: Environment, measured_at: str) -> Setting:
    """A setting of a recorded environment."""
    return Setting(
        source=source,
        model=model,
        card_sha256=card,
        cpu=environment.cpu,
        cores=environment.cores,
        isa=environment.isa,
        memory_gib=environment.memory_gib,
        load_1m=environment.load_1m,
        system=environment.system,
        python=environment.python,
        packages=tuple(sorted(environment.packages.items())),
        measured_at=measured_at,
    )


def from_manifest(source: str, settings: dict[str, Any]) -> Setting:
    """A setting of what a run's manifest says of its machine."""
    packages = settings.get("packages")
    isa = settings.get("isa")
    return Setting(
        source=source,
        model=str(settings.get("model", "")),
        card_sha256=str(settings.get("card_sha256", "")),
        cpu=str(settings.get("cpu", "")),
        isa=tuple(map(str, isa)) if isinstance(isa, list) else (),
        packages=tuple(sorted((str(name), str(value)) for name, value in packages.items()))
        if isinstance(packages, dict)
        else (),
    )


def report_machines(found: Sequence[Setting]) -> Section:
    """Tell each file's machine and software, equal ones once."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for item in found:
        key = (
            f"{item.model} {item.card_sha256[:12]}".strip(),
            item.cpu,
            "" if item.cores is None else str(item.cores),
            ", ".join(item.isa),
            say_number(item.memory_gib),
            item.system,
            item.python,
            ", ".join(f"{name} {version}" for name, version in item.packages),
        )
        sources = rows.setdefault(key, [])
        if item.source not in sources:
            sources.append(item.source)
    names = ("model, card", "processor", "cores", "extensions", "memory GiB", "system", "Python", "packages")
    columns = (Column(name="files"), *(Column(name=name, numeric=name in ("cores", "memory GiB")) for name in names))
    table = Table(
        title="Machine and software",
        columns=columns,
        rows=tuple((_list(sources), *key) for key, sources in rows.items()),
    )
    times = Table(
        title="When, and how busy the machine was before",
        columns=(
            Column(name="file"),
            Column(name="measured at (UTC)"),
            Column(name="load average", numeric=True),
            Column(name="cores", numeric=True),
        ),
        rows=tuple(
            dict.fromkeys(
                (
                    item.source,
                    item.measured_at,
                    "" if item.load_1m is None else f"{item.load_1m:g}",
                    "" if item.cores is None else str(item.cores),
                )
                for item in found
                if item.measured_at
            )
        ),
    )
    items = (drop_empty(cut_rows(table)), *((cut_rows(times),) if times.rows else ()))
    return Section(title="Environment", items=items)


def _list(sources: list[str], most: int = 8) -> str:
    more = f" and {len(sources) - most:,} more" if len(sources) > most else ""
    return ", ".join(sources[:most]) + more
