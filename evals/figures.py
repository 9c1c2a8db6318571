"""Figures of the report, each an SVG as a data URI: the page needs no network and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from evals.results import Item, Result
from evals.statistics import Estimate
from evals.table import Run, wins_against

WIDTH = 6.6
COLOURS = ("#8a8f98", "#b8a06a", "#4c78a8", "#e1812c", "#3a923a", "#9467bd", "#c03d3e", "#17a2b8")
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#999999",
        "axes.grid": True,
        "grid.color": "#eeeeee",
        "axes.axisbelow": True,
        "svg.hashsalt": "alignloop",
        "legend.frameon": False,
    }
)


def colour_of(run: Run) -> dict[str, str]:
    """A colour for each system, the same in every figure."""
    return {result.system: COLOURS[index % len(COLOURS)] for index, (result, _) in enumerate(run)}


def win_rates(run: Run, baselines: Sequence[str]) -> str | None:
    """Each system against each baseline under the true preference."""
    colours = colour_of(run)
    against = [(result, items) for result, items in run if result.system in baselines]
    lines = [
        (f"{other.label} against {base.label}", wins_against(items, theirs), colours[other.system])
        for base, theirs in against
        for other, items in run
        if other.system != base.system and (other.system not in baselines or _after(run, other, base))
    ]
    measured = [(words, estimate, colour) for words, estimate, colour in lines if estimate is not None and estimate.n]
    if not measured:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.34 * len(measured)), layout="constrained")
    for place, (_, estimate, colour) in enumerate(reversed(measured)):
        value, low, high = (100 * x for x in estimate.numbers())
        axes.plot([low, high], [place, place], color=colour, lw=2.5, solid_capstyle="butt")
        axes.plot(value, place, "o", color=colour, ms=7)
        axes.annotate(f"{value:.0f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.axvline(50, color="#666666", lw=1, ls="--")
    axes.set(xlim=(0, 103), ylim=(-0.6, len(measured) - 0.3), xlabel="preferred, % of prompts (ties half)")
    axes.set_yticks(range(len(measured)))
    axes.set_yticklabels([words for words, _, _ in reversed(measured)])
    return _svg(figure)


def use_cases(run: Run, baseline: str, candidates: Sequence[str]) -> str | None:
    """Win rate of each candidate against the baseline by use case."""
    against = next((items for result, items in run if result.system == baseline), [])
    cases = sorted({i.tags["use_case"] for i in against if i.suite == "preference" and "use_case" in i.tags})
    compared = [(result, items) for result, items in run if result.system in candidates]
    if not cases or not compared:
        return None
    series = {result.system: [wins_against(items, against, case) for case in cases] for result, items in compared}
    counts = [max((row[k].n for row in series.values() if row[k] is not None), default=0) for k in range(len(cases))]  # type: ignore[union-attr]  # None is filtered out
    names = [f"{case} ({n})" for case, n in zip(cases, counts, strict=True)]
    figure = _dots(run, series, names, "preferred, %", line=50)
    return _svg(figure)


def by_metric(run: Run, metrics: Mapping[str, str], xlabel: str) -> str | None:
    """Estimates of several metrics (label -> name), one row per metric and one dot per system."""
    series = {r.system: [r.metrics.get(name) for name in metrics.values()] for r, _ in run}
    rows = [k for k in range(len(metrics)) if any(_is_measured(row[k]) for row in series.values())]
    if not rows:
        return None
    names = [list(metrics)[k] for k in rows]
    return _svg(_dots(run, {s: [row[k] for k in rows] for s, row in series.items()}, names, xlabel))


def pareto(run: Run) -> str | None:
    """Reward, and true utility, against the tax: loss on held-out text."""
    cost = "tax.heldout_tokens.loss"
    panels = [("reward.prompts.reward", "mean reward (reward model)"), ("preference.prompts.utility", "true utility")]
    measured = [
        (m, words)
        for m, words in panels
        if any(_is_measured(r.metrics.get(m)) and _is_measured(r.metrics.get(cost)) for r, _ in run)
    ]
    if not measured:
        return None
    colours = colour_of(run)
    figure, grid = plt.subplots(
        len(measured), 1, figsize=(WIDTH, 2.9 * len(measured)), squeeze=False, layout="constrained"
    )
    for axes, (metric, words) in zip(grid[:, 0], measured, strict=True):
        for result, _ in run:
            x, y = result.metrics.get(cost), result.metrics.get(metric)
            if x is None or y is None or not _is_measured(x) or not _is_measured(y):
                continue
            (a, a0, a1), (b, b0, b1) = x.numbers(), y.numbers()
            axes.errorbar(
                a, b, xerr=[[a - a0], [a1 - a]], yerr=[[b - b0], [b1 - b]], fmt="o", ms=7, color=colours[result.system]
            )
            axes.annotate(result.label, (a, b), xytext=(6, 6), textcoords="offset points", fontsize=9)
        axes.set(xlabel="loss on held-out text, nats per token (the tax grows to the right)", ylabel=words)
        axes.margins(0.18)
    return _svg(figure)


def _dots(
    run: Run,
    series: Mapping[str, Sequence[Estimate | None]],
    names: Sequence[str],
    xlabel: str,
    line: float | None = None,
) -> Any:
    """Horizontal dots with whiskers in per cent: metrics on the vertical axis, systems by colour."""
    colours = colour_of(run)
    labels = {result.system: result.label for result, _ in run}
    step = 0.8 / max(1, len(series))
    height = 1.1 + len(names) * (0.2 + 0.11 * len(series))
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    for index, (system, row) in enumerate(series.items()):
        shown = False
        for place, estimate in enumerate(row):
            if estimate is None or not _is_measured(estimate):
                continue
            value, low, high = (100 * x for x in estimate.numbers())
            y = len(names) - 1 - place + 0.4 - step * (index + 0.5)
            axes.plot([low, high], [y, y], color=colours[system], lw=2, solid_capstyle="butt")
            axes.plot(value, y, "o", color=colours[system], ms=5.5, label=None if shown else labels[system])
            shown = True
    if line is not None:
        axes.axvline(line, color="#666666", lw=1, ls="--")
    for edge in range(1, len(names)):
        axes.axhline(edge - 0.5, color="#e4e4e4", lw=0.8)
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(-2, 102), ylim=(-0.5, len(names) - 0.5), xlabel=xlabel, yticks=range(len(names)))
    axes.set_yticklabels(list(reversed(names)))
    figure.legend(loc="outside lower center", ncols=min(5, len(series)), fontsize=9)
    return figure


def _is_measured(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def _after(run: Run, first: Result, second: Result) -> bool:
    order = [result.system for result, _ in run]
    return order.index(first.system) > order.index(second.system)


def _svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def policies(run: Sequence[tuple[Result, list[Item]]]) -> list[tuple[Result, list[Item]]]:
    """The systems that write text."""
    return [(result, items) for result, items in run if result.ask != "score"]
