"""Odd text at every entrance: it is refused with 4xx or stored, and nothing fails later because of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import text as sql

from service.__main__ import main
from service.app import create_app
from service.keys import add_key
from service.labelers import add_labeler
from service.preferences import answers, export, prompts, tasks
from service.preferences.answers import Judgement
from service.schemas import Body
from service.settings import Settings
from service.store.database import Store
from tests.service.conftest import engine_row
from tests.support.odd_text import LONE, ODD, UNSTORABLE
from tests.support.stub_reward import stub_reward
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Response
from training.artifacts.errors import UserError

RESPONSES = [Response("red", "sft-1"), Response("green", "sft-1")]
READINGS = ("/api/export", "/api/results", "/admin/keys", "/admin/aliases", "/admin/engines", "/v1/models")


class Entrances:
    """Every way by which text comes in over HTTP, as `name -> send(text)`."""

    def __init__(self, client: TestClient, store: Store) -> None:
        self.client, self.store = client, store
        with store.session() as session:
            key = add_key(session, "test", ["admin"])[1]
            self.labeler, token = add_labeler(session, "Ada")
        self.admin = {"Authorization": f"Bearer {key}"}
        self.csrf = {"X-CSRF-Token": self.post("/api/session", {"token": token}).json()["csrf"]}
        self.number = 0

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        content = json.dumps(body).encode()  # lone surrogates as \\udxxx, as any JSON writer sends them
        return self.client.post(path, content=content, headers={"content-type": "application/json", **(headers or {})})

    def task(self) -> tuple[str, str]:
        self.number += 1
        name = f"task-{self.number}"
        prompts.import_rows(self.store, [{"id": name, "prompt": "one?"}])
        with self.store.session() as session:
            task, token = tasks.open_task(
                session, self.labeler.id, "compare", name, RESPONSES, guideline="1", propensity=1.0, minutes=9
            )
            return task.id, token

    def note(self, odd: str) -> Any:
        task, token = self.task()
        return self.post(f"/api/tasks/{task}/answer", {"token": token, "ranks": [1, 2], "note": odd}, self.csrf)

    def flags(self, odd: str) -> Any:
        task, token = self.task()
        return self.post(
            f"/api/tasks/{task}/answer", {"token": token, "ranks": [1, 2], "flags": [[odd], []]}, self.csrf
        )

    def token(self, odd: str) -> Any:
        return self.post(f"/api/tasks/{self.task()[0]}/skip", {"token": odd}, self.csrf)

    def imported(self, row: dict[str, Any]) -> Any:
        return self.post("/admin/prompts", {"prompts": [{"prompt": "ok?"}, row]}, self.admin)

    def score(self, body: dict[str, Any]) -> Any:
        answer = self.post("/score", {"model": "reward-1", **body}, self.admin)
        if answer.status_code == 200:
            assert len(answer.json()["data"]) == 2
            assert "score" in answer.json()["data"][0], "a neighbour is scored"
        return answer

    def all(self) -> dict[str, Callable[[str], Any]]:
        def user(odd: str) -> list[dict[str, str]]:
            return [{"role": "user", "content": odd}]

        fine = user("how is it")
        return {
            "sign-in": lambda odd: self.post("/api/session", {"token": odd}),
            "note": self.note,
            "flags": self.flags,
            "token": self.token,
            "typed": lambda odd: self.post("/api/tasks/prompt", {"text": odd}, self.csrf),
            "typed messages": lambda odd: self.post("/api/tasks/prompt", {"messages": user(odd)}, self.csrf),
            "kind": lambda odd: self.post("/api/tasks/next", {"kind": odd}, self.csrf),
            "key's name": lambda odd: self.post("/admin/keys", {"name": odd, "scopes": ["score"]}, self.admin),
            "scope": lambda odd: self.post("/admin/keys", {"name": "x", "scopes": [odd]}, self.admin),
            "labeler": lambda odd: self.post("/admin/labelers", {"name": odd, "group": odd}, self.admin),
            "engine": lambda odd: self.post("/admin/engines", {"checkpoint": odd}, self.admin),
            "import: prompt": lambda odd: self.imported({"prompt": odd}),
            "import: messages": lambda odd: self.imported({"messages": user(odd)}),
            "import: id": lambda odd: self.imported({"prompt": "id?", "id": odd}),
            "import: user": lambda odd: self.imported({"prompt": f"user {odd}?", "user": odd, "use_case": odd}),
            "import: mode": lambda odd: self.imported({"prompt": f"mode {odd}?", "mode": odd, "spec": {odd: [odd]}}),
            "import: column": lambda odd: self.imported({"prompt": f"column {odd}?", odd: odd}),
            "score: response": lambda odd: self.score({"messages": fine, "responses": ["fine", odd]}),
            "score: turn": lambda odd: self.score(
                {"conversations": [[*fine, {"role": "assistant", "content": t}] for t in ("fine", odd)]}
            ),
            "score: model": lambda odd: self.post("/score", {"model": odd, "messages": fine, "responses": ["a"]}),
            "any field": lambda odd: self.post("/score", {"model": "reward-1", odd: odd}, self.admin),
            "alias": lambda odd: self.post("/admin/aliases/policy/x/rollback", {odd: odd}, self.admin),
        }


@pytest.fixture
def entrances(store: Store, tmp_path: Path, tiny_reward: Checkpoint) -> Iterator[Entrances]:
    with stub_reward() as stub, store.session() as session:
        row = engine_row("reward-1", url=stub.url, kind="reward")
        row.manifest = {**row.manifest, "path": str(tiny_reward.path), "stop_ids": []}
        stub.context = 256
        session.add(row)
        session.commit()
        url = store.engine.url.render_as_string(hide_password=False)
        app = create_app(Settings(database=url, checkpoints=tmp_path))
        with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
            yield Entrances(client, store)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_odd_text_is_refused_or_stored_and_nothing_fails_later(entrances: Entrances, step: int) -> None:
    unexpected = []
    for number, (name, send) in enumerate(entrances.all().items()):
        for odd in ODD[number % step :: step]:
            answer = send(odd)
            down = answer.status_code == 503 and name.startswith("typed")  # no policy is served here
            if answer.status_code >= 500 and not down:
                unexpected.append((name, odd[:20].encode(errors="replace"), answer.status_code, answer.text[:200]))
    assert unexpected == []
    for path in READINGS:
        assert entrances.client.get(path, headers=entrances.admin).status_code == 200, path
    # Not `splitlines`: texts hold other characters that it takes for the end of a line.
    lines = entrances.client.get("/api/export", headers=entrances.admin).text.removesuffix("\n").split("\n")
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 100 // step - 5
    buffer = BytesIO()
    with entrances.store.session() as session:
        assert export.write(session, buffer).mended == 0


ADDRESSES = [
    ("GET", "/v1/models/{}"), ("PUT", "/admin/aliases/{}"), ("DELETE", "/admin/aliases/{}"),
    ("DELETE", "/admin/aliases/policy/x?version={}"), ("POST", "/admin/aliases/{}/rollback"),
    ("DELETE", "/admin/engines/{}"), ("DELETE", "/admin/keys/{}"), ("DELETE", "/admin/labelers/{}"),
    ("POST", "/admin/labelers/{}/enable"), ("POST", "/admin/labelers/{}/token"),
    ("PUT", "/admin/labelers/{}/exclusion"),
    ("DELETE", "/admin/labelers/{}/exclusion"), ("GET", "/admin/audit?subject={}"), ("GET", "/admin/audit?limit={}"),
    ("GET", "/admin/pool?checkpoint={}"), ("GET", "/admin/pool?limit={0}&offset={0}"), ("GET", "/api/export?since={}"),
    ("POST", "/api/tasks/{}/answer"), ("POST", "/api/tasks/{}/undo"), ("POST", "/api/tasks/{}/skip"),
    ("GET", "/sign-in?next={}"), ("GET", "/static/{}"), ("GET", "/{}"), ("GET", "/health/live?{}"),
    ("POST", "/score?{}={}"),
]  # fmt: skip
NUMBERS = ["-1", "0", "1e9", "NaN", "9" * 30, "9" * 5000, "1.5", "0x10", "\u0661", "1_000", "+1", "1,2", "true", "[]"]
TIMES = [
    "0",
    "-1",
    "1e300",
    "9" * 20,
    "2026-13-01",
    "2026-01-01T25:00",
    "2026-01-01T00:00:00+99:99",
    "now",
    "2026",
    "inf",
]


@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_odd_text_in_an_address(entrances: Entrances, step: int) -> None:
    bodies = {
        "PUT": {"checkpoint": "reward-1"},
        "/answer": {"token": "x", "ranks": [1, 2]},
        "/skip": {"token": "x"},
    }
    # As clients encode them, and bytes that are no UTF-8.
    odd = [quote(text, safe="", errors="surrogatepass") for text in [*ODD, *NUMBERS, *TIMES]]
    odd += [
        "%ff",
        "%c0%ae%c0%ae",
        "%ed%a0%bd",
        "%",
        "%zz",
        "%00",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "a%0d%0aSet-Cookie:%20a=b",
    ]
    unexpected = []
    for number, (method, path) in enumerate(ADDRESSES):
        body = next((bodies[name] for name in bodies if path.endswith(name) or name == method), None)
        for text in odd[number % step :: step]:
            address = path.format(text[:50_000], text[:50_000])
            headers = entrances.admin | entrances.csrf
            answer = entrances.client.request(method, address, json=body, headers=headers, follow_redirects=False)
            if answer.status_code >= 500 or "a" in answer.cookies:
                unexpected.append((method, address[:100], answer.status_code, answer.text[:200]))
    assert unexpected == []
    for path in READINGS:
        assert entrances.client.get(path, headers=entrances.admin).status_code == 200, path


def test_what_cannot_be_stored_is_refused_by_name(entrances: Entrances) -> None:
    for odd in UNSTORABLE[::4]:
        answer = entrances.note(odd)
        assert answer.status_code == 400
        assert "`note` holds" in answer.json()["error"]["message"]
        scored = entrances.all()["score: response"](odd)
        if odd in LONE:
            assert "half a character" in scored.json()["data"][1]["error"]["message"]


@pytest.mark.unit
def test_every_body_is_checked(app_client: Callable[..., TestClient]) -> None:
    app = app_client().app
    assert isinstance(app, FastAPI)
    bodies = [
        (route.path, field.field_info.annotation)
        for route in app.routes
        if isinstance(route, APIRoute)
        for field in route.dependant.body_params
    ]
    assert len(bodies) > 10
    unchecked = [path for path, body in bodies if isinstance(body, type) and not issubclass(body, (Body,))]
    assert unchecked == []
    assert issubclass(Body, BaseModel)


@pytest.mark.parametrize("half", [LONE[0], "\\ud83d"])
def test_a_store_that_holds_half_a_character_is_exported(store: Store, half: str, tmp_path: Path) -> None:
    """As versions before this one stored it."""
    prompts.import_rows(store, [{"id": name, "prompt": f"{name}?", "mode": "MARK"} for name in ("a", "b")])
    with store.session() as session:
        labeler, _ = add_labeler(session, "Ada")
        for name in ("a", "b"):
            task, token = tasks.open_task(
                session, labeler.id, "compare", name, RESPONSES, guideline="1", propensity=1.0, minutes=9
            )
            answers.answer(session, task.id, labeler.id, token, Judgement(ranks=[1, 2]))
    escaped = json.dumps(half)[1:-1]
    with store.engine.begin() as connection:
        connection.execute(
            sql("update prompts set meta = :meta where id = 'a'"), {"meta": '{"mode": "MARK"}'.replace("MARK", escaped)}
        )
    with store.session() as session:
        done = export.export_file(session, tmp_path / "out.jsonl")
    assert (done.rows, done.mended) == (2, half == LONE[0])
    modes = {json.loads(line)["meta"]["mode"] for line in (tmp_path / "out.jsonl").read_text().splitlines()}
    assert modes == {"MARK", "?" if half == LONE[0] else half}


@pytest.mark.unit
@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "add", "n" * 300, "--scopes", "score"],
        ["keys", "add", LONE[0], "--scopes", "score"],
        ["keys", "add", " ", "--scopes", "score"],
        ["keys", "add", "a\x1b[31m", "--scopes", "score"],
        ["keys", "add", "x", "--scopes", "score", "--days", "1e9"],
        ["keys", "add", "x", "--scopes", "score", "--days", "nan"],
        ["keys", "add", "x", "--scopes", "score", "--days", "-1"],
        ["keys", "revoke", LONE[0]],
        ["labelers", "add", "Ada", "--group", "g" * 50],
        ["labelers", "add", LONE[0]],
        ["labelers", "disable", LONE[0]],
        ["rollback", f"policy/{LONE[0]}"],
        ["import", "prompts", LONE[0]],
    ],
)
def test_a_command_refuses_it_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        main([*arguments, "--home", str(tmp_path)])
    assert len(str(caught.value)) < 300


@pytest.mark.unit
def test_a_byte_order_mark_loses_no_row(tmp_path: Path, local_store: Store) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"prompt": "one?"}\n{"prompt": "two?"}\n')
    assert prompts.import_prompts(local_store, str(tmp_path / "prompts.jsonl")).imported == 2


@pytest.mark.unit
@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar(
    app_client: Callable[..., TestClient], make_key: Callable[..., dict[str, str]], since: str
) -> None:
    answer = app_client().get(f"/api/export?since={since}", headers=make_key("export"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "since")
