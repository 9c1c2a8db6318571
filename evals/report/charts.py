"""Kinds of charts: dots with intervals, pairs of dots, points in a plane, reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evals.report.svg import INK, LINE, SIZE, SOFT, WIDTH, Axis, Drawing, Picture, wrapped
from evals.statistics import Estimate

NAMES, NUMBERS, TWO_NUMBERS = 118.0, 44.0, 80.0  # px for names on the left and numbers on the right
TITLE_SIZE = 11.0
GAP = 10.0


@dataclass(frozen=True)
class Group:
    """One metric: its words, and an estimate for each model that was measured, by the model's name."""

    words: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Shift:
    """One task measured in two ways: (before, after) for each model, as values."""

    words: str
    values: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """One model in a plane, with its intervals where they are known."""

    name: str
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class Style:
    """Label and colour of every model."""

    labels: Mapping[str, str]
    colours: Mapping[str, str]


def dots(groups: Sequence[Group], style: Style, share: bool = True, line: float | None = None) -> Picture:
    """One line per metric and model: name, dot with its interval, number.

    Args:
        share: values are shown in per cent on an axis from 0 to 100; otherwise on the range of the values.
        line: value of a dashed line, such as one half for win rates.
    """
    low, high = (0.0, 1.0) if share else _range([e for group in groups for e in group.estimates.values()])
    axis = Axis(low, high, NAMES, WIDTH - NUMBERS)
    drawing, y = Drawing(), 4.0
    for group in groups:
        y = _title(drawing, group.words, y)
        top = y
        lines = [wrapped(style.labels[name], NAMES - 8) for name in group.estimates]
        bottom = top + sum(len(names) * LINE + 2 for names in lines)
        _ground(drawing, axis, top, bottom, line)
        for (name, estimate), names in zip(group.estimates.items(), lines, strict=True):
            y = _entry(drawing, axis, names, estimate, style.colours[name], y, share)
        y += GAP
    return _with_axis(drawing, axis, y - GAP, share)


def shifts(groups: Sequence[Shift], style: Style, share: bool = True) -> Picture:
    """One line per task and model: a hollow dot before, a filled one after, both numbers."""
    values = [v for group in groups for pair in group.values.values() for v in pair]
    low, high = (0.0, 1.0) if share else _range([Estimate(v, None, None, 1) for v in values])
    axis = Axis(low, high, NAMES, WIDTH - TWO_NUMBERS)
    drawing, y = Drawing(), 4.0
    for group in groups:
        y = _title(drawing, group.words, y)
        lines = [wrapped(style.labels[name], NAMES - 8) for name in group.values]
        _ground(drawing, axis, y, y + sum(len(names) * LINE + 2 for names in lines), None)
        for (name, (before, after)), names in zip(group.values.items(), lines, strict=True):
            middle, colour = y + LINE / 2, style.colours[name]
            _names(drawing, names, y)
            drawing.line(axis.at(before), middle, axis.at(after), middle, colour, 2)
            drawing.dot(axis.at(before), middle, colour, hollow=True)
            drawing.dot(axis.at(after), middle, colour)
            words = f"{number(before, share)} → {number(after, share)}"
            drawing.text(WIDTH - 2, middle + 3.5, words, "end")
            y += len(names) * LINE + 2
        y += GAP
    return _with_axis(drawing, axis, y - GAP, share)


def plane(points: Sequence[Point], style: Style, words: tuple[str, str], y_share: bool) -> Picture:
    """Numbered points with their intervals; numbers are explained below, so that no label covers another.

    Args:
        words: below the horizontal axis, above the vertical one.
    """
    drawing, left = Drawing(), 40.0
    top = _title(drawing, words[1], 2.0) + 8
    bottom = top + 220
    across = Axis(*_range([point.x for point in points], 1.0), left, WIDTH - 14)
    up = Axis(*_range([point.y for point in points], 0.1), bottom, top)
    for value in (across.low, 0.0, across.high):
        if across.low <= value <= across.high:
            drawing.line(across.at(value), top, across.at(value), bottom, dashed=value == 0)
            drawing.text(across.at(value), bottom + 14, f"{value:.1f}", "middle", colour=SOFT)
    for value in (up.low, (up.low + up.high) / 2, up.high):
        drawing.line(left, up.at(value), across.right, up.at(value))
        drawing.text(left - 5, up.at(value) + 3.5, number(value, y_share), "end", colour=SOFT)
    for point in points:
        _cross(drawing, across, up, point, style.colours[point.name])
    for index, point in enumerate(points, 1):
        x, y = across.at(point.x.value or 0.0), up.at(point.y.value or 0.0)
        drawing.dot(x, y, style.colours[point.name], 8)
        drawing.text(x, y + 3.7, str(index), "middle", colour="#fff", bold=True)
    end = bottom + 18
    for words_line in wrapped(words[0], WIDTH - 4):
        end += LINE
        drawing.text(WIDTH / 2, end, words_line, "middle", colour=SOFT)
    end += 6
    for index, point in enumerate(points, 1):
        end += 3
        for place, words_line in enumerate(wrapped(style.labels[point.name], WIDTH - 30)):
            end += LINE
            if place == 0:
                drawing.text(16, end, f"{index}", "end", colour=style.colours[point.name], bold=True)
            drawing.text(22, end, words_line)
    return drawing.finish(end + 6)


def reliability(curves: Mapping[str, Sequence[tuple[float, Estimate]]], style: Style) -> Picture:
    """Agreement against mean confidence per bin; a calibrated model follows the dashed line."""
    drawing, top, bottom, left = Drawing(), 30.0, 260.0, 40.0
    across, up = Axis(0.5, 1.0, left, WIDTH - 14), Axis(0.0, 1.0, bottom, top)
    drawing.text(2, 14, "agreement with labelers, %", size=TITLE_SIZE, bold=True)
    for value in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        drawing.text(across.at(value), bottom + 14, f"{100 * value:.0f}", "middle", colour=SOFT)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(left, up.at(value), across.right, up.at(value))
        drawing.text(left - 5, up.at(value) + 3.5, f"{100 * value:.0f}", "end", colour=SOFT)
    drawing.line(across.at(0.5), up.at(0.5), across.at(1.0), up.at(1.0), SOFT, dashed=True)
    end = bottom + 30
    drawing.text(WIDTH / 2, end, "confidence of the reward model, %", "middle", colour=SOFT)
    for place, (name, bins) in enumerate(curves.items()):
        colour, shift = style.colours[name], 5.0 * place  # side by side, so that intervals do not cover each other
        centres = [(across.at(confidence) + shift, estimate) for confidence, estimate in bins]
        for (x1, e1), (x2, e2) in pairwise(centres):
            drawing.line(x1, up.at(e1.value or 0.0), x2, up.at(e2.value or 0.0), colour, 1.5)
        for x, estimate in centres:
            if estimate.low is not None and estimate.high is not None:
                drawing.line(x, up.at(estimate.low), x, up.at(estimate.high), colour, 2)
            drawing.dot(x, up.at(estimate.value or 0.0), colour)
        for part, words in enumerate(wrapped(style.labels[name], WIDTH - 30)):
            end += LINE + (3 if part == 0 else 0)
            if part == 0:
                drawing.dot(12, end - 4, colour)
            drawing.text(22, end, words)
    return drawing.finish(end + 6)


def number(value: float, share: bool) -> str:
    """A value on a figure: a whole per cent, or two decimals."""
    return f"{100 * value:.0f}" if share else f"{value:.2f}"


def _range(estimates: Sequence[Estimate], least: float = 1e-6) -> tuple[float, float]:
    """The ends of an axis: all values and intervals, with some room.

    Args:
        least: smallest range, so that nearly equal values do not look different.
    """
    ends = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None and math.isfinite(v)]
    low, high = min(ends), max(ends)
    room = max(0.06 * (high - low), (least - (high - low)) / 2)
    return low - room, high + room


def _title(drawing: Drawing, words: str, y: float) -> float:
    for line in wrapped(words, WIDTH - 8, TITLE_SIZE * 1.06):
        y += LINE + 1
        drawing.text(2, y - 3, line, size=TITLE_SIZE, bold=True)
    return y + 3


def _ground(drawing: Drawing, axis: Axis, top: float, bottom: float, line: float | None) -> None:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = axis.left + share * (axis.right - axis.left)
        drawing.line(x, top, x, bottom)
    if line is not None:
        drawing.line(axis.at(line), top, axis.at(line), bottom, SOFT, 1.2, dashed=True)


def _names(drawing: Drawing, names: Sequence[str], y: float) -> None:
    for place, words in enumerate(names):
        drawing.text(NAMES - 8, y + LINE * place + LINE / 2 + 3.5, words, "end", colour=INK)


def _entry(
    drawing: Drawing, axis: Axis, names: Sequence[str], estimate: Estimate, colour: str, y: float, share: bool
) -> float:
    middle = y + LINE / 2
    _names(drawing, names, y)
    if estimate.low is not None and estimate.high is not None:
        drawing.whiskers(axis.at(estimate.low), axis.at(estimate.high), middle, colour)
    assert estimate.value is not None, "only measured values are drawn"
    drawing.dot(axis.at(estimate.value), middle, colour)
    drawing.text(WIDTH - 2, middle + 3.5, number(estimate.value, share), "end")
    return y + len(names) * LINE + 2


def _with_axis(drawing: Drawing, axis: Axis, y: float, share: bool) -> Picture:
    """The numbers below the last group."""
    for part in (0.0, 0.5, 1.0):
        value = axis.low + part * (axis.high - axis.low)
        words = f"{100 * value:.0f} %" if share else f"{value:.2f}"
        x = axis.left + part * (axis.right - axis.left)
        drawing.text(x, y + SIZE + 2, words, "middle", colour=SOFT)
    return drawing.finish(y + SIZE + 8)


def _cross(drawing: Drawing, across: Axis, up: Axis, point: Point, colour: str) -> None:
    x, y = across.at(point.x.value or 0.0), up.at(point.y.value or 0.0)
    for estimate, horizontal in ((point.x, True), (point.y, False)):
        if estimate.low is None or estimate.high is None:
            continue
        if horizontal:
            drawing.whiskers(across.at(estimate.low), across.at(estimate.high), y, colour)
        else:
            drawing.line(x, up.at(estimate.low), x, up.at(estimate.high), colour, 2)
