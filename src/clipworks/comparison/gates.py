"""Gates: bounds that every row must keep, for somebody's continuous integration."""

from __future__ import annotations

from collections.abc import Callable

from clipworks.comparison.comparison import GateResult, Row
from clipworks.errors import UsageError, unknown_name


def _difference(k: int) -> Callable[[Row], float | None]:
    def find(row: Row) -> float | None:
        found = next((item for item in row.differences if item.k == k), None)
        # From the counts: the difference of two shares is not quite -0.5 points where 5 of 1,000 were lost.
        return None if found is None else 100 * (found.only_row - found.only_reference) / found.count

    return find


def _throughput(row: Row) -> float | None:
    speeds = [speed for speed in row.speeds if speed.tower == "image"]
    ratios = [speed.ratio.median for speed in speeds if speed.ratio is not None]
    return min(ratios) if ratios and len(ratios) == len(speeds) else None


# Name, and what it looks at: points of accuracy, shares, cosines, times the reference's rate under the load where that
# is least; more is better in all.
GATES: dict[str, Callable[[Row], float | None]] = {
    "top1": _difference(1),
    "top5": _difference(5),
    "agreement": lambda row: None if row.agreement is None else row.agreement.top1.share,
    "cosine": lambda row: None if row.agreement is None else row.agreement.cosine_min,
    "throughput": _throughput,
}


def parse_gates(text: str) -> dict[str, float]:
    """Read ``top1=-0.5,agreement=0.99``; raises UnknownNameError, and UsageError for another form or a name twice."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = (item.strip() for item in part.partition("="))
        try:
            bound = float(value)
        except ValueError:
            bound = float("nan")
        if not sign or bound != bound or name in bounds:
            raise UsageError(f"--gate is {text!r}; allowed: names and numbers, as in top1=-0.5,agreement=0.99")
        if name not in GATES:
            raise unknown_name("gate", name, list(GATES))
        bounds[name] = bound
    return bounds


def check_gates(rows: tuple[Row, ...], bounds: dict[str, float]) -> tuple[GateResult, ...]:
    """Check every row that is available by every bound; references are what the others are compared with."""
    return tuple(
        GateResult(row=row.name, gate=name, bound=bound, value=value, kept=value is not None and value >= bound)
        for row in rows
        if row.actual is not None and not row.is_reference
        for name, bound in bounds.items()
        for value in (GATES[name](row),)
    )
