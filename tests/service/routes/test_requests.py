"""What the gateway refuses before any engine sees it, and OpenAI's shape of every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.bodies.parsing import parse
from service.endpoints import Endpoint, _endpoint
from service.engines.manifests import served_manifest
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES, refusal
from service.errors import ApiError
from service.routes.openai import prepare
from tests.service.conftest import engine_row
from tests.support import architectures
from training.stages.adopt import Config, adopt

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(app_client: Build, add_engine: Callable[..., None]) -> TestClient:
    """An open gateway whose table names a policy and a reward model at a port where nothing listens."""
    add_engine("sft-1")
    add_engine("reward-1", kind="reward")
    add_engine("ppo-1", state="starting")
    return app_client(open=True, max_body_bytes=2000, max_responses=3)


@pytest.mark.parametrize(
    "path, body, status, code",
    [
        (CHAT, b"{", 400, "invalid_json"),
        (CHAT, b"[]", 400, "invalid_json"),
        (CHAT, b'{"model": "sft-1", "temperature": NaN}', 400, "invalid_json"),
        (CHAT, b"x" * 3000, 413, "body_too_large"),
        (CHAT, {"messages": HELLO}, 400, "missing_field"),
        (CHAT, {"model": "nothing", "messages": HELLO}, 404, "model_not_found"),
        (CHAT, {"model": "ppo-1", "messages": HELLO}, 503, "model_not_ready"),
        (CHAT, {"model": "reward-1", "messages": HELLO}, 400, None),
        (CHAT, {"model": "sft-1", "messages": HELLO}, 503, "model_not_ready"),
        (CHAT, {"model": "sft-1", "messages": HELLO, "chat_template": "x"}, 400, "unknown_field"),
        (CHAT, {"model": "sft-1", "messages": HELLO, "n": 0}, 400, "invalid_value"),
        (CHAT, {"model": "sft-1", "messages": HELLO, "n": 10**9}, 400, "invalid_value"),
        (CHAT, {"model": "sft-1", "messages": []}, 400, None),
        (CHAT, {"model": "sft-1", "messages": "hello"}, 400, "invalid_value"),
        (CHAT, {"model": "sft-1", "messages": [{"role": "robot", "content": "x"}]}, 400, None),
        (CHAT, {"model": "sft-1", "messages": [{"role": "user", "content": ["x"]}]}, 400, None),
        (CHAT, {"model": "sft-1", "messages": [{"role": "user", "content": "a <|end|> b"}]}, 400, "special_token"),
        (CHAT, {"model": "sft-1", "messages": [{**HELLO[0], "tool_calls": [1]}]}, 400, "unknown_field"),
        ("/v1/completions", {"model": "sft-1"}, 400, "missing_field"),
        ("/v1/completions", {"model": "sft-1", "prompt": "x", "prompt_embeds": "x"}, 400, "unknown_field"),
        ("/score", {"model": "sft-1", "messages": HELLO, "responses": ["x"]}, 400, None),
        ("/score", {"model": "nothing", "messages": HELLO, "responses": ["x"]}, 404, "model_not_found"),
        ("/score", {"model": "reward-1", "messages": HELLO}, 400, "invalid_value"),
        ("/score", {"model": "reward-1", "messages": HELLO, "responses": []}, 400, "invalid_value"),
        ("/score", {"model": "reward-1", "messages": HELLO, "responses": ["x"] * 4}, 400, None),
        ("/score", {"model": "reward-1", "message": HELLO, "responses": ["x"]}, 400, "invalid_value"),
        ("/score", {"model": "reward-1", "conversations": [HELLO], "responses": ["x"]}, 400, "invalid_value"),
        ("/nowhere", {}, 404, None),
        ("/health/live", {}, 405, None),
    ],
)
def test_refusals_have_openais_shape(
    client: TestClient, path: str, body: object, status: int, code: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"] == code
    if status == 503:
        assert int(answer.headers["retry-after"]) > 0


def endpoint() -> Endpoint:
    return _endpoint(engine_row("sft-1"))


def test_manifest_defaults_fill_what_the_request_leaves_out() -> None:
    request = {"model": "policy/production", "messages": HELLO}
    generation = {"temperature": 0.7, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05, "max_tokens": 32}
    adopted = replace(endpoint(), generation=generation)
    expected = {"model": "sft-1", "temperature": 0.7, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05}
    body, _ = prepare(dict(request), adopted, CHAT)
    assert body == {**expected, "messages": HELLO, "stop_token_ids": [0, 7]}
    body, _ = prepare({"model": "x", "prompt": "q"}, adopted, COMPLETIONS)
    assert body == {**expected, "prompt": "q", "max_tokens": None}
    body, _ = prepare({"model": "x", "input": "q"}, adopted, RESPONSES, answer_tokens=9)
    message = {"type": "message", "role": "user", "content": "q"}
    more = {"input": [message], "store": False, "max_output_tokens": 9, "stop_token_ids": [0, 7]}
    assert body == {**expected, **more}


def test_what_the_request_says_stays() -> None:
    request = {
        "model": "x",
        "messages": HELLO,
        "temperature": 0,
        "top_p": 1,
        "max_completion_tokens": 5,
        "ignore_eos": True,
    }
    body, _ = prepare(request, endpoint(), CHAT, answer_tokens=9)
    assert body["temperature"] == 0
    assert body["top_p"] == 1
    assert "max_tokens" not in body
    assert "stop_token_ids" not in body


@pytest.mark.parametrize("own, expected", [([], [0, 7]), ([5, 7], [5, 7, 0])])
def test_a_requests_stop_ids_stand_beside_the_templates(own: list[int], expected: list[int]) -> None:
    body, _ = prepare({"model": "x", "messages": HELLO, "stop_token_ids": own}, endpoint(), CHAT)
    assert body["stop_token_ids"] == expected
    with pytest.raises(ApiError, match="must be a list of ids"):
        prepare({"model": "x", "messages": HELLO, "stop_token_ids": ["a"]}, endpoint(), CHAT)


def test_raw_prompts_stay_raw() -> None:
    body = {"model": "x", "prompt": "a <|end|> b", "max_tokens": 0, "echo": True, "logprobs": 1}
    body, _ = prepare(body, endpoint(), COMPLETIONS)
    assert body["prompt"] == "a <|end|> b"
    assert body["max_tokens"] == 0


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(ApiError, match="not valid JSON"):
        parse(b"[" * 100_000)


def test_a_message_without_a_role_is_named() -> None:
    with pytest.raises(ApiError, match="message 1 has role None"):
        prepare({"model": "x", "messages": [{"content": "x"}]}, endpoint(), CHAT)


@pytest.mark.parametrize(
    "status, message, expected, code",
    [
        (400, "This model's maximum context length is 256 tokens", 400, "context_length_exceeded"),
        (422, "temperature must be non-negative", 400, "invalid_value"),
        (503, "queue full", 503, "overloaded"),
        (500, "boom", 502, "engine_error"),
        (429, "slow down", 429, "rate_limited"),
        (401, "Unauthorized", 502, "engine_error"),
        (404, "The model `x` does not exist", 502, "engine_error"),
        (405, "Method Not Allowed", 502, "engine_error"),
        (504, "late", 504, "timeout"),
    ],
)
def test_an_engines_refusal_is_put_into_our_words(status: int, message: str, expected: int, code: str) -> None:
    content = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": status}}).encode()
    error = refusal(status, content, "sft-1")
    assert (error.status, error.code) == (expected, code)


def test_an_engines_gibberish_is_an_error_too() -> None:
    assert refusal(500, b"<html>", "sft-1").status == 502


def test_an_adopted_model_is_served_with_the_sampling_that_it_was_published_with(tmp_path: Path) -> None:
    """From generation_config.json by the manifest and the endpoint table to what the engine is sent."""
    folder = architectures.save(tmp_path / "m", "llama")
    file = folder / "generation_config.json"
    published = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_sample": True, **published}))
    adopted = adopt(Config(str(folder), home=tmp_path / "runs"))
    row = engine_row(adopted.id)
    row.manifest = served_manifest(adopted, adopted.manifest.context)
    body, _ = prepare({"model": "x", "messages": HELLO}, _endpoint(row), CHAT)
    assert {name: body[name] for name in published} == published
    assert "max_tokens" not in body
    assert "max_completion_tokens" not in body
