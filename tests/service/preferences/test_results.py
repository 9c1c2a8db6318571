"""The figures of the results page are computed once for all who look at them."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.preferences import answers, results, tasks
from service.preferences.answers import Judgement
from service.preferences.results import Results
from service.store.database import Store
from service.store.models import Labeler
from training.artifacts.comparisons import Response


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of votes of each computation, which takes a moment."""
    votes: list[int] = []
    real = results.summarize

    def slow(comparisons: object, changes: object) -> object:
        time.sleep(0.1)
        summary = real(comparisons, changes)
        votes.append(summary.votes)
        return summary

    monkeypatch.setattr(results, "summarize", slow)
    return votes


def vote(store: Store, labeler: Labeler, prompt_id: str, responses: list[Response]) -> None:
    with store.session() as session:
        task, token = tasks.open_task(
            session, labeler.id, "rank", prompt_id, responses, guideline="1", propensity=1.0, minutes=5
        )
        answers.answer(session, task.id, labeler.id, token, Judgement(ranks=[1, 2, 3]))


async def look(figures: Results, times: int) -> set[int]:
    """Votes that as many viewers see at once."""
    return {summary.votes for summary in await asyncio.gather(*(figures.summary() for _ in range(times)))}


def test_many_viewers_cost_one_computation_per_change(
    stocked: Store, people: list[Labeler], responses: list[Response], computed: list[int]
) -> None:
    async def play() -> None:
        figures = Results(stocked)
        vote(stocked, people[0], "p0", responses)
        assert await look(figures, 10) == {1}
        assert await look(figures, 10) == {1}
        assert computed == [1]
        vote(stocked, people[1], "p0", responses)
        assert await look(figures, 10) == {2}
        assert computed == [1, 2]
        figures.close()

    asyncio.run(play())


def test_figures_that_take_long_are_kept_for_a_while(
    stocked: Store,
    people: list[Labeler],
    responses: list[Response],
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "QUICK_SECONDS", -1.0)
    monkeypatch.setattr(results, "PATIENCE", 10**6)

    async def play() -> None:
        figures = Results(stocked)
        vote(stocked, people[0], "p0", responses)
        assert await look(figures, 2) == {1}
        vote(stocked, people[1], "p0", responses)
        assert await look(figures, 2) == {1}
        assert computed == [1]
        figures.close()

    asyncio.run(play())
