"""The figures of the report, from what metrics declare: one per title, one per slice, and four of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evals.report import charts
from evals.report.calibration import calibration
from evals.report.charts import Group, Shift, Style
from evals.report.contents import Contents
from evals.report.pareto import pareto
from evals.report.slices import sliced
from evals.report.svg import Picture, colours_of
from evals.report.variants import comparisons
from evals.statistics import Estimate
from evals.suite import Metric

INTERVALS = "Lines are 95 % intervals over items."


@dataclass(frozen=True)
class Figure:
    """A picture with its title and what a reader needs to read it; one of the many that few look for is folded."""

    title: str
    picture: Picture
    note: str
    folded: bool = False


def figures(contents: Contents) -> list[Figure]:
    """Every figure that the run has something for."""
    style = style_of(contents)
    return [
        *_titled(contents, style), *_sliced(contents, style), *_variants(contents, style), *_pareto(contents, style),
        *_calibration(contents),
    ]  # fmt: skip


def style_of(contents: Contents) -> Style:
    """Labels and colours of all models."""
    return Style(contents.labels, colours_of(list(contents.results)))


def _titled(contents: Contents, style: Style) -> Iterator[Figure]:
    titles: dict[str, list[tuple[str, Metric]]] = defaultdict(list)
    for key, metric in contents.metrics.items():
        if metric.figure:
            titles[metric.figure].append((key, metric))
    for title, metrics in titles.items():
        yield from _wins(contents, style, title, [pair for pair in metrics if pair[1].wins])
        shares = [(key, metric) for key, metric in metrics if metric.share and not metric.wins]
        groups = [_group(contents, key, metric) for key, metric in shares]
        if measured := [group for group in groups if group.estimates]:
            yield Figure(title, charts.dots(measured, style), f"% of items. {INTERVALS}{_doubt(contents, shares)}")
        for key, metric in metrics:
            group = _group(contents, key, metric)
            if not metric.share and not metric.wins and group.estimates:
                note = f"{INTERVALS}{_doubt(contents, [(key, metric)])}"
                yield Figure(title, charts.dots([group], style, share=False), note)


def _wins(contents: Contents, style: Style, title: str, metrics: list[tuple[str, Metric]]) -> Iterator[Figure]:
    """Win rates of every other model against each baseline; of two baselines, of the later against the earlier."""
    groups = []
    for key, metric in metrics:
        for place, base in enumerate(contents.baselines):
            others = [name for name in contents.policies if name not in contents.baselines[: place + 1]]
            rates = {name: contents.win_rate(name, base, key) for name in others if name != base}
            measured = {name: rate for name, rate in rates.items() if rate is not None}
            if measured:
                groups.append(Group(f"{metric.words}: preferred to {contents.labels[base]}", measured))
    if groups:
        note = "% of common items, ties half; on the dashed line neither is preferred."
        picture = charts.dots(groups, style, line=0.5)
        yield Figure(title, picture, f"{note} {INTERVALS}{_doubt(contents, metrics)}")


def _sliced(contents: Contents, style: Style) -> Iterator[Figure]:
    for key, metric in contents.metrics.items():
        for tag in metric.slices:
            parts = sliced(contents, key, tag)
            if parts is None:
                continue
            groups, more = parts
            wins = f"preferred to {contents.labels.get(contents.baseline or '', '')}, " if metric.wins else ""
            title = f"By {tag.replace('_', ' ')}: {metric.words}"
            share = metric.share or metric.wins
            picture = charts.dots(groups, style, share, 0.5 if metric.wins else None)
            note = f"{wins}{'% of items' if share else 'mean'}. {INTERVALS}{more}{_doubt(contents, [(key, metric)])}"
            yield Figure(title, picture, note, folded=not metric.wins)


def _variants(contents: Contents, style: Style) -> Iterator[Figure]:
    by_title: dict[tuple[str, bool], list[Shift]] = defaultdict(list)
    for comparison in comparisons(contents.metrics):
        metric = contents.metrics[comparison.before]
        values = {}
        for name in contents.policies:
            before = _measured(contents, name, comparison.before)
            after = _measured(contents, name, comparison.after)
            if before is not None and after is not None:
                values[name] = (before.value or 0.0, after.value or 0.0)
        if values:
            shift = Shift(_words(metric.words, metric), values)
            by_title[comparison.title, metric.share].append(shift)
    for (title, share), groups in by_title.items():
        note = f"Hollow: the first; filled: the second{', % of items' if share else ''}. Intervals are in the table."
        yield Figure(title, charts.shifts(groups, style, share), note)


def _pareto(contents: Contents, style: Style) -> Iterator[Figure]:
    plane = pareto(contents)
    if plane is not None:
        points, words, share, note = plane
        yield Figure("Preference against tax", charts.plane(points, style, words, share), note)


def _calibration(contents: Contents) -> Iterator[Figure]:
    curves = calibration(contents)
    if not curves:
        return
    style = Style({name: name for name in curves}, colours_of(list(curves)))
    bins = {name: curve for name, (curve, _) in curves.items()}
    errors = "; ".join(f"{name}: {100 * error:.1f} points" for name, (_, error) in curves.items())
    note = f"On the dashed line confidence is what it claims to be. Expected calibration error: {errors}. {INTERVALS}"
    yield Figure("Calibration of the reward model", charts.reliability(bins, style), note)


def _group(contents: Contents, key: str, metric: Metric) -> Group:
    measured: Mapping[str, Estimate | None] = {name: _measured(contents, name, key) for name in contents.results}
    return Group(_words(metric.words, metric), {name: e for name, e in measured.items() if e is not None})


def _measured(contents: Contents, name: str, key: str) -> Estimate | None:
    estimate = contents.results[name].metrics.get(key)
    return estimate if estimate is not None and estimate.value is not None else None


def _words(words: str, metric: Metric) -> str:
    return f"{words} (less is better)" if metric.better == "lower" else words


def _doubt(contents: Contents, metrics: list[tuple[str, Metric]]) -> str:
    """Says which of the metrics rest on an unusable judge."""
    doubtful = [metric.words for key, metric in metrics if key in contents.doubtful]
    if not doubtful:
        return ""
    which = "" if len(doubtful) == len(metrics) else f": {', '.join(doubtful)}"
    return f" Not usable, as the judge is not accurate enough{which}."
