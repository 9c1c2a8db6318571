from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from service.preferences import pool, tasks
from service.preferences.prompts import ImportReport, import_prompts, import_rows, typed_prompt
from service.store.database import Store
from service.store.models import Labeler, Prompt
from training.artifacts.comparisons import Response
from training.artifacts.errors import UserError
from training.artifacts.layouts import prompts as layout


def test_a_file_is_imported_and_every_skip_has_its_reason(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    lines = [
        json.dumps(
            {
                "id": "a",
                "messages": chat,
                "user": "u",
                "use_case": "chat",
                "mode": "plain",
                "spec": {"x": 1},
                "origin": "web",
            }
        ),
        json.dumps({"prompt": "Hello?"}),
        json.dumps({"prompt": "Hello?"}),
        json.dumps({"id": "a", "prompt": "again"}),
        json.dumps({"messages": [{"role": "assistant", "content": "no"}]}),
        json.dumps({"messages": [{"role": "robot", "content": "no"}]}),
        json.dumps({"prompt": "  "}),
        json.dumps({"prompt": "nul \0"}),
        json.dumps({"prompt": "half \ud83d"}),
        json.dumps({"prompt": "x", "id": "i" * 501}),
        json.dumps({"text": "no prompt"}),
        "{not json",
        "",
    ]
    file.write_text("\n".join(lines))
    report = import_prompts(store, str(file))
    assert report.imported == 2
    assert report.skipped == {
        "repeated in the input": 1,
        "another text than an earlier row of this id": 1,
        "not valid JSON": 1,
        "the conversation is empty or not a list": 1,
        "a message's role is not system, user or assistant": 1,
        "a message is empty": 1,
        "a null character in a text": 1,
        "half of a character (an unpaired surrogate such as \\ud83d)": 1,
        "`id` is longer than 500 characters: shorten it": 1,
        "no column that is known for this kind of data": 1,
    }
    assert report.ignored == {"origin": 1}
    with store.session() as session:
        row = session.get_one(Prompt, "a")
        assert row.messages == chat
        assert (row.user, row.use_case, row.meta) == ("u", "chat", {"mode": "plain", "spec": {"x": 1}})
        again = import_prompts(store, str(file))
    assert again.imported == 0
    assert again.skipped["in the store already"] == 2


def test_ids_are_as_long_as_data_sets_have_them(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    row = {"prompt": "Hello?", "id": "é" * 500, "user": "u" * 500, "use_case": "c" * 500}
    file.write_text(json.dumps(row) + "\n")
    assert import_prompts(store, str(file)).imported == 1
    with store.session() as session:
        prompt = session.get_one(Prompt, row["id"])
        assert (prompt.user, prompt.use_case) == (row["user"], row["use_case"])


def test_a_missing_or_unusable_file_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        import_prompts(store, str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(UserError, match="has the columns text; this kind of data needs"):
        import_prompts(store, str(tmp_path / "bad.jsonl"))
    with store.session() as session:
        assert session.scalars(select(Prompt)).all() == []


ALPACA = [
    {"instruction": "Add.", "input": "1 1", "output": "2"},
    {"instruction": "Greet.", "input": "", "output": "Hi"},
]
SHAREGPT = {
    "conversations": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "Yes."}],
    "system": "Be brief.",
}
HH = {"chosen": "\n\nHuman: One?\n\nAssistant: Yes.", "rejected": "\n\nHuman: One?\n\nAssistant: No."}


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.json", json.dumps(ALPACA), [["Add.\n\n1 1"], ["Greet."]]),
        ("a.jsonl.gz", gzip.compress(json.dumps(SHAREGPT).encode(), mtime=0), [["Be brief.", "One?"]]),
        ("a.jsonl", json.dumps(HH), [["One?"]]),
        ("a.csv", 'prompt,other\n"One, two?",x\nThree?,y\n', [["One, two?"], ["Three?"]]),
        ("a.tsv", 'prompt\tother\n"One?\tx\n', [['"One?']]),
        ("a.txt", "One?\u2028Still one?\n\nTwo?\n", [["One?\u2028Still one?"], ["Two?"]]),
        ("a.jsonl@test", '{"prompt": "One?", "split": "test"}\n{"prompt": "Two?", "split": "train"}\n', [["One?"]]),
    ],
)
def test_what_training_reads_is_imported(
    store: Store, tmp_path: Path, name: str, content: str | bytes, texts: list[list[str]]
) -> None:
    source = tmp_path / name
    path = tmp_path / name.split("@")[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with store.session() as session:
        assert import_prompts(store, str(source)).imported == len(texts)
        rows = session.scalars(select(Prompt)).all()
        assert sorted([m["content"] for m in row.messages] for row in rows) == sorted(texts)
    trained = [[m["content"] for m in record.messages] for record in layout.load(str(source)).records]
    assert sorted(trained) == sorted(texts)


def test_a_corrected_text_replaces_a_prompt_that_nobody_was_given(store: Store) -> None:
    first = [{"id": "p", "prompt": "Helo?", "use_case": "chat"}, {"id": "q", "prompt": "Bye?"}]
    second = [{"id": "p", "prompt": "Hello?"}, first[1]]
    with store.session() as session:
        assert import_rows(store, first).imported == 2
        pool.retire(session, "p", "the prompt has a typo")
    with store.session() as session:
        report = import_rows(store, second)
        assert (report.imported, report.corrected) == (0, 0)
        assert report.skipped == {
            "another text than the stored prompt of this id (correct it with --correct)": 1,
            "in the store already": 1,
        }
        assert session.get_one(Prompt, "p").messages == [{"role": "user", "content": "Helo?"}]
    with store.session() as session:
        report = import_rows(store, second, correct=True)
        assert (report.imported, report.corrected, report.skipped) == (0, 1, {"in the store already": 1})
    with store.session() as session:
        row = session.get_one(Prompt, "p")
        assert row.messages == [{"role": "user", "content": "Hello?"}]
        assert (row.use_case, row.retired, row.meta) == (None, None, {})
        assert import_rows(store, second, correct=True).skipped == {"in the store already": 2}


def test_a_corrected_text_leaves_what_labelers_were_given(store: Store, people: list[Labeler]) -> None:
    with store.session() as session:
        import_rows(store, [{"id": "p", "prompt": "Helo?"}])
        responses = [Response("a"), Response("b")]
        tasks.open_task(session, people[0].id, "compare", "p", responses, guideline="1", propensity=None, minutes=5)
    second = [{"id": "p", "prompt": "Hello?"}]
    with store.session() as session:
        assert import_rows(store, second, correct=True).corrected == 1
    with store.session() as session:
        old = session.get_one(Prompt, "p")
        assert old.messages == [{"role": "user", "content": "Helo?"}]
        assert old.retired is not None
        assert old.meta["retired"] == "corrected"
        (new,) = session.scalars(select(Prompt).where(Prompt.id != "p"))
        assert new.id.startswith("p-")
        assert (new.messages, new.retired) == ([{"role": "user", "content": "Hello?"}], None)
        for correct in (False, True):
            assert import_rows(store, second, correct=correct).skipped == {"in the store already": 1}


def test_more_than_one_batch(store: Store) -> None:
    with store.session() as session:
        report = import_rows(store, ({"prompt": f"Question {i}?"} for i in range(1201)))
        assert report.imported == 1201
        assert len(session.scalars(select(Prompt.id)).all()) == 1201


def test_a_typed_prompt_is_stored_once_a_labeler(store: Store) -> None:
    messages = [{"role": "user", "content": "My own <b>question</b>"}]
    with store.session() as session:
        first = typed_prompt(session, messages, "labeler-1")
        assert typed_prompt(session, messages, "labeler-1").id == first.id
        assert typed_prompt(session, messages, "labeler-2").id != first.id
        assert (first.source, first.user) == ("typed", "labeler-1")
        with pytest.raises(UserError, match="empty"):
            typed_prompt(session, [{"role": "user", "content": ""}], "labeler-1")


def test_the_same_import_at_once_is_done_once(store: Store) -> None:
    rows = [{"id": f"p{number}", "prompt": f"{number}?"} for number in range(150)]
    begin = threading.Barrier(4)

    def run() -> ImportReport:
        begin.wait(20)
        return import_rows(store, rows)

    with ThreadPoolExecutor(4) as threads:
        reports = [one.result() for one in [threads.submit(run) for _ in range(4)]]
    assert sum(report.imported for report in reports) == 150
    assert sum(report.skipped["in the store already"] for report in reports) == 3 * 150
    with store.session() as session:
        assert len(session.scalars(select(Prompt.id)).all()) == 150
