"""What the gateway makes of messages: text parts, half characters, control strings, merged system turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.endpoints import Endpoint, Endpoints, _endpoint
from service.errors import ApiError
from service.preferences.prompts import check_prompt
from service.preferences.sampling import UnusablePrompt, sample
from service.routes.openai import prepare
from service.scoring import token_rows
from service.tokenizers import renderer_of
from tests.service.conftest import engine_row
from tests.support.families import FAMILIES, generation_eos, tokenizer_of
from training.artifacts.comparisons import Comparison, Response, freeze
from training.artifacts.conversations import Refusal, sentence_with_place
from training.artifacts.errors import UserError
from training.artifacts.rendering import Rendered, Renderer
from training.data import reading, rendering

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"
Build = Callable[..., TestClient]


def endpoint(**changes: Any) -> Endpoint:
    return replace(_endpoint(engine_row("sft-1")), **changes)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(part: str) -> dict[str, str]:
    return {"type": "text", "text": part}


def forwarded(messages: Any, target: Endpoint) -> Any:
    body = {"model": "sft-1", "messages": messages}
    return prepare(body, target, CHAT)[0]["messages"]


def test_text_parts_reach_the_engine_as_text() -> None:
    assert forwarded([user([text("hel"), text("lo")])], endpoint()) == [user("hello")]
    with pytest.raises(ApiError, match=r"message 1 contains the special token '<\|end\|>'"):
        forwarded([user([text("a <|e"), text("nd|> b")])], endpoint())
    with pytest.raises(ApiError, match="message 1 holds a part of type 'image_url': only text") as refused:
        forwarded([user([text("what is it?"), {"type": "image_url", "image_url": {"url": "x"}}])], endpoint())
    assert (refused.value.status, refused.value.code) == (400, "not_text")


def test_a_system_turn_is_merged_where_the_manifest_says_so() -> None:
    messages = [{"role": "system", "content": "Be brief."}, user("q")]
    assert forwarded(messages, endpoint()) == messages
    assert forwarded(messages, endpoint(merge_system=True)) == [user("Be brief.\n\nq")]


def test_a_system_turn_that_the_template_leaves_out_is_refused_by_its_name() -> None:
    system = {"role": "system", "content": "Be brief."}
    messages = [system, user("q")]
    for kept in (endpoint(), endpoint(lost_system=("later",)), endpoint(lost_system=("first",), merge_system=True)):
        assert forwarded(messages, kept)[-1]["content"].endswith("q")
    for lost, talk in (("first", messages), ("later", [user("p"), *messages]), ("later", [system, *messages])):
        with pytest.raises(ApiError, match="the chat template leaves out the system role") as refused:
            forwarded(talk, endpoint(lost_system=(lost,)))
        assert (refused.value.status, refused.value.code) == (400, "system_role")


def test_a_row_of_an_earlier_version_merges_nothing() -> None:
    assert "merge_system" not in engine_row("sft-1").manifest
    assert not endpoint().merge_system


@pytest.fixture
def client(app_client: Build, add_engine: Callable[..., None]) -> TestClient:
    """An open gateway whose table names a policy and a reward model at a port where nothing listens."""
    add_engine("sft-1")
    add_engine("reward-1", kind="reward")
    return app_client(open=True)


HALF = "half \ud83d"


@pytest.mark.parametrize(
    "path, body, code",
    [
        (CHAT, {"model": "sft-1", "messages": [user(HALF)]}, "broken_text"),
        (CHAT, {"model": "sft-1", "messages": [user([text(HALF)])]}, "broken_text"),
        (CHAT, {"model": "sft-1", "messages": [{"role": HALF, "content": "x"}]}, "broken_text"),
        (CHAT, {"model": "sft-1", "messages": [user("x") | {HALF: 1}]}, "broken_text"),
        (CHAT, {"model": "sft-1", "messages": [user("x")], "stop": [HALF]}, "broken_text"),
        ("/v1/completions", {"model": "sft-1", "prompt": HALF}, "broken_text"),
        ("/v1/completions", {"model": "sft-1", HALF: "x"}, "broken_text"),
        ("/score", {"model": "reward-1", HALF: 1}, "invalid_value"),
    ],
)
def test_half_a_character_is_a_refusal_and_never_a_failure(
    client: TestClient, path: str, body: object, code: str | None
) -> None:
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == code


def test_a_prompt_with_half_a_character_is_not_stored() -> None:
    with pytest.raises(UserError, match="message 1 holds half a character"):
        check_prompt([user(HALF)])
    assert check_prompt([user([text("q")])]) == [user("q")]


@pytest.mark.parametrize("content", [HALF, "a <|end|> b", [{"type": "image_url"}]])
def test_a_prompt_that_no_policy_may_see_is_unusable(content: Any) -> None:
    policy = endpoint()
    outcome = asyncio.run(sample(None, Endpoints(None), [policy], [user(content)], 2, 1.0, 8))
    assert outcome.responses == []
    assert [(name, type(refusal), refusal.status) for name, refusal in outcome.refusals.items()] == [
        (policy.checkpoint, UnusablePrompt, 400)
    ]


def reward_endpoint(folder: Path, family: str, **changes: Any) -> tuple[Endpoint, Any]:
    """An endpoint whose folder holds a family's tokenizer."""
    tokenizer = tokenizer_of(FAMILIES[family])
    tokenizer.save_pretrained(folder)
    (folder / "manifest.json").write_text("{}")
    stop_ids = Renderer(tokenizer, stop_ids=generation_eos(FAMILIES[family], tokenizer)).stop_ids
    target = replace(_endpoint(engine_row("reward-1", kind="reward")), folder=folder, stop_ids=stop_ids, **changes)
    return target, tokenizer


def rows_of(target: Endpoint, conversations: list[Any]) -> list[Any]:
    """Token ids as `/score` sends them to the engine; a refusal as its sentence."""
    rows = token_rows(renderer_of(target), target, conversations)
    return [sentence_with_place(row) if isinstance(row, Refusal) else row for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_score_the_reward_stage_and_ppo_read_the_same_ids(tmp_path: Path, family: str) -> None:
    question, answers = [user("Who are you?")], ["A cat.", "\nNo", " yes.", "猫 🐈"]
    target, tokenizer = reward_endpoint(tmp_path, family)
    conversations = [[*question, {"role": "assistant", "content": a}] for a in answers]
    by_score = rows_of(target, conversations)
    renderer = Renderer(tokenizer, stop_ids=target.stop_ids)
    ranked = Comparison("c", tuple(question), tuple(map(Response, answers)), ranks=(1, 2, 3, 4))
    freeze([ranked], tmp_path / "rankings.jsonl")
    selection = reading.select(reading.COMPARISONS, str(tmp_path / "rankings.jsonl"))
    by_reward_stage = rendering.comparisons(tmp_path, selection, renderer, 256).items.rows
    assert [row.tolist() for row in by_reward_stage] == by_score
    (prompt,) = renderer.prompts([question])
    assert isinstance(prompt, Rendered)
    for row, demonstration in zip(by_score, renderer.render(conversations, learn=True), strict=True):
        assert isinstance(demonstration, Rendered)
        response = [i for i, learned in zip(row, demonstration.mask, strict=True) if learned]
        assert renderer.extend(prompt.ids, response) == row == demonstration.ids


def test_a_template_that_writes_earlier_answers_differently_can_be_scored(tmp_path: Path) -> None:
    """Thoughts of earlier turns are dropped: no mask of them can be found, and scoring needs none."""
    target, tokenizer = reward_endpoint(tmp_path, "Qwen 3")
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}
    conversation = [user("q"), thought, user("sure?"), {"role": "assistant", "content": "no"}]
    (row,) = rows_of(target, [conversation])
    assert row == tokenizer.apply_chat_template(conversation, return_dict=True)["input_ids"]
    assert "hm" not in tokenizer.decode(row)


def test_one_broken_response_does_not_spoil_the_others(tmp_path: Path) -> None:
    target, _ = reward_endpoint(tmp_path, "Gemma 2")
    question, answer = user("q"), {"role": "assistant", "content": "a"}
    rows = rows_of(
        target,
        [
            [question, answer],
            [question, {"role": "assistant", "content": HALF}],
            [question, {"role": "assistant", "content": [text("a")]}],
            [question, {"role": "assistant", "content": 5}],
            [question],
            [{"role": "system", "content": "s"}, question, answer],
            [question, {"role": "assistant", "content": "a" * 5000}],
            [],
        ],
    )
    assert rows[0] == rows[2]
    messages = [row if isinstance(row, str) else "" for row in rows]
    assert messages[1] == "message 2 holds half a character (a lone surrogate): mend the text's encoding"
    assert messages[3].startswith("message 2 has no text")
    assert messages[4] == "the conversation must end with the assistant's response"
    assert messages[5] == "the chat template refuses the system role"
    assert messages[6] == "longer than 256 tokens"
    assert messages[7].startswith("the conversation is empty")
    (merged,) = rows_of(replace(target, merge_system=True), [[{"role": "system", "content": "s"}, question, answer]])
    (by_hand,) = rows_of(target, [[user("s\n\nq"), answer]])
    assert merged == by_hand


def test_the_body_of_score_takes_text_parts_and_reports_what_is_broken(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over HTTP, up to the engine: nothing answers there, and every conversation that is whole is sent to it."""
    target, _ = reward_endpoint(tmp_path, "Qwen 2.5", url="http://127.0.0.1:9")
    monkeypatch.setattr(Endpoints, "candidates", lambda *_: (target,))
    body = {"model": "reward-1", "messages": [user([text("q")])], "responses": [HALF, [{"type": "image_url"}], 5]}
    answer = client.post("/score", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert [row["error"]["code"] for row in answer.json()["data"]] == ["not_scored"] * 3
    good = {"model": "reward-1", "messages": [user([text("q")])], "responses": [HALF, [text("fine")]]}
    answer = client.post("/score", content=json.dumps(good), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")
