"""`/tokenize`, and the log-probabilities of asked ids, through the real engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import tiny_models
from tests.support.live_service import Running
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
HELLO = [{"role": "user", "content": "a"}]


def post(gateway: Running, path: str, body: dict[str, Any], key: str | None = None) -> Any:
    with gateway.client(key) as client:
        content = json.dumps(body)  # a half character as \\udxxx, as any JSON writer sends it
        return client.post(path, content=content, headers={"content-type": "application/json"})


def test_texts_and_conversations_as_the_model_reads_them(gateway: Running, tiny_policy: Checkpoint) -> None:
    tokenizer = tiny_models.tokenizer()
    one = post(gateway, "/tokenize", {"model": "policy/production", "prompt": "the fox"}).json()
    assert one["tokens"] == tokenizer.encode("the fox")
    assert one["model"] == tiny_policy.id
    assert (one["prefix_token_id"], one["prefix_text"]) == (tokenizer.eos_token_id, "<|end|>")
    several = post(gateway, "/tokenize", {"model": tiny_policy.id, "prompt": ["the fox", "", "a"]}).json()
    assert several["tokens"] == [tokenizer.encode(text) for text in ("the fox", "", "a")]
    turns = [{"role": "user", "content": "the fox"}]
    chat = post(gateway, "/tokenize", {"model": tiny_policy.id, "messages": turns}).json()
    assert chat["text"] == "<|user|>the fox<|assistant|>"
    assert chat["tokens"] == tokenizer.encode(chat["text"])
    parts = [{"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "fox"}]}]
    assert post(gateway, "/tokenize", {"model": tiny_policy.id, "messages": parts}).json() == chat
    begun = [*turns, {"role": "assistant", "content": "so it"}]
    going_on = {"messages": begun, "continue_final_message": True, "add_generation_prompt": False}
    assert post(gateway, "/tokenize", {"model": tiny_policy.id, **going_on}).json()["text"] == chat["text"] + "so it"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "give either `prompt` or `messages`"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, 400, "give either"),
        ({"prompt": "a", "chat_template": "{{ 1 }}"}, 400, "chat_template"),
        ({"prompt": "a", "model": "reward/production"}, 400, "is a reward model"),
        ({"prompt": "a", "model": "nobody"}, 404, "does not exist"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "message 1 has no text"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "message 1 has no text"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, 400, "message 1 has role"),
        ({"messages": [{"role": "user", "content": "half \ud83d"}]}, 400, "half a character"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "only text"),
        ({"messages": HELLO, "continue_final_message": True}, 400, "add_generation_prompt"),
        ({"messages": [{"role": 5, "content": "a"}]}, 400, "has role 5"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, 400, "message 1"),
    ],
)
def test_mistakes(gateway: Running, body: dict[str, Any], status: int, message: str) -> None:
    answer = post(gateway, "/tokenize", {"model": "policy/production"} | body)
    assert (answer.status_code, message in answer.text) == (status, True), answer.text


def test_a_key_needs_the_scope(gateway: Running) -> None:
    body = {"model": "policy/production", "prompt": "a"}
    assert post(gateway, "/tokenize", body, gateway.add_key("score")).status_code == 403
    assert post(gateway, "/tokenize", body, gateway.add_key("eval")).status_code == 200


def test_log_probabilities_of_asked_ids(gateway: Running) -> None:
    """They are those that the same context gives when the token stands behind it."""
    ids = tiny_models.tokenizer().encode("the red fox")
    wanted_ids = [5, 70, 300]
    body = {
        "model": "policy/production", "prompt": ids, "max_tokens": 1, "temperature": 0, "logprobs": 3,
        "logprob_token_ids": wanted_ids, "return_tokens_as_token_ids": True,
    }  # fmt: skip
    answer = post(gateway, "/v1/completions", body)
    assert answer.status_code == 200, answer.text
    values = answer.json()["choices"][0]["logprobs"]["top_logprobs"][0]
    for token in wanted_ids:
        behind = {"model": "policy/production", "prompt": [*ids, token], "max_tokens": 1, "prompt_logprobs": 0}
        (choice,) = post(gateway, "/v1/completions", behind).json()["choices"]
        expected = choice["prompt_logprobs"][-1][str(token)]["logprob"]
        assert values[f"token_id:{token}"] == pytest.approx(expected, abs=1e-3)
