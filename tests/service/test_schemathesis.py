"""Requests made from the OpenAPI document: no answer is a 5xx, and none is one that the document does not tell.

The gateway runs behind uvicorn over stub engines that are well. Half of the requests obey their schemas, half break
them. Names of what exists stand in many of both, and many bodies are right but for some fields: else nearly all would
be refused at the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
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

from service import aliases
from service.labelers import add_labeler
from service.preferences import prompts
from service.store.database import Store
from service.store.models import Alias, Engine, now
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
REFUSED = {  # always, or as nothing of the kind exists
    "post /v1/embeddings",
    "delete /admin/keys/{key}",
    "post /admin/aliases/{alias}/rollback",
    "post /api/tasks/{task_id}/undo",
    "get /admin/trace/checkpoints/{name}",
    "get /admin/trace/votes/{vote}",
}


@dataclass
class Service:
    """A gateway under test.

    Attributes:
        url: its address.
        store: its database.
        key: an admin key's header.
        token: a labeler's sign-in token.
        names: what exists, by the name of a parameter.
        bodies: one that is right, by path.
    """

    url: str
    store: Store
    key: dict[str, str]
    token: str
    names: dict[str, str]
    bodies: dict[str, dict[str, Any]]

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
            _, token = add_labeler(session, "Ada")
            add_labeler(session, "Bob")
            for _ in range(2):
                aliases.promote(session, "policy/production", tiny_policy.id, "tests")
            session.get_one(Alias, "policy/production").served = tiny_policy.id
            for checkpoint, kind in ((tiny_policy, "policy"), (tiny_reward, "reward")):
                row: Engine = engine_row(checkpoint.id, engine.url, kind)
                row.manifest = row.manifest | {"path": str(checkpoint.path)}
                row.heartbeat = now() + timedelta(days=1)  # no supervisor beats here
                session.add(row)
        names = {"model": tiny_policy.id, "checkpoint": tiny_policy.id, "alias": "policy/production", "labeler": "Bob"}
        bodies = right_bodies(tiny_policy.id, tiny_reward.id, token)
        app = app_client(checkpoints=tiny_policy.path.parent, collect_policies=[tiny_policy.id], collect_ahead=0).app
        with stub_engine.served(app) as url:  # type: ignore[arg-type]
            yield Service(url, local_store, make_key("admin"), token, names, bodies)


def right_bodies(policy: str, reward: str, token: str) -> dict[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "hello"}]
    scored = {"model": reward, "messages": messages, "responses": ["two words", "no"]}
    return {
        "/v1/completions": {"model": policy, "prompt": "hello"},
        "/v1/chat/completions": {"model": policy, "messages": messages},
        "/v1/responses": {"model": policy, "input": "hello"},
        "/tokenize": {"model": policy, "messages": messages},
        "/v1/loglikelihood": {"model": policy, "pairs": [{"context": [1, 2], "continuation": [3]}]},
        "/v1/score": scored,
        "/score": scored,
        "/api/session": {"token": token},
        "/api/tasks/next": {"kind": "compare", "k": 2},
        "/api/tasks/prompt": {"text": "a prompt of one's own"},
        "/admin/prompts": {"prompts": [{"prompt": "another prompt"}]},
        "/admin/engines": {"checkpoint": policy, "options": {"quantization": "fp8"}},
        "/admin/aliases/{alias}": {"checkpoint": policy},
        "/admin/keys": {"name": "a key", "scopes": ["score"]},
        "/admin/labelers": {"name": "Cleo"},
        "/admin/pool/restore": {"prompts": ["p0"]},
        "/admin/pool/retire": {"prompts": ["p1"], "reason": "old"},
    }


def fuzz(service: Service, examples: int, *, derandomize: bool) -> Counter[tuple[str, int]]:
    """Send requests of every operation, at most `examples` of each kind.

    Returns:
        How often each operation answered with each status.
    """
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    options = settings(
        max_examples=examples, deadline=None, database=None, derandomize=derandomize, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    operations = [result.ok() for result in schema.get_all_operations()]
    answered: Counter[tuple[str, int]] = Counter()
    for operation in operations:
        for mode in modes(operation):
            answered += send(service, operation, mode, options)
    return answered


def send(service: Service, operation: Any, mode: GenerationMode, options: settings) -> Counter[tuple[str, int]]:
    """Send requests of one kind; returns what `fuzz` does. Fails with the request that was answered badly."""
    open_task(service)
    headers = service.headers(operation.path)
    answered: Counter[tuple[str, int]] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @options
    def request(case: Any, data: Any) -> None:
        put_right(case, operation.path, service, data)
        reply = case.call_and_validate(base_url=service.url, headers=headers, checks=CHECKS)
        answered[f"{operation.method} {operation.path}", reply.status_code] += 1

    request()
    return answered


def modes(operation: Any) -> list[GenerationMode]:
    """Requests that obey and that break a schema; where nothing can be sent, there is nothing to break."""
    takes = operation.body or operation.query or operation.path_parameters
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes else [GenerationMode.POSITIVE]


def open_task(service: Service) -> None:
    """Have requests name an open task of the labeler and its token."""
    path = "/api/tasks/next"
    body = {**service.bodies[path], "resume": True}
    reply = httpx.post(f"{service.url}{path}", json=body, headers=service.headers(path), trust_env=False, timeout=30)
    task = reply.json()["task"]
    service.names["task_id"] = task["id"]
    service.bodies["/api/tasks/{task_id}/answer"] = {"token": task["token"], "ranks": [1, 2]}
    service.bodies["/api/tasks/{task_id}/skip"] = {"token": task["token"]}


def put_right(case: Any, path: str, service: Service, data: Any) -> None:
    """Often name what exists, and take a right body with some of the case's fields."""
    parameters = case.path_parameters or {}
    for name in sorted(parameters):
        if name in service.names and data.draw(st.integers(0, 3)):
            parameters[name] = service.names[name]
    right = service.bodies.get(path)
    if isinstance(case.body, dict) and right is not None and data.draw(st.booleans()):
        kept = data.draw(st.sets(st.sampled_from(sorted(case.body)))) if case.body else set()
        case.body = {**right, **{name: case.body[name] for name in kept - {"model"}}}


def check(answered: Counter[tuple[str, int]], least: int) -> None:
    """The requests were as many as they should be, and got through: operations did their work for some."""
    for (operation, status), times in sorted(answered.items()):
        print(times, operation, status)
    assert answered.total() >= least
    worked = {operation for operation, status in answered if status < 400}
    assert {operation for operation, _ in answered} - worked <= REFUSED


@pytest.mark.integration
def test_no_request_fails_the_service_or_meets_an_answer_that_is_not_documented(service: Service) -> None:
    check(fuzz(service, 8, derandomize=True), least=500)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_requests(service: Service) -> None:
    check(fuzz(service, 140, derandomize=False), least=10_000)
