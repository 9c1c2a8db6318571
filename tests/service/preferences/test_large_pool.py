"""What a labeler waits for does not grow with the pool: the database's own steps are counted, not time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from service.labelers import add_labeler
from service.preferences import pool, prompts, tasks
from service.store.database import Store
from service.store.models import Prompt, Task, TaskResponse, new_id, now
from training.artifacts.comparisons import Response

pytestmark = pytest.mark.unit
PROMPTS, SET_ASIDE, HAD = 5_000, 20, 10
POLICIES = ("sft-1", "sft-2")
RESPONSES = [Response("red", "sft-1"), Response("green", "sft-2")]


@pytest.fixture
def large(local_store: Store) -> tuple[Store, str]:
    """A pool, and a labeler who had some of it; some more the policies refused."""
    with local_store.session() as session:
        messages = [{"role": "user", "content": "?"}]
        rows = [{"id": f"p{number}", "messages": messages, "source": "imported"} for number in range(PROMPTS)]
        session.execute(insert(Prompt), rows)
        labeler = add_labeler(session, "Ada")[0].id
        for number in range(HAD):
            given = {"guideline": "1", "propensity": 1.0, "minutes": 9.0}
            tasks.open_task(session, labeler, "compare", f"p{number}", RESPONSES, **given)
        for number in range(SET_ASIDE):
            pool.set_aside(session, f"p{HAD + number}", dict.fromkeys(POLICIES, "too long"))
    return local_store, labeler


@pytest.fixture
def covered(large: tuple[Store, str]) -> tuple[Store, str]:
    """The same pool, with an answered task of somebody else on each prompt."""
    store, labeler = large
    with store.session() as session:
        bob = add_labeler(session, "Bob")[0].id
        given = {"kind": "compare", "labeler_id": bob, "state": "answered", "shown": [0, 1], "guideline": "1"}
        rows = [
            {**given, "id": new_id(), "prompt_id": f"p{number}", "token_hash": new_id(), "expires": now()}
            for number in range(PROMPTS)
        ]
        session.execute(insert(Task), rows)
        texts = [
            {"task_id": row["id"], "position": place, "text": response.text, "checkpoint": response.checkpoint}
            for row in rows
            for place, response in enumerate(RESPONSES)
        ]
        session.execute(insert(TaskResponse), texts)
    for block in range(0, PROMPTS, 1000):
        with store.session() as session:
            pool.count_tasks(session, [f"p{number}" for number in range(block, block + 1000)])
    return store, labeler


def steps(store: Store, work: Callable[[Session], object]) -> int:
    """Instructions of SQLite's machine, in tens."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with store.session() as session:
        connection = session.connection().connection.driver_connection
        assert connection is not None
        connection.set_progress_handler(count, 10)
        work(session)
        connection.set_progress_handler(None, 0)
    return counted


@pytest.mark.parametrize("state", ["large", "covered"])
def test_a_prompt_is_chosen_without_reading_the_pool(state: str, request: pytest.FixtureRequest) -> None:
    """Whether nobody was given a prompt of it yet, or every prompt was."""
    store, labeler = request.getfixturevalue(state)
    chosen = set()

    def choose(session: Session) -> None:
        prompt = pool.choose_prompt(session, labeler, tried=["p99"], checkpoints=POLICIES, reserved=["p98"])
        assert prompt is not None
        chosen.add(prompt.id)

    assert max(steps(store, choose) for _ in range(20)) < PROMPTS / 10
    assert len(chosen) > 10, "at random"
    assert chosen.isdisjoint({"p98", "p99", *(f"p{number}" for number in range(HAD + SET_ASIDE))})


def test_a_repeat_is_found_without_reading_all_tasks(
    covered: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, labeler = covered
    monkeypatch.setattr(tasks, "LOOKED_AT", 30)
    chosen = set()

    def choose(session: Session) -> None:
        task = tasks.choose_repeat(session, labeler, "compare", 2, POLICIES)
        assert task is not None
        chosen.add(task.prompt_id)

    assert max(steps(store, choose) for _ in range(20)) < PROMPTS / 10
    assert len(chosen) > 10, "at random"


def test_progress_is_counted_without_reading_the_pool(
    large: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for its size, which is counted now and then."""
    store, labeler = large
    monkeypatch.setattr(pool, "LARGE", PROMPTS)
    with store.session() as session:
        before = pool.progress(session, labeler, POLICIES)
        # Of what is retired, had or refused or not, nothing is left.
        for prompt_id in ("p0", f"p{HAD}", "p4000"):
            pool.retire(session, prompt_id, "old")
    counts: list[pool.Progress] = []
    assert steps(store, lambda session: counts.append(pool.progress(session, labeler, POLICIES))) < PROMPTS / 10
    left = PROMPTS - tasks.MAX_OPEN - SET_ASIDE
    assert before == pool.Progress(answered=0, left=left, set_aside=SET_ASIDE)
    pool._counts.clear()
    with store.session() as session:
        assert pool.progress(session, labeler, POLICIES) == pool.Progress(0, left - 2, SET_ASIDE - 1)


def test_an_import_is_not_slowed_by_more_indexes_than_are_needed(local_store: Store) -> None:
    """Each is written for every prompt, at a place of its own."""
    with local_store.session() as session:
        names = session.connection().exec_driver_sql("select name from pragma_index_list('prompts')").scalars().all()
    assert sorted(names) == ["ix_prompts_pool", "sqlite_autoindex_prompts_1"]
    assert prompts.import_rows(local_store, [{"id": "p", "prompt": "?"}]).imported == 1
