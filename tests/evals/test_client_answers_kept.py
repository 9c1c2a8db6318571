"""Answers that the client keeps: what is not asked again, and files of them that are damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from evals.client import Client
from evals.generation import Sampling
from evals.transport import Refused
from tests.support.one_server import MESSAGES, ask, chat_answer, error
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        calls.append(body)
        if "conversations" in body:
            return web.json_response({"data": [{"index": 0, "score": 0.5}]})
        if "echo" not in body:
            return chat_answer("yes")
        values = [{"token_logprobs": [None, -1.0], "top_logprobs": [None, {p: -1.0}]} for p in body["prompt"]]
        return web.json_response({"choices": [{"index": i, "logprobs": v} for i, v in enumerate(values)]})

    async def use(client: Client) -> Any:
        answers = await client.generate("m", MESSAGES, Sampling(temperature=1.0), seed=1)
        scored = await client.logprobs("m", ["a", "b"])
        rewards = await client.rewards("r", [MESSAGES])
        return answers, scored, rewards

    first = ask(handler, use, answers=tmp_path)
    asked = len(calls)
    assert ask(handler, use, answers=tmp_path) == first
    assert len(calls) == asked == 3

    async def more(client: Client) -> Any:
        await client.generate("m", MESSAGES, Sampling(temperature=1.0), seed=2)  # another seed, another answer
        await client.generate("n", MESSAGES, Sampling(temperature=1.0), seed=1)  # another model
        return await client.logprobs("m", ["b", "c"])  # one of two is known

    ask(handler, more, answers=tmp_path)
    assert [body.get("prompt") for body in calls[asked:]] == [None, None, ["c"]]
    ask(handler, use, answers=tmp_path, identity={"through_filters": True})
    assert len(calls) == asked + 6


def test_a_failure_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(1)
        return chat_answer("yes") if len(calls) > 1 else error(500, "broken")

    with pytest.raises(Refused):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)
    (answer,) = ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)
    assert answer.text == "yes"


def test_a_damaged_file_of_answers_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.sqlite").write_bytes(b"no database" * 100)

    async def handler(request: web.Request) -> web.Response:
        return chat_answer("yes")

    with pytest.raises(UserError, match=r"m\.sqlite is damaged"):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)


def test_a_file_of_answers_that_breaks_while_it_is_used_is_one_line(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return chat_answer("yes")

    ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)
    with sqlite3.connect(tmp_path / "m.sqlite") as file:
        file.execute("UPDATE answers SET answer = '{cut'")
    with pytest.raises(UserError, match=r"m\.sqlite is damaged .*: delete it"):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)
    with sqlite3.connect(tmp_path / "m.sqlite") as file:
        file.execute("DELETE FROM answers")
        file.execute("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'x'); END")
    with pytest.raises(UserError, match=r"m\.sqlite"):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()), answers=tmp_path)


def test_a_long_name_of_a_model_has_files(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return chat_answer("yes")

    for name in ("x" * 300, "x" * 299, "é/" * 150):
        assert ask(handler, lambda c, n=name: c.generate(n, MESSAGES, Sampling()), answers=tmp_path)
    assert len(list(tmp_path.glob("*.sqlite"))) == 3
