"""table.md: the verdict and the table for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evals.report.contents import Contents
from evals.report.layout import NOTE, parts
from evals.report.verdicts import Verdict
from evals.table import Table, text

SPECIAL = re.compile(r"([\\`*_|~\[\]])")


def as_markdown(contents: Contents) -> str:
    """Verdicts with the metrics that were tested, then every figure."""
    lines: list[str] = []
    for verdict in contents.verdicts.values():
        lines += _verdict(contents, verdict)
    for title, table in parts(contents):
        lines += [f"### {title}", "", *_table(contents, table), ""]
    return "\n".join([*lines, " ".join(filter(None, (NOTE, contents.table.sampling))), ""])


def escaped(words: str) -> str:
    """Words that Markdown shows as they are: no markup, no tags, no mentions, one line."""
    plain = SPECIAL.sub(r"\\\1", " ".join(words.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def _verdict(contents: Contents, verdict: Verdict) -> list[str]:
    candidate, baseline = (contents.labels.get(name, name) for name in (verdict.candidate, verdict.baseline))
    against = f" against {escaped(baseline)}" if baseline else ""
    lines = [f"**{escaped(verdict.outcome)}**: {escaped(candidate)}{against}: {escaped(verdict.sentence)}", ""]
    if verdict.rows:
        lines += [
            "| metric of the gate | outcome | candidate − baseline, + is better | margin | n |",
            "|---|---|---:|---:|---:|",
        ]
        lines += [
            f"| {escaped(row.words)} | {escaped(row.outcome)} | {escaped(row.change)} | {row.allowed} | "
            f"{'' if row.n is None else row.n} |"
            for row in verdict.rows
        ]
        lines.append("")
    return lines


def _table(contents: Contents, table: Table) -> list[str]:
    labels: Sequence[str] = [escaped(label) for label in table.labels]
    lines = ["| | n | " + " | ".join(labels) + " |", "|---|---:|" + "---:|" * len(labels)]
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            lines.append(f"| **{escaped(section)}** | |" + " |" * len(labels))
        doubt = " (not usable)" if ".".join(row.metric.split(".")[:3]) in contents.doubtful else ""
        cells = " | ".join(text(cell, row.share) for cell in row.cells)
        lines.append(f"| {escaped(row.words)}{doubt} | {row.items or ''} | {cells} |")
    return lines
