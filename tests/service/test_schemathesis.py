"""Requests made from the OpenAPI document: no answer is a 5xx, and none is one that the document does not tell.

The gateway runs behind uvicorn over stub engines that are well. Half of the requests obey their schemas, half break
them; names of what exists stand in many of both, so that they get beyond "no such model".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest
import schemathesis
from aiohttp import web
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.labelers import add_labeler
from service.preferences import prompts
from service.store.database import Store
from service.store.models import Engine
from tests.service.conftest import engine_row
from tests.support import stub_engine
from tests.support.stub_engine import USAGE, chat_answer, send_pieces, stream_of
from training.artifacts.checkpoints import Checkpoint

Build = Callable[..., TestClient]
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
PROMPTS = 200


@dataclass
class Service:
    """A gateway under test.

    Attributes:
        url: its address.
        store: its database.
        key: an admin key's header.
        token: a labeler's sign-in token.
        names: what exists, by the name of a field or parameter.
    """

    url: str
    store: Store
    key: dict[str, str]
    token: str
    names: dict[str, list[Any]]

    def headers(self, path: str) -> dict[str, str]:
        """What a request needs to be admitted, with a session of its own each time: some requests end it."""
        if not path.startswith(("/api/tasks", "/api/session", "/sign-out")):
            return self.key
        signed = httpx.post(f"{self.url}/api/session", json={"token": self.token}, trust_env=False)
        cookie = signed.headers["set-cookie"].split(";")[0]
        return {"Cookie": cookie, "X-CSRF-Token": signed.json()["csrf"]}


def answers() -> stub_engine.Handler:
    """What healthy engines of policies and reward models do; no two texts are alike."""
    number = count()

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/classify":
            return web.json_response({"data": [{"index": i, "probs": [0.5]} for i in range(len(body["input"]))]})
        n = body.get("n") or 1
        texts = [f"text {next(number)}" for _ in range(n)]
        if body.get("stream") is True:
            return await send_pieces(request, stream_of(body, texts))
        if request.path == "/v1/responses":
            item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": texts[0]}]}
            usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
            return web.json_response(
                {"id": "resp", "object": "response", "created_at": 1, "model": body["model"], "status": "completed",
                 "output": [item], "usage": usage}
            )  # fmt: skip
        if request.path == "/v1/completions":
            ids = body["prompt"] if isinstance(body["prompt"], list) else []
            logprobs = [{str(token): {"logprob": -1.0, "rank": 1}} for token in ids if isinstance(token, int)]
            choices = [
                {"index": i, "text": text, "finish_reason": "stop", "prompt_logprobs": logprobs}
                for i, text in enumerate(texts)
            ]
            return web.json_response(
                {"id": "cmpl", "object": "text_completion", "created": 1, "model": body["model"], "choices": choices,
                 "usage": USAGE}
            )  # fmt: skip
        if request.path == "/v1/chat/completions":
            return web.json_response(chat_answer(body, texts))
        return web.json_response({"detail": "Not Found"}, status=404)

    return answer


@pytest.fixture
def service(
    app_client: Build,
    local_store: Store,
    make_key: Callable[..., dict[str, str]],
    tiny_policy: Checkpoint,
    tiny_reward: Checkpoint,
) -> Iterator[Service]:
    prompts.import_rows(local_store, [{"id": f"p{i}", "prompt": f"question {i}?"} for i in range(PROMPTS)])
    with stub_engine.stub_engine(answers()) as engine:
        with local_store.session() as session:
            ada, token = add_labeler(session, "Ada")
            add_labeler(session, "Bob")
            for checkpoint, kind in ((tiny_policy, "policy"), (tiny_reward, "reward")):
                row: Engine = engine_row(checkpoint.id, engine.url, kind)
                row.manifest = row.manifest | {"path": str(checkpoint.path)}
                session.add(row)
        names = {
            "model": [tiny_policy.id, tiny_reward.id],
            "checkpoint": [tiny_policy.id, tiny_reward.id],
            "alias": ["policy/production", "policy/candidate", "reward/production"],
            "labeler": ["Bob", ada.pseudonym],
            "prompts": [["p0", "p1"], ["p2"]],
            "kind": ["rank", "compare"],
            "k": [2, 4],
        }
        app = app_client(checkpoints=tiny_policy.path.parent, collect_policies=[tiny_policy.id], collect_ahead=0).app
        with stub_engine.served(app) as url:  # type: ignore[arg-type]
            service = Service(url, local_store, make_key("admin"), token, names)
            yield service


def fuzz(service: Service, examples: int, *, derandomize: bool) -> int:
    """Send requests of every operation, at most `examples` of each kind, and return how many were sent."""
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        service.names |= open_task(service)
        headers = service.headers(operation.path)
        for mode in modes(operation):
            strategy = operation.as_strategy(generation_mode=mode)

            @given(case=strategy, data=st.data())
            @settings(
                max_examples=examples, deadline=None, database=None, derandomize=derandomize,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            def request(case: Any, data: Any, headers: dict[str, str] = headers) -> None:
                nonlocal sent
                sent += 1
                for part in (case.path_parameters, case.query, case.body):
                    name_what_exists(part, service.names, data)
                case.call_and_validate(base_url=service.url, headers=headers, checks=CHECKS)

            request()
    return sent


def modes(operation: Any) -> list[GenerationMode]:
    """Requests that obey and that break a schema; where nothing can be sent, there is nothing to break."""
    takes = operation.body or operation.query or operation.path_parameters
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes else [GenerationMode.POSITIVE]


def open_task(service: Service) -> dict[str, list[Any]]:
    """The id and token of an open task of the labeler, as requests name them."""
    path = "/api/tasks/next"
    headers = {"Content-Type": "application/json", **service.headers(path)}
    reply = httpx.post(f"{service.url}{path}", json={"resume": True}, headers=headers, trust_env=False)
    task = reply.json().get("task")
    return {"task_id": [task["id"]], "token": [task["token"]]} if task else {}


def name_what_exists(part: Any, names: dict[str, list[Any]], data: Any) -> None:
    """Put names of what exists into a request's part, often but not always."""
    for name in sorted(names) if isinstance(part, dict) else ():
        if name in part and data.draw(st.integers(0, 3)):
            part[name] = data.draw(st.sampled_from(names[name]))


@pytest.mark.integration
def test_no_request_fails_the_service_or_meets_an_answer_that_is_not_documented(service: Service) -> None:
    assert fuzz(service, 12, derandomize=True) >= 500


@pytest.mark.integration
@pytest.mark.slow
def test_ten_thousand_requests(service: Service) -> None:
    assert fuzz(service, 200, derandomize=False) >= 10_000
