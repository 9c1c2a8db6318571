"""What a run would do: suites with what each needs, and the first request of each task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.bench import Bench
from evals.client import Client, Scored
from evals.options import Config
from evals.sources import Sources
from evals.subjects import Subject, split_way
from evals.suite import Suite
from evals.transport import Refused

SHOWN = 1200  # characters of a request


class Recorder(Client):
    """A client that notes every request and answers none."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", concurrency=1)
        self.requests: list[tuple[str, Any]] = []

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        self.requests.append((path, body))
        raise Refused(0, "a dry run")

    async def logprobs(self, model: str, prompts: Sequence[str] | Sequence[Sequence[int]]) -> list[Scored]:
        """Notes the texts."""
        self.requests.append(("log-probabilities of", list(prompts)))
        raise Refused(0, "a dry run")


def print_list(suites: Sequence[Suite], sources: Sources, console: Console) -> None:
    """Suites, what each lacks, and its metrics with their margins."""
    table = Table("suite", "ready", "metric (task.score)", "better", "margin", "meaning")
    for suite in suites:
        lacking = suite.needs(sources)
        for number, metric in enumerate(suite.metrics):
            first = number == 0
            table.add_row(
                suite.name if first else "",
                (lacking or "yes") if first else "",
                metric.name,
                metric.better or "",
                "" if metric.margin is None else f"{metric.margin:g}{' (required)' if metric.required else ''}",
                metric.words,
            )
        table.add_section()
    console.print(table)


async def print_first_requests(suites: Sequence[Suite], sources: Sources, config: Config, console: Console) -> None:
    """The first request of every task of every suite, for the first checkpoint."""
    name, way = split_way(config.checkpoint[0])
    subject = Subject(name, way or "chat", name)  # type: ignore[arg-type]  # `split_way` checks it
    reward = Subject(config.reward, "score", "reward model") if config.reward else None
    for suite in suites:
        recorder = Recorder()
        await suite.measure(Bench(recorder, subject, sources, replace(config, limit=1), reward))
        console.rule(f"{suite.name}: {len(recorder.requests)} first requests", align="left")
        for path, body in recorder.requests:
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=1)
            console.print(f"{path}\n{text[:SHOWN]}", markup=False, highlight=False)
