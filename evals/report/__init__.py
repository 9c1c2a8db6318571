"""`python -m evals.report DIR`: what people and programs read of a run, from its result files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from evals import table
from evals.console import print_table, print_verdicts, wide_console
from evals.report import csv_file, junit, markdown, summary
from evals.report.contents import Contents, read_contents
from evals.report.layout import parts
from evals.report.page import page
from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically

PAGE, MARKDOWN, JSON, SUMMARY, CSV, JUNIT = (
    "index.html", "table.md", "table.json", "summary.json", "results.csv", "junit.xml",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Rebuild the table and the page of a run."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder that `python -m evals.run` wrote."""


def build(folder: Path, console: Console) -> None:
    """Write the page, the tables and the summary into the folder, and print verdicts and table.

    junit.xml is written where the gate decided; the same results give the same bytes.

    Raises:
        UserError: the folder does not hold a run, or a file of it is damaged.
    """
    contents = read_contents(folder)
    writers: dict[str, Callable[[Contents], str]] = {
        SUMMARY: lambda run: summary.as_json(summary.summary_of(run)),
        JSON: lambda run: json.dumps(table.as_json(run.table), indent=1, allow_nan=False) + "\n",
        CSV: csv_file.as_csv,
        MARKDOWN: markdown.as_markdown,
        PAGE: page,
    }
    with progress.bar("report", len(writers)) as bar:
        for name, write in writers.items():
            write_atomically(folder / name, write(contents))
            bar.advance()
    if contents.verdicts:
        write_atomically(folder / JUNIT, junit.as_junit(contents))
    else:
        (folder / JUNIT).unlink(missing_ok=True)  # of an earlier decision
    for title, part in parts(contents):
        print_table(part, console, title)
    console.print(contents.table.sampling, highlight=False, markup=False)
    print_verdicts([(contents.labels.get(n, n), v.outcome, v.sentence) for n, v in contents.verdicts.items()], console)
    console.print(f"report: {folder / PAGE}", soft_wrap=True, highlight=False, markup=False)


def main(config: Config) -> None:
    if not config.folder.is_dir():
        raise UserError(f"{config.folder} is not a folder: give the folder that `python -m evals.run` wrote")
    build(config.folder, wide_console())


def command(arguments: Sequence[str] | None = None) -> None:
    """`python -m evals.report`."""
    main(tyro.cli(Config, args=arguments, prog="python -m evals.report", description=__doc__))
