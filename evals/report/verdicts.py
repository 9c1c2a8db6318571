"""The gate's verdicts as the report shows them: read from gate.json, with one sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evals.suite import Metric

MOST_NAMED = 2  # further metrics are counted


@dataclass(frozen=True)
class Row:
    """One metric of a verdict.

    Attributes:
        outcome: PASS, FAIL or INCONCLUSIVE.
        share: means are shares; wins: models are compared by their win rate, whatever the unit of their means is.
        margin: the drop that must be ruled out, in the metric's unit.
        candidate, baseline: means over the common items; of a win rate there is only the candidate's.
        difference, low, high: positive is better; the ends are one-sided bounds, each at level 1 - alpha.
        n, clusters: common items, and independent groups of them.
        missing: items that were not measured on a side, or are not there at all.
        items_needed: about how many items decide it, where too few did not.
    """

    metric: str
    words: str
    outcome: str
    share: bool = True
    wins: bool = False
    margin: float | None = None
    candidate: float | None = None
    baseline: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    clusters: int | None = None
    missing: str = ""
    items_needed: int | None = None
    reason: str = ""

    @property
    def change(self) -> str:
        """The difference with its interval and unit."""
        if self.difference is None:
            return ""
        unit = " points of win rate" if self.wins else " points" if self.in_points else ""
        return f"{signed(self.difference, self.in_points)} {self.interval}{unit}"

    @property
    def in_points(self) -> bool:
        """Whether differences are in points of per cent."""
        return self.share or self.wins

    @property
    def interval(self) -> str:
        """Its interval; one end may be open."""
        low, high = (
            None if e is None or not math.isfinite(e) else signed(e, self.in_points) for e in (self.low, self.high)
        )
        return "[no interval]" if low is None and high is None else f"[{low or '…'}, {high or '…'}]"

    @property
    def allowed(self) -> str:
        """The margin with its unit."""
        if self.margin is None:
            return ""
        return f"{100 * self.margin:.3g} points" if self.in_points else f"{self.margin:.3g}"

    @property
    def why(self) -> str:
        """What decided this metric, in words."""
        if self.outcome == "FAIL":
            rest = f", a drop beyond the margin of {self.allowed}" if self.allowed else ""
            return self.change + rest if self.change else self.reason
        question = f"{self.change} does not rule out a drop of {self.allowed}" if self.change else ""
        reason = f"{self.reason} ({self.change})" if self.reason and self.change else self.reason or question
        return "; ".join(part for part in (reason, self.needed) if part)

    @property
    def needed(self) -> str:
        """How many items decide it, where it has fewer."""
        if self.items_needed is None or (self.n is not None and self.items_needed <= self.n):
            return ""
        measured = f", {self.n:,} measured" if self.n is not None else ""
        return f"about {self.items_needed:,} items are needed{measured}"


@dataclass(frozen=True)
class NotGated:
    """A measured metric that was not tested; one that blocks must get a rule before the gate can pass."""

    metric: str
    reason: str = ""
    blocks: bool = False


@dataclass(frozen=True)
class Verdict:
    """The gate's decision about one candidate.

    Attributes:
        candidate, baseline: names of their files.
        alpha: one-sided error of each test.
        not_gated: what was measured and not tested.
        notes: what else a reader must know.
        reason: of the whole, where no metric explains it.
    """

    candidate: str
    baseline: str
    outcome: str
    alpha: float | None
    rows: tuple[Row, ...] = ()
    not_gated: tuple[NotGated, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def sentence(self) -> str:
        """Why the outcome is what it is."""
        if self.outcome == "PASS":
            count = len(self.rows)
            if count == 1:
                return "the one metric of the gate stays within its margin"
            return f"all {count} metrics of the gate stay within their margins"
        decisive = [f"{row.words}: {row.why}" for row in self.rows if row.outcome == self.outcome]
        decisive += [f"{metric.metric}: {metric.reason}" for metric in self.not_gated if metric.blocks]
        if not decisive:
            return self.reason or "the gate names no reason"
        named = "; ".join(decisive[:MOST_NAMED])
        rest = len(decisive) - MOST_NAMED
        return named + (f"; and {rest} more" if rest > 0 else "")

    def count(self, outcome: str) -> int:
        """Number of metrics with this outcome."""
        return sum(row.outcome == outcome for row in self.rows)


def signed(value: float, share: bool) -> str:
    """A difference with its sign, a share's in points."""
    return f"{100 * value:+.1f}" if share else f"{value:+.3f}"


def read_verdicts(gate: Mapping[str, Any], metric: Callable[[str], Metric | None]) -> dict[str, Verdict]:
    """Verdicts by candidate, from the JSON of the gate. What it does not hold stays empty.

    Args:
        metric: from a key to its declaration, None for one that no result declares.
    """
    return {name: _verdict(name, row, metric) for name, row in gate.items() if isinstance(row, Mapping)}


def _verdict(name: str, verdict: Mapping[str, Any], metric: Callable[[str], Metric | None]) -> Verdict:
    rows = [row for row in verdict.get("rows") or () if isinstance(row, Mapping)]
    return Verdict(
        candidate=name,
        baseline=str(verdict.get("baseline") or ""),
        outcome=str(verdict.get("outcome") or "INCONCLUSIVE").upper(),
        alpha=_number(verdict.get("alpha")),
        rows=tuple(_row(row, metric(str(row.get("metric")))) for row in rows),
        not_gated=tuple(_not_gated(row) for row in verdict.get("ungated") or verdict.get("not_gated") or ()),
        notes=tuple(str(note) for note in verdict.get("notes") or ()),
        reason=str(verdict.get("refused") or verdict.get("reason") or ""),
    )


def _row(row: Mapping[str, Any], metric: Metric | None) -> Row:
    key = str(row.get("metric"))
    share = row.get("share")
    return Row(
        metric=key,
        words=str(row.get("words") or (metric.words if metric else key)),
        outcome=str(row.get("outcome") or "INCONCLUSIVE").upper(),
        share=bool(share) if share is not None else metric is None or metric.share,
        wins=bool(row.get("wins")) or (metric is not None and metric.wins),
        margin=_number(row.get("margin")),
        candidate=_number(row.get("candidate")),
        baseline=_number(row.get("baseline")),
        difference=_number(row.get("difference")),
        low=_number(row.get("low")),
        high=_number(row.get("high")),
        n=_count(row.get("n")),
        clusters=_count(row.get("clusters")),
        missing="; ".join(filter(None, (_missing(row, side) for side in ("candidate", "baseline")))),
        items_needed=_count(row.get("items_needed")),
        reason=str(row.get("reason") or ""),
    )  # fmt: skip


def _missing(row: Mapping[str, Any], side: str) -> str:
    """Items of one side that were not measured, by reason where the gate tells it, and items that it has alone."""
    counts, alone = row.get(f"missing_{side}"), _count(row.get(f"only_{side}"))
    if isinstance(counts, Mapping):
        words = ", ".join(f"{_count(count)} × {reason}" for reason, count in counts.items())
    else:
        words = str(_count(counts) or "")
    parts = [f"{side}: {words}"] if words else []
    return "; ".join([*parts, f"{alone} on the {side} alone"] if alone else parts)


def _not_gated(row: Any) -> NotGated:
    if not isinstance(row, Mapping):
        return NotGated(str(row))
    return NotGated(str(row.get("metric")), str(row.get("reason") or ""), bool(row.get("blocks")))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or not math.isfinite(number) else round(number)
