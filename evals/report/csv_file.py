"""results.csv: one line per model and metric, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io

from evals.report.contents import Contents

COLUMNS = (
    "system", "label", "checkpoint", "ask", "suite", "task", "score", "against", "words", "better", "share", "value",
    "low", "high", "n", "missing", "required", "margin", "unusable_judge",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that starts with one of them


def as_csv(contents: Contents) -> str:
    """The table with a header, numbers unrounded; empty cells are unmeasured. Win rates name whom they are against."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in contents.table.rows:
        suite, task, score = row.metric.split(".")[:3]
        metric = contents.metrics[f"{suite}.{task}.{score}"]
        for system, cell in zip(contents.table.systems, row.cells, strict=True):
            if cell is None:
                continue
            model = contents.results[system]
            names = (system, model.label, model.checkpoint, model.ask, suite, task, score, row.against or "")
            better = "higher" if row.against else metric.better or ""
            judge = contents.unusable[system].get(f"{suite}.{task}.{score}", "")
            writer.writerow(
                [*map(cell_text, (*names, row.words)), better, row.share, cell.value, cell.low, cell.high, cell.n,
                 cell.missing, metric.required, metric.margin, cell_text(judge)]
            )  # fmt: skip
    return stream.getvalue()


def cell_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
