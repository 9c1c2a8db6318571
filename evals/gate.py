"""Is a candidate good enough to take a baseline's place? Exit status 0 for PASS, 1 for FAIL, 3 for INCONCLUSIVE.

A metric passes when the data exclude a drop of its margin, one-sided at alpha; the gate passes when every required
metric does, without a correction, since all must (intersection-union). It fails when any metric has clearly dropped, by
more than its margin; otherwise there are too few items to decide.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evals.console import wide_console
from evals.decision import Row
from evals.lm_eval_folder import read_lm_eval
from evals.measured import Measured, measured_of
from evals.policy import Policy, read_policy
from evals.results import read_result
from evals.self_test import RELEASES, SelfTest, self_test
from evals.verdict import ALPHA, Verdict, compare_results
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import write_atomically

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


@dataclass(frozen=True)
class Config:
    """Compare a candidate's results with a baseline's."""

    candidate: Annotated[Path, tyro.conf.Positional]
    """Result JSON of `evals.run`, or an output folder of lm-eval with its samples."""
    baseline: Annotated[Path, tyro.conf.Positional]
    """The same of what serves now."""
    policy: Path | None = None
    """TOML file with margins for further metrics, and metrics to ignore; by default what the suites declare."""
    alpha: float = ALPHA
    """One-sided error of each test: the chance of PASS for a model that is worse by the margin."""
    out: Path | None = None
    """Also write the verdict to this JSON file."""
    self_test: bool = False
    """Instead of a verdict, test that the gate keeps alpha on these data, with outcomes swapped at random."""


def read_measured(path: Path) -> Measured:
    """One side: a result file, or a folder of lm-eval."""
    return read_lm_eval(path) if path.is_dir() else measured_of(*read_result(path))


def print_verdict(verdict: Verdict, console: Console) -> None:
    """The outcome, then a row per metric, and what was not decided on."""
    console.print(f"[{COLOURS[verdict.outcome]}]{verdict.outcome}[/]: {_summary(verdict)}", highlight=False)
    for note in verdict.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    table = Table(
        title_justify="left", title=f"gate: one-sided alpha {verdict.alpha:g}, policy {escape(verdict.policy)}"
    )
    for column in ("metric", "outcome", "candidate", "baseline", "difference [bounds]", "margin", "n", "missing"):
        table.add_column(escape(column), justify="left" if column in ("metric", "outcome") else "right")
    for row in verdict.rows:
        numbers = [("-" if v is None else f"{v:.3f}") for v in (row.candidate, row.baseline)]
        outcome = f"[{COLOURS[row.outcome]}]{row.outcome}[/]"
        count = str(row.n) if row.clusters == row.n else f"{row.n} in {row.clusters}"
        margin = f"{row.margin:g}" + (" of wins" if row.wins else "")
        table.add_row(escape(row.metric), outcome, *numbers, _difference(row), margin, count, _missing(row))
    console.print(table)
    for row in verdict.rows:
        if row.reason:
            needed = verdict.items_needed.get(row.metric)
            more = f"; about {needed:,} items would decide it for an equal model" if needed else ""
            console.print(f"{row.metric}: {row.reason}{more}", highlight=False, markup=False)
    for metric in verdict.ungated:
        kind = "not gated, stops PASS" if metric.blocks else "not gated"
        console.print(f"{metric.metric}: {kind}: {metric.reason}", highlight=False, markup=False)


def print_self_test(rows: Sequence[SelfTest], alpha: float, console: Console) -> None:
    """A row per metric, with the share that passed beside alpha."""
    off = [row for row in rows if row.state == "off"]
    console.print(
        f"self-test: {len(off)} of {len(rows)} metrics off alpha {alpha:g} in {RELEASES:,} releases", highlight=False
    )
    table = Table()
    for column in ("metric", "state", "passed [interval]", "changed"):
        table.add_column(escape(column), justify="left" if column in ("metric", "state") else "right")
    for row in rows:
        share = "-" if row.passed is None else f"{row.passed:.3f} [{row.low:.3f}, {row.high:.3f}]"
        table.add_row(escape(row.metric), row.state, share, str(row.changed))
    console.print(table)


def main(config: Config) -> int:
    """Print the verdict, or the self-test; returns the exit status."""
    console = wide_console()
    policy = read_policy(config.policy) if config.policy else Policy()
    candidate, baseline = read_measured(config.candidate), read_measured(config.baseline)
    if config.self_test:
        rows = self_test(candidate, baseline, policy, config.alpha)
        print_self_test(rows, config.alpha, console)
        _write(config.out, {"self_test": [asdict(row) for row in rows], "alpha": config.alpha})
        if all(row.state == "untested" for row in rows):
            raise UserError("the two differ on too few items for a self-test: give two different checkpoints")
        return int(any(row.state == "off" for row in rows))
    verdict = compare_results(candidate, baseline, policy, config.alpha)
    print_verdict(verdict, console)
    _write(config.out, verdict.as_json())
    return verdict.status


def _summary(verdict: Verdict) -> str:
    counts = {o: sum(row.outcome == o for row in verdict.rows) for o in COLOURS}
    parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    blocking = sum(metric.blocks for metric in verdict.ungated)
    parts += [f"{blocking} measured metrics without a rule"] if blocking else []
    return escape(f"{verdict.candidate} against {verdict.baseline}: {', '.join(parts)}")


def _difference(row: Row) -> str:
    if row.difference is None:
        return "-"
    bounds = "no bounds" if row.low is None or row.high is None else f"{row.low:+.3f}, {row.high:+.3f}"
    return escape(f"{row.difference:+.3f} [{bounds}]")


def _missing(row: Row) -> str:
    """Missing items of the candidate and of the baseline, and those on one side only."""
    sides = [sum((reasons or {}).values()) for reasons in (row.missing_candidate, row.missing_baseline)]
    unpaired = row.only_candidate + row.only_baseline
    text = f"{sides[0]} and {sides[1]}" if any(sides) else "0"
    return text + (f", {unpaired} unpaired" if unpaired else "")


def _write(path: Path | None, content: Mapping[str, object]) -> None:
    if path is not None:
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def command(arguments: Sequence[str] | None = None) -> int:
    """`python -m evals.gate`."""
    return main(tyro.cli(Config, args=arguments, prog="python -m evals.gate", description=__doc__))


if __name__ == "__main__":
    sys.exit(run_command(command))
