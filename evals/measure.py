"""The run itself: every suite on every model, then what stands in training data, then the files."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from evals import leaks, record
from evals.bench import Bench
from evals.client import Client
from evals.options import Config
from evals.record import Record
from evals.results import count_asked
from evals.sources import Sources
from evals.subjects import Subject, reward_of, subjects_of
from evals.suite import Suite
from training.artifacts import progress
from training.artifacts.files import write_atomically

SUBJECTS_AT_ONCE = 2  # an engine works on one core on CPU: two keep two cores busy


@dataclass(frozen=True)
class Setting:
    """What is shared by all models of a run."""

    config: Config
    out: Path
    sources: Sources
    suites: tuple[Suite, ...]


async def evaluate(setting: Setting, url: str, console: Console) -> None:
    """Measure every model and write its files; then what the report needs to know of the run.

    Raises:
        UserError: a model that is not served, or a server that does not answer at all.
    """
    config = setting.config
    begun = time.monotonic()
    store = config.home / "checkpoints"
    identity = {"through_filters": config.through_filters}
    with tempfile.TemporaryDirectory(prefix="alignloop-answers-") as of_this_run:
        async with Client(url, config.key, config.concurrency, identity=identity) as client:
            served = await client.models()
            subjects = subjects_of([*config.baseline, *config.checkpoint], store, served)
            reward = reward_of(config.reward, store, served) if config.reward else None
            everyone = [*subjects, *([reward] if reward else [])]
            client.answers = _answers_folder(setting, everyone) if config.cache else Path(of_this_run)
            for stale in ("run.json", "gate.json"):  # of an earlier run in the same folder
                (setting.out / stale).unlink(missing_ok=True)
            scored = reward and setting.sources.comparisons and any(suite.name == "reward" for suite in setting.suites)
            everything = [*subjects, *([reward] if reward and scored else [])]
            records = await _measure_all(everything, client, reward, setting, console)
    leaked = await asyncio.to_thread(leaks.find, records, store) if config.contamination else {}
    for measured in records:
        record.write(measured, setting.out, url, setting.sources, leaked.get(measured.subject.name))
    described = {
        "systems": [subject.name for subject in everything],
        "baselines": [s.name for s in subjects[: len(config.baseline)]],
        "candidates": [s.name for s in subjects[len(config.baseline) :]],
        "seconds": round(time.monotonic() - begun, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config) | {"key": None},
    }
    write_atomically(setting.out / "run.json", json.dumps(described, indent=1, default=str) + "\n")


async def _measure_all(
    subjects: Sequence[Subject], client: Client, reward: Subject | None, setting: Setting, console: Console
) -> list[Record]:
    """Measure several models at once, the ways of asking one of them after each other: they share answers."""
    at_once = asyncio.Semaphore(SUBJECTS_AT_ONCE)
    queues: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        queues[subject.checkpoint].append(subject)
    with progress.bar("models measured", len(subjects)) as bar:

        async def queue(waiting: Sequence[Subject]) -> list[Record]:
            async with at_once:
                records = []
                for subject in waiting:
                    bench = Bench(client, subject, setting.sources, setting.config, reward)
                    records.append(await _measure(bench, setting.suites, console))
                    bar.advance()
                return records

        tasks = [asyncio.create_task(queue(waiting)) for waiting in queues.values()]
        try:
            records = {r.subject.name: r for some in await asyncio.gather(*tasks) for r in some}
        finally:
            for task in tasks:
                task.cancel()
    return [records[subject.name] for subject in subjects]


async def _measure(bench: Bench, suites: Sequence[Suite], console: Console) -> Record:
    """All suites of one model; of a reward model, its accuracy."""
    begun = time.monotonic()
    checkpoint = bench.subject.checkpoint
    sent, cached = bench.client.sent[checkpoint], bench.client.cached(checkpoint)
    measured = {}
    for suite in suites:
        if bench.subject.ask != "score" or suite.name == "reward":
            measured[suite.name] = await suite.measure(bench)
    seconds = time.monotonic() - begun
    requests = {
        "sent": bench.client.sent[checkpoint] - sent,
        "from_cache": bench.client.cached(checkpoint) - cached,
    }
    count = count_asked(item for m in measured.values() for item in m.items)
    console.print(
        f"measured {bench.subject.label} ({checkpoint}, {bench.subject.ask}): {count:,} items in {seconds:.0f} s, "
        f"{requests['from_cache']:,} answers known already",
        highlight=False,
        markup=False,
    )
    return Record(bench.subject, bench.options, bench.sampling, bench.reward, measured, seconds, requests)


def _answers_folder(setting: Setting, subjects: Sequence[Subject]) -> Path:
    """Where answers are kept: with the home for checkpoints, which never change; for other names, with this run."""
    if all(subject.manifest is not None for subject in subjects):
        return setting.config.home / "cache" / "evals"
    return setting.out / "answers"
