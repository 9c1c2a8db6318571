"""What measures is tried before any model is asked: hours of answers that nobody could judge would be lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import unused_port

from evals.options import Config
from evals.run import prepare
from tests.support.proxy import proxied
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run that would ask a model that is not there."""
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)
    file = tmp_path / "questions.jsonl"
    row = {"question": "Do cats bark?", "best_answer": "No", "correct_answers": ["No"], "incorrect_answers": ["Yes"]}
    file.write_text(json.dumps(row) + "\n")
    return Config(checkpoint=("m",), real=True, home=tmp_path, url="http://127.0.0.1:9", data=(f"truthfulqa={file}",))


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (500, {"error": {"message": "broken"}}, r"judge at http://\S+ does not judge \(status 500: broken\)"),
        (404, {"error": {"message": "no model"}}, "does not judge .*no model.*: start it"),
        (200, {"choices": [{"text": None}]}, "does not judge .*no text"),
        (401, {"error": {"message": "who?"}}, r"who\?.*ALIGNLOOP_JUDGE_KEY"),
        (200, {"choices": [{"text": "perhaps"}]}, None),
        (200, {"choices": [{"text": " yes"}]}, None),
    ],
)
def test_a_judge_is_tried_before_any_answer_is_asked(
    questions: Config, status: int, content: Any, message: str | None
) -> None:
    with proxied("nowhere") as proxy:
        proxy.fault = lambda path, body: (status, content)
        config = replace(questions, judge=f"{proxy.url}#judge")
        if message is None:
            prepare(config)
            return
        with pytest.raises(UserError, match=message):
            prepare(config)


def test_what_measures_is_opened_before_any_answer_is_asked(questions: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not judge .*no answer"):
        prepare(replace(questions, judge=f"http://127.0.0.1:{unused_port()}#judge"))
    with pytest.raises(UserError, match="give URL#MODEL, or a folder"):
        prepare(replace(questions, judge=str(tmp_path)))
    assert prepare(replace(questions, judge=str(tmp_path), dry_run=True)), "a dry run asks nobody"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": {"text": "the fox", "toxicity": 0.1}}) + "\n")
    with pytest.raises(UserError, match="nowhere"):
        prepare(replace(questions, data=(f"toxicity={prompts}",), scorer=tmp_path / "nowhere"))
