from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import ApiError
from service.labelers import add_labeler
from service.preferences import answers, pool, prompts, tasks
from service.preferences.answers import Judgement
from service.preferences.prompts import typed_prompt
from service.store.database import Store
from service.store.models import Answer, Labeler, Prompt, Task, now
from training.artifacts.comparisons import Response


def give(store: Store, labeler: Labeler, responses: list[Response], prompt_id: str) -> tuple[Task, str]:
    with store.session() as session:
        return tasks.open_task(
            session, labeler.id, "rank", prompt_id, responses, guideline="1", propensity=1.0, minutes=5
        )


def status_of(error: pytest.ExceptionInfo[ApiError]) -> int:
    return error.value.status


def test_a_labeler_gets_every_stored_prompt_once_and_no_typed_one(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    with stocked.session() as session:
        typed_prompt(session, [{"role": "user", "content": "private"}], people[1].pseudonym)
    seen = []
    for left in (4, 3, 2, 1, 0):
        with stocked.session() as session:
            prompt = pool.choose_prompt(session, people[0].id)
            assert prompt is not None
        seen.append(prompt.id)
        task, token = give(stocked, people[0], responses, prompt.id)
        with stocked.session() as session:
            answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))
            assert pool.progress(session, people[0].id) == pool.Progress(5 - left, left)
    assert sorted(seen) == ["p0", "p1", "p2", "p3", "p4"]
    with stocked.session() as session:
        assert pool.choose_prompt(session, people[0].id) is None


def test_prompts_with_the_fewest_tasks_come_first(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    for prompt_id in ("p0", "p1", "p2", "p4"):
        give(stocked, people[0], responses, prompt_id)
    with stocked.session() as session:
        for _ in range(5):
            prompt = pool.choose_prompt(session, people[1].id)
            assert prompt is not None
            assert prompt.id == "p3"


def tiers(store: Store) -> list[int]:
    """Of p0 to p4."""
    with store.session() as session:
        return list(session.scalars(select(Prompt.tier).where(Prompt.source == "imported").order_by(Prompt.id)))


def make_late(store: Store, task: Task) -> None:
    with store.session() as session:
        session.execute(update(Task).where(Task.id == task.id).values(expires=now() - timedelta(seconds=1)))


def test_a_tier_is_one_more_than_the_tasks_that_cover_the_prompt(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    ada, bob, eve = people
    assert tiers(stocked) == [0, 0, 0, 0, 0]
    task, token = give(stocked, ada, responses, "p0")
    skipped, its_token = give(stocked, bob, responses, "p0")
    late, _ = give(stocked, eve, responses, "p0")
    give(stocked, ada, responses, "p1")
    with stocked.session() as session:
        given = {"guideline": "1", "propensity": None, "minutes": 5}
        tasks.open_task(session, bob.id, "rank", "p2", responses, state="identical", **given)
    assert tiers(stocked) == [4, 2, 1, 0, 0]
    with stocked.session() as session:
        answers.answer(session, task.id, ada.id, token, Judgement(ranks=[1, 2, 3]))
        answers.skip(session, skipped.id, bob.id, its_token)
    assert tiers(stocked) == [3, 2, 1, 0, 0]
    with stocked.session() as session:
        answers.undo(session, skipped.id, bob.id, 5)
        answers.undo(session, task.id, ada.id, 5)
    assert tiers(stocked) == [4, 2, 1, 0, 0]
    make_late(stocked, late)
    with stocked.session() as session:
        tasks.expire_stale(session)
    assert tiers(stocked) == [3, 2, 1, 0, 0]
    # Ada holds four: her oldest two, on p0 and p1, are given back.
    for prompt_id in ("p4", "p3", "p2"):
        give(stocked, ada, responses, prompt_id)
    with stocked.session() as session:
        typed = typed_prompt(session, [{"role": "user", "content": "private"}], ada.pseudonym).id
    give(stocked, ada, responses, typed)
    assert tiers(stocked) == [2, 1, 2, 2, 2]


def test_tasks_opened_at_once_are_all_counted(stocked: Store, responses: list[Response]) -> None:
    with stocked.session() as session:
        many = [add_labeler(session, f"labeler {number}")[0] for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda labeler: give(stocked, labeler, responses, "p0"), many))
    assert tiers(stocked) == [9, 0, 0, 0, 0]


def test_prompts_that_nobody_was_given_come_before_those_that_were_skipped(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    ada, bob, eve = people
    for prompt_id in ("p0", "p1", "p2"):
        task, token = give(stocked, ada, responses, prompt_id)
        with stocked.session() as session:
            answers.skip(session, task.id, ada.id, token)
    give(stocked, bob, responses, "p2")
    expected = [{"p3", "p4"}, {"p3", "p4"}, {"p0", "p1"}, {"p0", "p1"}, {"p2"}]
    for among in expected:
        with stocked.session() as session:
            prompt = pool.choose_prompt(session, eve.id)
            assert prompt is not None
            assert prompt.id in among
        give(stocked, eve, responses, prompt.id)


def test_a_task_that_was_left_open_too_long_covers_nothing_for_others_either(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    late, _ = give(stocked, people[0], responses, "p0")
    for number in range(1, 5):
        give(stocked, people[1], responses, f"p{number}")
    make_late(stocked, late)
    with stocked.session() as session:
        tasks.expire_stale(session)
    for _ in range(5):
        with stocked.session() as session:
            prompt = pool.choose_prompt(session, people[2].id)
            assert prompt is not None
            assert prompt.id == "p0"


def test_the_database_refuses_a_second_live_task_on_one_prompt(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, _ = give(stocked, people[0], responses, "p0")
    with pytest.raises(IntegrityError):
        give(stocked, people[0], responses, "p0")
    give(stocked, people[1], responses, "p0")
    make_late(stocked, task)
    with stocked.session() as session:
        tasks.expire_stale(session)
    give(stocked, people[0], responses, "p0")


def test_sides_are_random(stocked: Store, people: list[Labeler], responses: list[Response]) -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    for _ in range(60):
        with stocked.session() as session:
            task, _token = tasks.open_task(
                session, people[0].id, "rank", "p0", responses, guideline="1", propensity=None, minutes=1
            )
            orders[tuple(task.shown)] += 1
            session.rollback()
    assert len(orders) == 6  # all orders of three; missing one of them has a chance of 1e-4


def test_ranks_by_screen_position_are_stored_in_stored_order(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    with stocked.session() as session:
        session.execute(update(Task).where(Task.id == task.id).values(shown=[2, 0, 1]))
    judgement = Judgement(
        ranks=[1, 2, 2], ratings=[7, None, 3], flags=[["opinion"], [], ["sexual", "opinion"]], note=" fine ", seconds=4
    )
    with stocked.session() as session:
        row = answers.answer(session, task.id, people[0].id, token, judgement)
        assert row.ranks == [2, 2, 1]
        assert row.ratings == [None, 3, 7]
        assert row.flags == [[], ["opinion", "sexual"], ["opinion"]]
        assert (row.note, row.seconds, row.all_bad) == ("fine", 4, False)


@pytest.mark.parametrize(
    "judgement",
    [
        Judgement(),
        Judgement(ranks=[1, 2]),
        Judgement(ranks=[0, 1, 2]),
        Judgement(ranks=[1, 2, 4]),
        Judgement(ranks=[1, 2, 3], ratings=[8, 1, 1]),
        Judgement(ranks=[1, 2, 3], ratings=[1]),
        Judgement(ranks=[1, 2, 3], flags=[["nonsense"], [], []]),
        Judgement(ranks=[1, 2, 3], note="x" * 2001),
        Judgement(ranks=[1, 2, 3], seconds=-1),
        Judgement(ranks=[1, 2, 3], seconds=float("nan")),
    ],
)
def test_a_judgement_that_does_not_fit_is_refused_and_the_token_still_works(
    stocked: Store, people: list[Labeler], responses: list[Response], judgement: Judgement
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, task.id, people[0].id, token, judgement)
    assert status_of(refused) == 400
    with stocked.session() as session:
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))


def test_tokens_are_single_use_and_bound_to_labeler_and_time(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    ranks = Judgement(ranks=[1, 2, 3])
    for labeler, given, status in ((people[1], token, 404), (people[0], "wrong", 403)):
        with stocked.session() as session, pytest.raises(ApiError) as refused:
            answers.answer(session, task.id, labeler.id, given, ranks)
        assert status_of(refused) == status
    with stocked.session() as session:
        answers.answer(session, task.id, people[0].id, token, ranks)
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 3, 2]))
    assert status_of(refused) == 409
    late, late_token = give(stocked, people[0], responses, "p1")
    make_late(stocked, late)
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, late.id, people[0].id, late_token, ranks)
    assert status_of(refused) == 410
    with stocked.session() as session:
        assert len(session.scalars(select(Answer)).all()) == 1


def test_what_is_sent_again_is_answered_as_the_first_was(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    """Also by many at once; a skip and an answer of the same task exclude each other."""
    task, token = give(stocked, people[0], responses, "p0")
    said = Judgement([2, 1, 2], [None, 3, 7], [["opinion"], [], ["sexual", "opinion"]], note=" fine ", seconds=4)

    def send(judgement: Judgement) -> str:
        with stocked.session() as session:
            return answers.answer(session, task.id, people[0].id, token, judgement).id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, [said] * 16))
    assert ids == {send(replace(said, seconds=9, note="fine"))}
    for other in (
        replace(said, ranks=[1, 1, 2]), replace(said, ratings=None), replace(said, flags=None),
        replace(said, all_bad=True), replace(said, note="poor"),
    ):  # fmt: skip
        with pytest.raises(ApiError) as refused:
            send(other)
        assert status_of(refused) == 409
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.skip(session, task.id, people[0].id, token)
    assert status_of(refused) == 409
    with stocked.session() as session:
        assert len(session.scalars(select(Answer)).all()) == 1
    skipped, its_token = give(stocked, people[0], responses, "p1")
    for _ in range(2):
        with stocked.session() as session:
            assert answers.skip(session, skipped.id, people[0].id, its_token).state == "skipped"
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, skipped.id, people[0].id, its_token, said)
    assert status_of(refused) == 409


def test_undo_adds_a_row_and_opens_the_task_under_a_new_token(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    with stocked.session() as session:
        first = answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.undo(session, task.id, people[1].id, 5)
    assert status_of(refused) == 404
    with stocked.session() as session:
        reopened, fresh = answers.undo(session, task.id, people[0].id, 5)
        assert reopened.state == "open"
        assert session.scalars(answers.standing()).all() == []
    with stocked.session() as session:
        assert answers.undo(session, task.id, people[0].id, 5)[1] == fresh, "sent again, it is the same open task"
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))
    assert status_of(refused) == 403
    with stocked.session() as session:
        second = answers.answer(session, task.id, people[0].id, fresh, Judgement(all_bad=True))
        rows = session.scalars(select(Answer).order_by(Answer.created)).all()
        assert [row.withdrawn for row in rows] == [False, True, False]
        assert [row.supersedes for row in rows] == [None, first.id, rows[1].id]
        assert [row.id for row in session.scalars(answers.standing())] == [second.id]
        assert (second.ranks, second.all_bad) == ([1, 1, 1], True)


def test_a_skipped_task_has_no_answer_and_can_be_taken_back(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    with stocked.session() as session:
        assert answers.skip(session, task.id, people[0].id, token).state == "skipped"
        _, fresh = answers.undo(session, task.id, people[0].id, 5)
        answers.answer(session, task.id, people[0].id, fresh, Judgement(ranks=[1, 2, 3]))
        assert len(session.scalars(select(Answer)).all()) == 1


def test_every_window_of_a_labeler_resumes_an_open_task_under_the_same_token(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    with stocked.session() as session:
        assert tasks.resume(session, people[0].id, "compare", 2, 5) is None
        assert tasks.resume(session, people[1].id, "rank", 3, 5) is None
        resumed = tasks.resume(session, people[0].id, "rank", 3, 5)
        assert resumed is not None
        assert (resumed[0].id, resumed[1]) == (task.id, token)
    with stocked.session() as session:
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[3, 2, 1]))
    assert status_of(refused) == 409


def test_a_labeler_holds_few_open_tasks_and_the_oldest_is_given_back(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    prompts.import_rows(stocked, [{"id": f"q{i}", "prompt": f"Another {i}?"} for i in range(20)])
    opened = [give(stocked, people[0], responses, f"q{i}") for i in range(20)]
    give(stocked, people[1], responses, "q0")
    with stocked.session() as session:
        held = session.scalars(select(Task).where(Task.labeler_id == people[0].id, Task.state == "open")).all()
        assert {task.id for task in held} == {task.id for task, _ in opened[-tasks.MAX_OPEN :]}
        assert session.scalar(select(func.count()).select_from(Task).where(Task.labeler_id == people[1].id)) == 1
        assert pool.progress(session, people[0].id).left == 25 - tasks.MAX_OPEN
    with stocked.session() as session, pytest.raises(ApiError) as refused:
        answers.answer(session, opened[0][0].id, people[0].id, opened[0][1], Judgement(ranks=[1, 2, 3]))
    assert status_of(refused) == 410
    give(stocked, people[0], responses, "q0")


def test_a_repeat_is_somebody_elses_answered_task_of_the_same_policies(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task, token = give(stocked, people[0], responses, "p0")
    both = ("sft-1", "ppo-1")
    with stocked.session() as session:
        assert tasks.choose_repeat(session, people[1].id, "rank", 3, both) is None
        answers.answer(session, task.id, people[0].id, token, Judgement(ranks=[1, 2, 3]))
        found = tasks.choose_repeat(session, people[1].id, "rank", 3, both)
        assert found is not None
        assert found.id == task.id
        assert tasks.choose_repeat(session, people[0].id, "rank", 3, both) is None
        assert tasks.choose_repeat(session, people[1].id, "rank", 3, ("ppo-1",)) is None
        assert tasks.choose_repeat(session, people[1].id, "rank", 4, both) is None


def test_a_retired_prompt_is_given_to_nobody(stocked: Store, people: list[Labeler]) -> None:
    with stocked.session() as session:
        for number in range(5):
            pool.retire(session, f"p{number}", "too long")
        assert pool.choose_prompt(session, people[0].id) is None
        assert session.get_one(Prompt, "p0").meta == {"retired": "too long"}


@pytest.mark.unit
@pytest.mark.parametrize("kind, k", [("compare", 3), ("rank", 1), ("rank", 10), ("vote", 2)])
def test_impossible_kinds_of_tasks_are_refused(kind: str, k: int) -> None:
    with pytest.raises(ApiError):
        tasks.check_kind(kind, k)
