"""Evaluate models over HTTP: results as JSON, a record of every item, a verdict, one page with tables and figures."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from evals import decide, preview, report, results
from evals.bench import Bench
from evals.catalog import SUITES
from evals.client import Client
from evals.console import wide_console
from evals.options import Config
from evals.policy import read_policy
from evals.results import Item, Result, declare, prompt_hash, summarise
from evals.seeds import RULE
from evals.serving import server_of
from evals.sources import Sources, sources_of
from evals.subjects import Subject, reward_of, subjects_of
from evals.suite import Measurement, Suite
from training.artifacts import progress
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import write_atomically
from training.artifacts.provenance import git_state, package_versions

SUBJECTS_AT_ONCE = 2  # an engine works on one core on CPU: two keep two cores busy
INCOMPLETE = 3  # exit status where nothing was decided, or a suite measured nothing


@dataclass(frozen=True)
class Setting:
    """What is shared by all models of a run."""

    config: Config
    out: Path
    sources: Sources
    suites: tuple[Suite, ...]


def main(config: Config) -> int:
    """Evaluate, write, decide, print. Returns the exit status: 0, 1 for FAIL, 3 for INCONCLUSIVE or incomplete."""
    console = wide_console()
    if config.list:
        preview.print_list(SUITES, sources_of(config), console)
        return 0
    setting = prepare(config)
    if config.dry_run:
        asyncio.run(preview.print_first_requests(setting.suites, setting.sources, config, console))
        return 0
    with server_of(config) as url:
        asyncio.run(evaluate(setting, url, console))
    outcome = decide.decide_run(setting.out, config.policy, console) if config.gate and config.baseline else None
    report.build(setting.out, console)
    unmeasured = _unmeasured(setting.out)
    for line in unmeasured:
        console.print(f"[red]not measured:[/] {line}", highlight=False)
    if outcome is not None and outcome != "PASS":
        return 1 if outcome == "FAIL" else INCOMPLETE
    return INCOMPLETE if unmeasured else 0


def prepare(config: Config) -> Setting:
    """Check everything that can be checked before the first request.

    Raises:
        UserError: a suite without its data, an unknown one, a missing file, or no usable row.
    """
    if not config.checkpoint:
        raise UserError("nothing to evaluate: name at least one --checkpoint")
    _check(config)
    sources = sources_of(config)
    suites = chosen(config.suite, sources)
    if config.policy is not None:
        read_policy(config.policy)
    out = config.out or config.home / "reports" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return Setting(config, out, sources, suites)


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


def chosen(names: Sequence[str], sources: Sources) -> tuple[Suite, ...]:
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
    if not suites:
        raise UserError("there is nothing to measure: give --data NAME=FILE or --task NAME, or make a world")
    return suites


async def evaluate(setting: Setting, url: str, console: Console) -> None:
    """Measure every model and write its files; then what the report needs to know of the run."""
    config = setting.config
    begun = time.monotonic()
    store = config.home / "checkpoints"
    identity = {"through_filters": config.through_filters}
    async with Client(url, config.key, config.concurrency, identity=identity) as client:
        served = await client.models()
        subjects = subjects_of([*config.baseline, *config.checkpoint], store, served)
        reward = reward_of(config.reward, store, served) if config.reward else None
        client.answers = _answers_folder(setting, [*subjects, *([reward] if reward else [])])
        for stale in ("run.json", "gate.json"):  # of an earlier run in the same folder
            (setting.out / stale).unlink(missing_ok=True)
        queues: dict[str, list[Subject]] = defaultdict(list)
        for subject in subjects:
            queues[subject.checkpoint].append(subject)
        if reward and any(suite.name == "reward" for suite in setting.suites) and setting.sources.comparisons:
            queues[reward.checkpoint].append(reward)
        measured = await _measure_all(list(queues.values()), client, reward, setting, url, console)
    baselines = [s.name for s in subjects[: len(config.baseline)]]
    order = [s.name for s in subjects] + [name for name in measured if name not in {s.name for s in subjects}]
    described = {
        "systems": order,
        "baselines": baselines,
        "candidates": [s.name for s in subjects[len(config.baseline) :]],
        "seconds": round(time.monotonic() - begun, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config) | {"key": None},
    }
    write_atomically(setting.out / "run.json", json.dumps(described, indent=1, default=str) + "\n")


async def _measure_all(
    queues: Sequence[Sequence[Subject]],
    client: Client,
    reward: Subject | None,
    setting: Setting,
    url: str,
    console: Console,
) -> list[str]:
    """Measure several models at once, the ways of asking one of them after each other: they share answers."""
    at_once = asyncio.Semaphore(SUBJECTS_AT_ONCE)
    with progress.bar("models measured", sum(map(len, queues))) as bar:

        async def queue(subjects: Sequence[Subject]) -> list[str]:
            async with at_once:
                names = []
                for subject in subjects:
                    bench = Bench(client, subject, setting.sources, setting.config, reward)
                    names.append(await _measure(bench, setting, url, console))
                    bar.advance()
                return names

        tasks = [asyncio.create_task(queue(subjects)) for subjects in queues]
        try:
            return [name for names in await asyncio.gather(*tasks) for name in names]
        finally:
            for task in tasks:
                task.cancel()


async def _measure(bench: Bench, setting: Setting, url: str, console: Console) -> str:
    """All suites of one model. Returns the name of its files."""
    begun = time.monotonic()
    checkpoint = bench.subject.checkpoint
    sent, cached = bench.client.sent[checkpoint], bench.client.cached(checkpoint)
    measured = {}
    for suite in setting.suites:
        if bench.subject.ask != "score" or suite.name == "reward":
            measured[suite.name] = await suite.measure(bench)
    seconds = time.monotonic() - begun
    requests = {
        "sent": bench.client.sent[checkpoint] - sent,
        "from_cache": bench.client.cached(checkpoint) - cached,
    }
    _write(bench, measured, setting, url, seconds, requests)
    count = sum(len(m.items) for m in measured.values())
    console.print(
        f"measured {bench.subject.label} ({bench.subject.checkpoint}, {bench.subject.ask}): {count:,} items in "
        f"{seconds:.0f} s, {requests['from_cache']:,} answers known already",
        highlight=False,
    )
    return bench.subject.name


def _write(
    bench: Bench,
    measured: dict[str, Measurement],
    setting: Setting,
    url: str,
    seconds: float,
    requests: dict[str, int],
) -> None:
    """The result file and the items of one model."""
    config, subject = setting.config, bench.subject
    items = [item for measurement in measured.values() for item in measurement.items]
    metrics = {
        suite.name: (*measured[suite.name].metrics, *suite.metrics) for suite in SUITES if suite.name in measured
    }
    declared = declare(items, metrics)
    figures = {f"{name}.{key}": value for name, m in measured.items() for key, value in m.figures.items()}
    file = f"{subject.name}.items.jsonl"
    digest = results.write_items(items, setting.out / file)
    commit, dirty = git_state()
    defaults = {f.name: f.default for f in fields(Config)}
    result = Result(
        system=subject.name,
        label=subject.label,
        checkpoint=subject.checkpoint,
        ask=subject.ask,
        url=url,
        through_filters=config.through_filters,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        sampling=asdict(bench.sampling) | ({"seed": RULE} if config.temperature > 0 else {}),
        suites=list(measured),
        data=dict(setting.sources.data) | {key: value for m in measured.values() for key, value in m.data.items()},
        judges={key: value for m in measured.values() for key, value in m.judges.items()},
        prompts_sha256=prompt_hash("".join(item.prompt_hash for item in items)),
        items_file=file,
        items_sha256=digest,
        metrics=summarise(items, declared) | figures,
        declared={key: asdict(metric) for key, metric in declared.items()},
        comparable={name: _comparable(m, config) for name, m in measured.items()},
        options={name: value for name, value in asdict(config).items() if name not in ("key", "list", "dry_run")}
        | {"passed": [name for name, default in defaults.items() if getattr(config, name) != default]},
        manifest=_manifest(subject),
        reward=bench.reward.checkpoint if bench.reward else None,
        packages=package_versions(),
        git_commit=commit,
        git_dirty=dirty,
        seconds=round(seconds, 1),
        requests=requests,
    )
    results.write_result(result, setting.out)


def _comparable(measurement: Measurement, config: Config) -> dict[str, Any]:
    """What must agree before another model's measurement of this suite is compared with this one."""
    return {
        "data": {name: row.get("sha256") for name, row in measurement.data.items()},
        "judges": {name: _version(judge) for name, judge in measurement.judges.items()},
        "settings": dict(measurement.settings),
        "through_filters": config.through_filters,
        "limit": config.limit,
    }


def _version(judge: Any) -> Any:
    return judge.get("version") if isinstance(judge, dict) else judge


def _manifest(subject: Subject) -> dict[str, Any]:
    manifest = subject.manifest
    if manifest is None:
        return {}
    return {
        "stage": manifest.stage,
        "parents": list(manifest.parents),
        "seed": manifest.seed,
        "tokenizer_hash": manifest.tokenizer_hash,
        "weights": dict(manifest.weights),
        "created": manifest.created,
    }


def _answers_folder(setting: Setting, subjects: Sequence[Subject]) -> Path | None:
    """Where answers are kept: with the home for checkpoints, which never change; for other names, with this run."""
    if not setting.config.cache:
        return None
    if all(subject.manifest is not None for subject in subjects):
        return setting.config.home / "cache" / "evals"
    return setting.out / "answers"


def _unmeasured(out: Path) -> list[str]:
    """Suites of a model in which nothing at all was measured, with the commonest reason."""
    lines = []
    for result, items in results.read_folder(out):
        for suite in result.suites:
            of_suite = [item for item in items if item.suite == suite]
            if of_suite and all(item.missing for item in of_suite):
                lines.append(f"{result.label}, {suite}: none of {len(of_suite)} items ({_commonest(of_suite)})")
    return lines


def _commonest(items: Sequence[Item]) -> str:
    reasons = [item.missing or "" for item in items]
    return max(set(reasons), key=reasons.count)


def command(arguments: Sequence[str] | None = None) -> int:
    """`python -m evals.run`."""
    return main(tyro.cli(Config, args=arguments, prog="python -m evals.run", description=__doc__))


if __name__ == "__main__":
    sys.exit(run_command(command))
