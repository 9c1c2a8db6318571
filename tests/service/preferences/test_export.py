from __future__ import annotations

import hashlib
import json
import math
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from service.preferences import answers, export, prompts, tasks
from service.preferences.answers import Judgement
from service.store.database import Store
from service.store.models import Labeler, now
from training.artifacts.comparisons import Response, freeze, read


def rank(store: Store, labeler: Labeler, prompt_id: str, responses: list[Response], ranks: list[int]) -> str:
    with store.session() as session:
        task, token = tasks.open_task(
            session, labeler.id, "rank", prompt_id, responses, guideline="1", propensity=0.5, minutes=5
        )
        answers.answer(session, task.id, labeler.id, token, Judgement(ranks=ranks))
        return task.id


def test_an_export_holds_what_training_needs_and_no_name(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    with stocked.session() as session:
        task, token = tasks.open_task(
            session, people[2].id, "rank", "p1", responses, guideline="1", propensity=0.5, minutes=5
        )
        judgement = Judgement(ranks=[2, 1, 2], ratings=[1, 7, None], note="ok", seconds=2.5)
        answers.answer(session, task.id, people[2].id, token, judgement)
    with stocked.session() as session:
        (row,) = export.comparisons(session)
    best = task.shown[1]
    assert row.responses == tuple(responses)
    assert row.ranks is not None
    assert [index for index, value in enumerate(row.ranks) if value == 1] == [best]
    assert row.ratings is not None
    assert row.ratings[best] == 7
    assert row.shown == tuple(task.shown)
    assert (row.labeler, row.labeler_group) == (people[2].pseudonym, "b")
    assert (row.guideline, row.propensity, row.user, row.prompt_id) == ("1", 0.5, "u1", "p1")
    assert row.messages == ({"role": "user", "content": "Question 1?"},)
    assert row.meta == {"task": task.id, "kind": "rank", "source": "imported", "seconds": 2.5, "note": "ok"}
    assert row.created is not None
    assert "Eve" not in repr(row)


def test_the_same_data_gives_the_same_bytes_as_freeze(
    stocked: Store, people: list[Labeler], responses: list[Response], tmp_path: Path
) -> None:
    for labeler in people:
        for prompt_id in ("p0", "p1"):
            rank(stocked, labeler, prompt_id, responses, [1, 2, 3])
    buffer = BytesIO()
    with stocked.session() as session:
        done = export.write(session, buffer)
        sha, rows = done.sha256, done.rows
        assert export.export_file(session, tmp_path / "out" / "export.jsonl") == done
        assert freeze(export.comparisons(session), tmp_path / "frozen.jsonl") == (sha, 6)
    assert rows == 6
    assert hashlib.sha256(buffer.getvalue()).hexdigest() == sha
    assert (tmp_path / "out" / "export.jsonl").read_bytes() == buffer.getvalue()
    assert (tmp_path / "frozen.jsonl").read_bytes() == buffer.getvalue()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["export.jsonl"]
    again, skipped = read(tmp_path / "frozen.jsonl", sha)
    assert (len(again), len(skipped)) == (6, 0)


def test_withdrawn_and_superseded_answers_are_left_out(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    task_id = rank(stocked, people[0], "p0", responses, [1, 2, 3])
    rank(stocked, people[1], "p0", responses, [1, 2, 3])
    with stocked.session() as session:
        before = {row.labeler: row for row in export.comparisons(session)}
        _, token = answers.undo(session, task_id, people[0].id, 5)
        assert [row.labeler for row in export.comparisons(session)] == [people[1].pseudonym]
        answers.answer(session, task_id, people[0].id, token, Judgement(ranks=[3, 2, 1]))
    with stocked.session() as session:
        after = {row.labeler: row for row in export.comparisons(session)}
    revised = after[people[0].pseudonym]
    assert len(after) == 2
    assert revised.supersedes == before[people[0].pseudonym].id
    assert revised.meta["after_reveal"] is True
    assert "after_reveal" not in after[people[1].pseudonym].meta


def test_since_selects_by_time(stocked: Store, people: list[Labeler], responses: list[Response]) -> None:
    rank(stocked, people[0], "p0", responses, [1, 2, 3])
    with stocked.session() as session:
        assert len(list(export.comparisons(session, now() - timedelta(minutes=1)))) == 1
        assert list(export.comparisons(session, now() + timedelta(minutes=1))) == []


def test_the_blind_vote_stands_whatever_came_after_the_names_were_shown(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    """Changed, withdrawn and skipped, or only withdrawn: the first answer counts in the results; training gets what
    stands, marked."""
    tasks_of = {name: rank(stocked, people[0], name, responses, [1, 2, 3]) for name in ("p0", "p1", "p2", "p3")}
    rank(stocked, people[1], "p0", responses, [1, 2, 3])
    with stocked.session() as session:
        before = {row.id: row for row in export.comparisons(session, blind=True)}
        assert before == {row.id: row for row in export.comparisons(session)}
        assert answers.changes(session) == []
    with stocked.session() as session:
        _, token = answers.undo(session, tasks_of["p0"], people[0].id, 5)
        answers.answer(session, tasks_of["p0"], people[0].id, token, Judgement(ranks=[3, 2, 1]))
        _, token = answers.undo(session, tasks_of["p1"], people[0].id, 5)
        answers.skip(session, tasks_of["p1"], people[0].id, token)
        answers.undo(session, tasks_of["p2"], people[0].id, 5)
    with stocked.session() as session:
        assert {row.id: row for row in export.comparisons(session, blind=True)} == before
        assert answers.changes(session) == [answers.Changes(people[0].pseudonym, 1, 2)]
        standing = {(row.labeler, row.prompt_id): row.meta.get("after_reveal") for row in export.comparisons(session)}
        mine, other = people[0].pseudonym, people[1].pseudonym
        assert standing == {(mine, "p0"): True, (mine, "p3"): None, (other, "p0"): None}


def test_an_excluded_labelers_answers_are_left_out_and_come_back(
    stocked: Store, people: list[Labeler], responses: list[Response]
) -> None:
    for labeler in people[:2]:
        task_id = rank(stocked, labeler, "p0", responses, [1, 2, 3])
        with stocked.session() as session:
            answers.undo(session, task_id, labeler.id, 5)
        rank(stocked, labeler, "p1", responses, [1, 2, 3])
    for excluded, pseudonyms in ((now(), {people[1].pseudonym}), (None, {p.pseudonym for p in people[:2]})):
        with stocked.session() as session:
            session.get_one(Labeler, people[0].id).excluded = excluded
        with stocked.session() as session:
            for blind in (False, True):
                assert {row.labeler for row in export.comparisons(session, blind=blind)} == pseudonyms
            assert {row.labeler for row in answers.changes(session)} == pseudonyms


def test_what_json_cannot_hold_is_skipped_with_its_reason(
    store: Store, people: list[Labeler], responses: list[Response], tmp_path: Path
) -> None:
    """Whatever is imported can be exported, and read again by any reader of JSON."""
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    rows = [
        {"id": f"p{number}", "prompt": f"{number}?", "mode": "M", "spec": {"value": value}}
        for number, value in enumerate(
            [math.nan, math.inf, -math.inf, deep, {"a": {"b": [math.nan]}}, 10**400, [[1.5]]]
        )
    ]
    report = prompts.import_rows(store, rows)
    assert report.imported == 2
    assert report.skipped == {"a number that is not finite or too long": 4, "nested too deeply": 1}
    for name in ("p5", "p6"):
        rank(store, people[0], name, responses, [1, 2, 3])
    with store.session() as session:
        assert export.export_file(session, tmp_path / "out.jsonl").rows == 2

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
