from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from service.preferences.prompts import import_prompts, import_rows, typed_prompt
from service.store.database import Store
from service.store.models import Prompt
from training.artifacts.errors import UserError


def test_a_file_is_imported_and_every_skip_has_its_reason(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    lines = [
        json.dumps({"id": "a", "messages": chat, "user": "u", "use_case": "chat", "mode": "plain", "spec": {"x": 1}}),
        json.dumps({"prompt": "Hello?"}),
        json.dumps({"prompt": "Hello?"}),
        json.dumps({"id": "a", "prompt": "again"}),
        json.dumps({"messages": [{"role": "assistant", "content": "no"}]}),
        json.dumps({"messages": [{"role": "robot", "content": "no"}]}),
        json.dumps({"prompt": "  "}),
        json.dumps({"prompt": "nul \0"}),
        json.dumps({"prompt": "x", "id": "i" * 101}),
        json.dumps({"text": "no prompt"}),
        "{not json",
        "",
    ]
    file.write_text("\n".join(lines))
    with store.session() as session:
        report = import_prompts(session, file)
    assert report.imported == 2
    assert report.skipped["repeated in the input"] == 2
    assert report.skipped["not a JSON object"] == 1
    assert sum(report.skipped.values()) == 9
    with store.session() as session:
        row = session.get_one(Prompt, "a")
        assert row.messages == chat
        assert (row.user, row.use_case, row.meta) == ("u", "chat", {"mode": "plain", "spec": {"x": 1}})
        again = import_prompts(session, file)
    assert again.imported == 0
    assert again.skipped["in the store already"] == 4


def test_a_missing_or_unusable_file_is_refused(store: Store, tmp_path: Path) -> None:
    with store.session() as session, pytest.raises(UserError, match="does not exist"):
        import_prompts(session, tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n')
    with store.session() as session, pytest.raises(UserError, match="neither `messages` nor `prompt`"):
        import_prompts(session, tmp_path / "bad.jsonl")
    with store.session() as session:
        assert session.scalars(select(Prompt)).all() == []


def test_more_than_one_batch(store: Store) -> None:
    with store.session() as session:
        report = import_rows(session, ({"prompt": f"Question {i}?"} for i in range(1201)))
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
