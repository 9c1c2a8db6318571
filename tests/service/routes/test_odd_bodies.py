"""Bodies that are valid JSON and nothing that anybody means: of wrong kinds, nested, huge. Refused, never a failure."""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.store.database import Store
from service.store.models import now
from tests.service.conftest import engine_row
from tests.support import stub_engine
from tests.support.stub_engine import StubEngine
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.unit
HELLO = [{"role": "user", "content": "hello"}]
# A good body of every route that reads one, but those of labelers.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "sft-1", "prompt": "x"},
    "/v1/chat/completions": {
        "model": "sft-1", "messages": [*HELLO, {"role": "assistant", "content": "hi", "tool_calls": []}, *HELLO],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "stop": ["x"], "logit_bias": {"5": 1}, "stream_options": {"include_usage": True}, "metadata": {},
    },
    "/v1/responses": {
        "model": "sft-1", "input": [{"type": "message", "role": "user", "content": "x"}], "instructions": "be brief",
        "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"},
    },
    "/v1/embeddings": {"model": "sft-1", "input": "x"},
    "/tokenize": {"model": "sft-1", "messages": HELLO},
    "/v1/loglikelihood": {"model": "sft-1", "pairs": [{"context": [1], "continuation": [2]}]},
    "/score": {"model": "sft-1", "messages": HELLO, "responses": ["x"]},
    "/api/session": {"token": "x"},
    "/admin/prompts": {"prompts": [{"id": "p", "prompt": "?", "mode": "M", "spec": {"a": 1}}], "correct": True},
    "/admin/keys": {"name": "n", "scopes": ["score"], "days": 1},
    "/admin/labelers": {"name": "n", "group": "g"},
    "/admin/engines": {"checkpoint": "sft-1", "options": {"tensor_parallel_size": 1}},
    "/admin/pool/restore": {"prompts": ["p"], "checkpoint": "sft-1"},
    "/admin/pool/retire": {"prompts": ["p"], "reason": "x"},
}  # fmt: skip
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308, "", " ", "x", [], [[]], [None], [1], ["x"], {},
    [{}], {"": None}, {"type": None}, {"a": {"b": [{"c": 1}]}}, [HELLO], HELLO,
]  # fmt: skip
STEP = pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])  # every so many of them


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with stub_engine.stub_engine() as running:
        yield running


@pytest.fixture
def client(
    app_client: Callable[..., TestClient],
    make_key: Callable[..., dict[str, str]],
    local_store: Store,
    engine: StubEngine,
    tiny_policy: Checkpoint,
) -> TestClient:
    with local_store.session() as session:
        row = engine_row("sft-1", url=engine.url)
        row.manifest = {**row.manifest, "path": str(tiny_policy.path), "takes_tools": True, "tool_parser": "hermes"}
        row.heartbeat = now() + timedelta(days=1)  # nobody beats here
        session.add(row)
    client = app_client()
    client.headers.update({**make_key("admin"), "content-type": "application/json"})
    return client


def variants(body: Any, odd: Any) -> Iterator[Any]:
    """The body with `odd` in the place of each of its values, at any depth."""
    yield odd
    parts = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, part in parts:
        for variant in variants(part, odd):
            copy = dict(body) if isinstance(body, dict) else list(body)
            copy[key] = variant
            yield copy


def failures(client: TestClient, path: str, contents: Iterator[bytes]) -> list[tuple[bytes, int, str]]:
    """Bodies that were answered with a failure, or in another shape."""
    failed = []
    for content in contents:
        answer = client.post(path, content=content)
        shaped = answer.status_code < 400 or set(answer.json()["error"]) == {"message", "type", "param", "code"}
        # 502: the stub answers a question about tokens with a chat.
        if (answer.status_code >= 500 and answer.status_code != 502) or not shaped:
            failed.append((content[:200], answer.status_code, answer.text[:200]))
    return failed


@STEP
@pytest.mark.parametrize("path", BODIES)
def test_a_value_of_another_kind_anywhere_is_refused(client: TestClient, path: str, step: int) -> None:
    bodies = [variant for odd in ODD for variant in variants(BODIES[path], odd)]
    assert failures(client, path, (json.dumps(body).encode() for body in bodies[::step])) == []


@STEP
@pytest.mark.parametrize("path", BODIES)
def test_nesting_of_any_depth_is_refused(client: TestClient, path: str, step: int) -> None:
    """Also where it can just still be read, and not be walked through or written again."""
    mark = json.dumps("MARK")
    forms = [
        (place, opening, closing)
        for place in (json.dumps(variant) for variant in variants(BODIES[path], "MARK"))
        for opening, closing in (("[", "]"), ('{"a":', "}"))
    ]

    def content(form: tuple[str, str, str], depth: int) -> bytes:
        place, opening, closing = form
        return place.replace(mark, opening * depth + "1" + closing * depth).encode()

    def is_read(depth: int) -> bool:
        text = client.post(path, content=content(forms[-1], depth)).text
        return "not valid JSON" not in text and "parsing the body" not in text

    limit = bisect.bisect_left(range(2000), True, key=lambda depth: not is_read(depth))
    depths = (40, 300, *range(limit - 12, limit + 2), 5000)
    assert failures(client, path, (content(form, depth) for form in forms[::step] for depth in depths)) == []
    assert client.get("/api/export").status_code == 200
    for listing in ("/admin/pool", "/admin/audit", "/admin/engines", "/admin/aliases", "/v1/models"):
        assert client.get(listing).status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_what_is_not_one_json_object_is_refused(client: TestClient, path: str) -> None:
    good = json.dumps(BODIES[path])
    contents = [
        b"", b" ", b"\0", b"{", b"}", b"[]", b"nul", b"null", b"NaN", b"Infinity", b"1e999", b'"x"', b"{'a': 1}",
        b"{}{}", b"\xef\xbb\xbf" + good.encode(), good.encode("utf-16"), good.encode() + b",", good.encode() + b"\0",
        good.encode()[:-1], b'{"model": "\xff"}', b'{"model": "\xed\xa0\xbd"}', b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": 01}', b'{"model": "\\ud83d"}', b'{"\\ud83d": 1}',
        b'{"model": "a", "model": "b"}', b'{"a":' * 100_000, b"a=b&c=d",
    ]  # fmt: skip
    assert failures(client, path, iter(contents)) == []


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "application/json; charset=utf-16",
        "",
        "x" * 5000,
        "\xff",
    ],
)
def test_any_content_type_is_answered(client: TestClient, kind: str) -> None:
    for path, body in BODIES.items():
        answer = client.post(path, content=json.dumps(body), headers={"content-type": kind.encode("latin-1")})
        assert answer.status_code < 500 or answer.status_code == 502, (path, answer.text)
