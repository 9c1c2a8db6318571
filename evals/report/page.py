"""index.html: one page that needs nothing else, neither network nor script."""

from __future__ import annotations

from pathlib import Path

import jinja2

from evals.report import provenance
from evals.report.cards import Card, cards
from evals.report.contents import Contents
from evals.report.figures import figures, style_of
from evals.report.flips import Change, changes
from evals.report.layout import NOTE, parts
from evals.report.verdicts import Verdict, signed
from evals.results import count_asked
from evals.statistics import Estimate
from evals.table import Row, text
from evals.world.caveats import CAVEATS as CAVEATS_OF_THE_WORLD
from evals.world.caveats import is_of_world

TEMPLATES = Path(__file__).parents[1] / "templates"
CARDS_SHOWN = 10  # at the top for each candidate; the others are folded
CAVEATS = (
    "Intervals are over items, for one training seed: they do not cover the spread over seeds.",
    "Each interval covers its true value with a probability of 95 %: of many rows, some will miss theirs.",
)


def page(contents: Contents) -> str:
    """The page as HTML. Everything from results is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    first = contents.run[0][0]
    html = environment.get_template("report.html").render(
        contents=contents,
        created=str(contents.described.get("created") or first.created)[:16].replace("T", " "),
        seconds=contents.described.get("seconds"),
        decisions=decisions(contents),
        cards_shown=CARDS_SHOWN,
        parts=parts(contents),
        note=NOTE,
        cell=cell_of,
        doubt=lambda row: contents.doubtful.get(metric_key(row), ""),
        unusable=lambda system, row: metric_key(row) in contents.unusable.get(system, {}),
        colours=style_of(contents).colours,
        figures=figures(contents),
        signed=signed,
        flips=flips(contents),
        results=[result for result, _ in contents.run],
        counts={result.system: count_asked(items) for result, items in contents.run},
        first=first,
        options=first.options,
        failures=provenance.failures(contents),
        contamination=provenance.contamination(contents),
        judges=provenance.judges(contents),
        sources=provenance.sources(contents),
        url=provenance.without_password(first.url),
        command=provenance.command(first.options),
        caveats=caveats(contents),
    )
    return html.encode("utf-8", "replace").decode()  # half a surrogate pair is not text


def decisions(contents: Contents) -> list[tuple[str, Verdict | None, list[Card]]]:
    """(label, verdict, cards) of every candidate, the verdict None where the gate did not decide."""
    return [(contents.labels[name], contents.verdicts.get(name), cards(contents, name)) for name in contents.candidates]


def flips(contents: Contents) -> list[tuple[str, list[Change]]]:
    """(label, changes) of the candidates that changed anything, the last one first."""
    rows = [(contents.labels[name], changes(contents, name)) for name in reversed(contents.candidates)]
    return [(label, changed) for label, changed in rows if changed]


def caveats(contents: Contents) -> tuple[str, ...]:
    """Those of every run, and those of the miniature world where it was used."""
    return CAVEATS + (CAVEATS_OF_THE_WORLD if any(is_of_world(result) for result, _ in contents.run) else ())


def cell_of(estimate: Estimate | None, share: bool) -> tuple[str, str, str]:
    """Value, interval and missing measurements of a cell, as the table words them."""
    words = text(estimate, share)
    if words.startswith("missing"):
        return "missing", "", words.removeprefix("missing").strip()
    rest, mark, missing = words.partition(" !")
    value, _, interval = rest.partition(" ")
    return value, interval, f"!{missing}" if mark else ""


def metric_key(row: Row) -> str:
    """The declared metric behind a row: a row of win rates has its own name."""
    return ".".join(row.metric.split(".")[:3])
