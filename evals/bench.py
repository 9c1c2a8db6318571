"""What a suite measures with: a model, the way to it, the data and the options of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.client import Client
from evals.concurrently import each
from evals.generation import Answer, Messages, Sampling
from evals.options import Config
from evals.results import DRAW, prompt_hash
from evals.seeds import RULE, answer_seed
from evals.sources import Sources
from evals.subjects import Subject
from evals.transport import Refused
from training.artifacts.layouts import prompts

Row = Mapping[str, Any]  # of a suite's data; has `id` and `messages`


@dataclass(frozen=True)
class Bench:
    """Given to a suite's `measure`.

    Attributes:
        subject: the model under test.
        reward: the reward model of the run, None without one.
    """

    client: Client
    subject: Subject
    sources: Sources
    options: Config
    reward: Subject | None = None

    @property
    def sampling(self) -> Sampling:
        """How answers are generated where a protocol does not fix it."""
        return Sampling(self.options.temperature, self.options.max_tokens)

    def settings(self, sampling: Sampling | None = None) -> dict[str, Any]:
        """What must agree between two measurements of generated answers: for `Measurement.settings`."""
        used = sampling or self.sampling
        described = {
            "temperature": used.temperature,
            "max_tokens": used.max_tokens,
            "top_p": used.top_p,
            "stop": list(used.stop),
            "prompting": self.subject.ask,
        }
        return described | ({"seeds": RULE, "seed": self.options.seed} if used.temperature > 0 else {})

    def prompts(self) -> tuple[Sequence[Row], Mapping[str, object]]:
        """Rows of `--data prompts=FILE`, and what was read. Raises `UserError` where no row is usable."""
        loaded = prompts.load(self.sources.files["prompts"])
        rows: list[Row] = [
            {"id": f"{number}:{p.id}", "messages": list(p.messages), "use_case": p.use_case, "mode": p.mode}
            for number, p in enumerate(loaded.records)
        ]
        return self.limited(rows), loaded.summary() | {"rows": len(rows)}

    def limited(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The first rows, as `--limit` says."""
        return rows[: self.options.limit]

    async def answers(
        self,
        suite: str,
        rows: Sequence[Row],
        label: str,
        sampling: Sampling | None = None,
        as_text: Callable[[Row], str] | None = None,
        samples: int = 1,
    ) -> list[list[Answer | Refused]]:
        """The model's answers to the `messages` of every row, shape (rows, samples).

        Each has a seed of its own (`seeds.py`), the same for every model.

        Args:
            suite: that the rows belong to; with the run's seed, a row's `id` and its messages it gives the seeds.
            as_text: how a model is prompted that is not asked through its chat template; by default with the text of
                the last message.
            samples: per row, all of them from one request.
        """
        used = sampling or self.sampling
        text_of = as_text or _last_text

        async def one(row: Row) -> list[Answer | Refused]:
            seed = answer_seed(self.options.seed, suite, str(row["id"]), prompt_hash(row["messages"]))
            prompt: Messages | str = row["messages"] if self.subject.ask == "chat" else text_of(row)
            return await self.client.generate(self.subject.checkpoint, prompt, used, seed, samples)

        title = f"{self.subject.label}: {label}"
        answers = await each(rows, one, title, self.client.concurrency)
        return [[answer] * samples if isinstance(answer, Refused) else answer for answer in answers]

    async def answered(
        self,
        suite: str,
        rows: Sequence[Row],
        label: str,
        sampling: Sampling | None = None,
        as_text: Callable[[Row], str] | None = None,
    ) -> tuple[Sequence[Row], Sequence[Answer | Refused]]:
        """Rows with an answer each, every row `--draws` times, shape (rows x draws,).

        Draws of one row have ids ROW#1, ROW#2 and so on, and are one cluster.
        """
        draws = self.options.draws
        answers = await self.answers(suite, rows, label, sampling, as_text, draws)
        if draws == 1:
            return rows, [answer for (answer,) in answers]
        repeated_rows = [
            {**row, "id": f"{row['id']}{DRAW}{draw + 1}", "cluster": row.get("cluster") or str(row["id"])}
            for row in rows
            for draw in range(draws)
        ]
        return repeated_rows, [answer for of_row in answers for answer in of_row]


def _last_text(row: Row) -> str:
    return str(row["messages"][-1]["content"])
