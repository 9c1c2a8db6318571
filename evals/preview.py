"""What a run would do: suites with what each needs, and the first request of each task."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.bench import Bench
from evals.client import Client, Scored
from evals.generation import Messages
from evals.options import Config
from evals.sources import Sources
from evals.subjects import Subject, split_way
from evals.suite import Suite
from evals.transport import Refused

SHOWN = 1200  # characters of a request
DRY = "a dry run"


class Recorder(Client):
    """A client that notes every request and answers none. Token ids of a text are its bytes: it is shown again from
    them, and no tokenizer is needed."""

    def __init__(self, model: str) -> None:
        super().__init__("http://nowhere", concurrency=1)
        self.model = model
        self.requests: list[tuple[str, Any]] = []

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        prompt = (body or {}).get("prompt")
        if isinstance(prompt, list):
            body = {**(body or {}), "prompt": bytes(prompt).decode(errors="replace")}
        self._note(path, body)
        raise Refused(0, DRY)

    async def logprobs(self, model: str, prompts: Sequence[str] | Sequence[Sequence[int]]) -> list[Scored]:
        """Notes the texts."""
        self._note("log-probabilities of", list(prompts))
        raise Refused(0, DRY)

    async def continuations(
        self, model: str, prompts: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> list[Scored | Refused]:
        """Notes each text with its continuation; a text of two tokens only asks what the engine can do."""
        for ids, start in zip(prompts, starts, strict=True):
            if len(ids) > 2:
                text, rest = (bytes(part).decode(errors="replace") for part in (ids[:start], ids[start:]))
                self._note("log-probabilities of", {"context": text, "continuation": rest})
        raise Refused(0, DRY)

    async def contexts(self) -> dict[str, int]:
        return {self.model: sys.maxsize}

    async def tokenize(self, model: str, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        return [list(text.encode(errors="replace")) for text in texts]

    async def tokenizer_prefix(self, model: str) -> tuple[int | None, str]:
        return ord("\n"), ""

    async def render(self, model: str, messages: Messages, generation: bool) -> str:
        return "".join(f"[{message['role']}] {message['content']}\n" for message in messages)

    def _note(self, path: str, body: Any) -> None:
        """What is asked again after a failure counts once."""
        if (path, body) not in self.requests:
            self.requests.append((path, body))


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
        recorder = Recorder(name)
        await suite.measure(Bench(recorder, subject, sources, replace(config, limit=1), reward))
        console.rule(f"{suite.name}: {len(recorder.requests)} first requests", align="left")
        for path, body in recorder.requests:
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=1)
            console.print(f"{path}\n{text[:SHOWN]}", markup=False, highlight=False)
