"""Evaluate models over HTTP: results as JSON, a record of every item, a verdict, one page with tables and figures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape

from evals import decide, imports, preview, report, results
from evals.catalog import SUITES
from evals.console import wide_console
from evals.measurable import check_policy
from evals.measure import Setting, evaluate
from evals.options import Config
from evals.policy import Policy, read_policy
from evals.results import Item
from evals.serving import server_of
from evals.sources import Sources, sources_of
from evals.suite import Suite
from evals.suites import tax
from evals.transport import GIVEN_UP
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import check_writable

# What a name of --data needs before any suite reads it.
NEEDS = {
    "truthfulqa": "the suite truthfulqa",
    "toxicity": "the suite toxicity and a --scorer",
    "prompts": "the suite reward and a --reward",
}
INCOMPLETE = 3  # exit status where nothing was decided, or too little was measured


def main(config: Config) -> int:
    """Evaluate, write, decide, print. Returns the exit status: 0, 1 for FAIL, 3 for INCONCLUSIVE or incomplete."""
    console = wide_console()
    if config.list:
        preview.print_list(SUITES, sources_of(config), console)
        return 0
    if config.imports:
        return _imported(config, console)
    setting = prepare(config)
    if config.dry_run:
        asyncio.run(preview.print_first_requests(setting.suites, setting.sources, config, console))
        return 0
    with server_of(config) as url:
        asyncio.run(evaluate(setting, url, console))
    return _conclude(setting.out, config, bool(config.baseline), console)


def _imported(config: Config, console: Console) -> int:
    """Table, verdict and report of what lm-eval measured elsewhere."""
    if config.checkpoint or config.baseline:
        raise UserError("--import takes the place of --checkpoint and --baseline: give one or the other")
    out = _out(config)
    check_writable(out)
    imports.import_folders(config, out)
    return _conclude(out, config, len(config.imports) > 1, console)


def _conclude(out: Path, config: Config, compared: bool, console: Console) -> int:
    """Decide, write the report, and say what was not measured; the exit status."""
    try:
        outcome = decide.decide_run(out, config.policy, console) if config.gate and compared else None
    except UserError:  # such as a policy that does not fit: what was measured is not lost
        report.build(out, console)
        raise
    report.build(out, console)
    unmeasured = _unmeasured(out)
    for line in unmeasured:
        console.print(f"[red]not measured:[/] {escape(line)}", highlight=False)
    if outcome is not None and outcome != "PASS":
        return 1 if outcome == "FAIL" else INCOMPLETE
    return INCOMPLETE if unmeasured else 0


def prepare(config: Config) -> Setting:
    """Check everything that can be checked before the first request.

    Raises:
        UserError: a suite without its data, an unknown one, a missing file, no usable row, a folder for results that
            cannot be written, or a policy that names what this run does not measure.
    """
    if not config.checkpoint:
        raise UserError("nothing to evaluate: name at least one --checkpoint")
    _check(config)
    out = _out(config)
    if not config.dry_run:
        check_writable(out)  # now: what engines measured would be lost
    sources = sources_of(config)
    suites = suites_of(config.suite, sources)
    _check_used(sources, suites)
    policy = read_policy(config.policy) if config.policy else Policy()
    read = {suite.name: suite.check(sources, config) for suite in suites}
    check_policy(policy, suites, sources, read)
    return Setting(config, out, sources, suites)


def _out(config: Config) -> Path:
    return config.out or config.home / "reports" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _check(config: Config) -> None:
    """Raise `UserError` for options that make no sense, all of them in one line."""
    faults = [
        f"--{name.replace('_', '-')} must be at least {least}"
        for name, least in (
            ("limit", 1),
            ("max_tokens", 1),
            ("draws", 1),
            ("samples", 1),
            ("concurrency", 1),
            ("seed", 0),
        )
        if (value := getattr(config, name)) is not None and value < least
    ]
    if not 0 <= config.temperature <= 2:
        faults.append("--temperature must be from 0 to 2")
    if config.draws > 1 and config.temperature == 0:
        faults.append("--draws above 1 needs a --temperature above 0: greedy answers are all alike")
    if any(shots < 0 for shots in config.shots):
        faults.append("--shots must not be negative")
    if faults:
        raise UserError("; ".join(faults))


def suites_of(names: Sequence[str], sources: Sources) -> tuple[Suite, ...]:
    """The suites of these names, or all that the sources allow. Raises `UserError` for one that cannot run."""
    known = {suite.name: suite for suite in SUITES}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"no suite {name!r}: {hint}")
        lacking = known[name].needs(sources)
        if lacking:
            raise UserError(f"suite {name} lacks its data: {lacking}")
    suites = tuple(s for s in SUITES if (s.name in names if names else s.needs(sources) is None))
    if not suites and not sources.files:
        raise UserError("there is nothing to measure: give --data NAME=FILE or --task NAME, or make a world")
    return suites


def _check_used(sources: Sources, suites: Sequence[Suite]) -> None:
    """Raise `UserError` for a file that is named and that nothing would be asked of."""
    ready = [part for suite in suites for part in suite.parts or (suite,) if part.needs(sources) is None]
    used = {name for part in ready for name in part.reads}
    if any(suite.name == tax.SUITE.name for suite in suites):
        used |= set(sources.tax_files)
    for name in sources.files:
        if name not in used:
            raise UserError(
                f"--data {name}=... is not used: it needs {NEEDS.get(name, 'the suite tax')}, or leave it out"
            )


def _unmeasured(out: Path) -> list[str]:
    """Tasks of a model of which less than half was measured, or during which it was given up, with the commonest
    reason; a suite without anything measured in one line."""
    lines = []
    for result, items in results.read_folder(out):
        for suite in result.suites:
            of_suite = [item for item in items if item.suite == suite]
            tasks = {task: [i for i in of_suite if i.task == task] for task in sorted({i.task for i in of_suite})}
            empty = {f"{suite}.{task}": rows for task, rows in tasks.items() if all(item.missing for item in rows)}
            for name, rows in ({suite: of_suite} if empty and len(empty) == len(tasks) else empty).items():
                lines.append(f"{result.label}, {name}: none of {len(rows)} items ({_commonest(rows)})")
            for task, rows in tasks.items():
                missing = [item for item in rows if item.missing]
                given_up = any((item.missing or "").startswith(GIVEN_UP) for item in missing)
                if f"{suite}.{task}" not in empty and (given_up or 2 * len(missing) > len(rows)):
                    share = f"{len(rows) - len(missing)} of {len(rows)} items"
                    lines.append(f"{result.label}, {suite}.{task}: only {share} ({_commonest(missing)})")
    return lines


def _commonest(items: Sequence[Item]) -> str:
    reasons = [item.missing or "" for item in items]
    return max(set(reasons), key=reasons.count)


def command(arguments: Sequence[str] | None = None) -> int:
    """`python -m evals.run`."""
    return main(tyro.cli(Config, args=arguments, prog="python -m evals.run", description=__doc__))


if __name__ == "__main__":
    sys.exit(run_command(command))
