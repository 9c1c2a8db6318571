"""Tasks over HTTP without an engine: open tasks are put into the store, then answered as a page would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from service.labelers import add_labeler
from service.preferences import prompts, tasks
from service.store.database import Store
from service.store.models import Labeler
from training.artifacts.comparisons import Response, from_json

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
MakeKey = Callable[..., dict[str, str]]
RESPONSES = [
    Response("red", "sft-1", {"temperature": 1.0, "top_p": 1.0, "seed": 5}, "stop"),
    Response("green", "ppo-1", {"temperature": 1.0, "top_p": 1.0, "seed": 6}, "length"),
]


FOREIGN = [  # as the server sees them, decoded once
    "//evil.example", "///evil.example", "https://evil.example", "https:evil.example", "/\\evil.example",
    "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\n/evil.example", "\t//evil.example",
    " //evil.example", "/%2F/evil.example", "/%09/evil.example", "/%5Cevil.example", "/./%2Fevil.example",
    "/..//evil.example", "/compare//x", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "\x01javascript:alert(1)",
    "data:text/html,x", "/compare?x=//evil", "/compare#@evil.example", "/@evil.example", "/compare:x", "", "compare",
    "/\u2044evil.example", "/\uff0fevil.example", "/compare\n", "/\0/evil.example", "/" + "a" * 5000 + ".",
]  # fmt: skip


class Desk:
    """A signed-in labeler at an in-process gateway."""

    def __init__(self, build: Build, store: Store, name: str) -> None:
        with store.session() as session:
            self.labeler, token = add_labeler(session, name, "training")
        self.store = store
        self.client = build()
        self.client.headers["X-CSRF-Token"] = self.client.post("/api/session", json={"token": token}).json()["csrf"]

    def open(self, prompt_id: str = "p0") -> str:
        """Put an open comparison into the store, and return its id."""
        prompts.import_rows(self.store, [{"id": prompt_id, "prompt": f"{prompt_id}?", "user": "writer"}])
        with self.store.session() as session:
            task, _ = tasks.open_task(
                session, self.labeler.id, "compare", prompt_id, RESPONSES, guideline="1", propensity=1.0, minutes=9
            )
            return task.id

    def post(self, path: str, body: dict[str, Any] | None = None, status: int = 200) -> dict[str, Any]:
        answer = self.client.post(path, json=body or {})
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        if status != 200:
            assert set(found) == {"error"}
            assert set(found["error"]) == {"message", "type", "param", "code"}
        return found

    def resume(self) -> dict[str, Any]:
        task: dict[str, Any] = self.post("/api/tasks/next", {"resume": True})["task"]
        return task


@pytest.fixture
def desk(app_client: Build, local_store: Store) -> Desk:
    return Desk(app_client, local_store, "Ada")


def test_a_task_tells_nothing_of_who_wrote_the_responses_until_it_is_answered(desk: Desk) -> None:
    desk.open()
    answer = desk.client.post("/api/tasks/next", json={"resume": True})
    assert not any(secret in answer.text for secret in ("sft-1", "ppo-1", "seed", "temperature"))
    task = answer.json()["task"]
    assert [response["position"] for response in task["responses"]] == [0, 1]
    assert {response["text"]: response["truncated"] for response in task["responses"]} == {"red": False, "green": True}
    assert answer.json()["progress"] == {"answered": 0, "left": 0, "set_aside": 0}
    given = desk.post(f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": [1, 2], "seconds": 1.5})
    names = {"red": "sft-1", "green": "ppo-1"}
    assert [entry["checkpoint"] for entry in given["reveal"]] == [names[r["text"]] for r in task["responses"]]
    assert given["progress"] == {"answered": 1, "left": 0, "set_aside": 0}


def test_the_export_gives_back_what_was_answered(desk: Desk, make_key: MakeKey) -> None:
    desk.open()
    task = desk.resume()
    body = {
        "token": task["token"], "ranks": [2, 1], "ratings": [None, 6], "flags": [["opinion"], []], "note": "hm",
    }  # fmt: skip
    desk.post(f"/api/tasks/{task['id']}/answer", body)
    reply = desk.client.get("/api/export", headers=make_key("export"))
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    assert reply.headers["x-content-sha256"] == hashlib.sha256(reply.content).hexdigest()
    assert reply.headers["x-rows"] == "1"
    assert desk.client.get("/api/export", headers=make_key("export")).content == reply.content
    row = from_json(reply.text)
    best = row.responses[(row.ranks or ()).index(1)]
    assert best.text == task["responses"][1]["text"]
    assert row.shown is not None
    assert [row.responses[i].text for i in row.shown] == [r["text"] for r in task["responses"]]
    assert (row.ratings or ())[row.responses.index(best)] == 6
    assert (row.labeler, row.labeler_group, row.user) == (desk.labeler.pseudonym, "training", "writer")
    assert {r.checkpoint for r in row.responses} == {"sft-1", "ppo-1"}
    assert all(r.sampling["seed"] for r in row.responses)


@pytest.mark.parametrize(
    "change, status",
    [
        ({"token": "wrong"}, 403),
        ({"ranks": [1, 2, 3]}, 400),
        ({"ranks": [1]}, 400),
        ({"ranks": [0, 1]}, 400),
        ({"ranks": [1, 3]}, 400),
        ({"ranks": [True, 1]}, 400),
        ({"ranks": ["1", "2"]}, 400),
        ({"ranks": None}, 400),
        ({"ranks": [1] * 100}, 400),
        ({"ratings": [1, 8]}, 400),
        ({"flags": [["nonsense"], []]}, 400),
        ({"labeler": "somebody else"}, 400),
        ({"token": None}, 400),
    ],
)
def test_a_wrong_answer_is_refused_and_loses_nothing(desk: Desk, change: dict[str, Any], status: int) -> None:
    desk.open()
    task = desk.resume()
    good = {"token": task["token"], "ranks": [1, 2]}
    desk.post(f"/api/tasks/{task['id']}/answer", good | change, status)
    desk.post(f"/api/tasks/{task['id']}/answer", good)


def test_a_token_works_once_and_for_its_labeler_only(desk: Desk, app_client: Build, local_store: Store) -> None:
    desk.open()
    task = desk.resume()
    good = {"token": task["token"], "ranks": [1, 2]}
    other = Desk(app_client, local_store, "Bob")
    for action, body in (("answer", good), ("skip", {"token": task["token"]}), ("undo", {})):
        other.post(f"/api/tasks/{task['id']}/{action}", body, 404)
    desk.post(f"/api/tasks/{task['id']}/answer", good)
    error = desk.post(f"/api/tasks/{task['id']}/answer", good | {"ranks": [2, 1]}, 409)["error"]
    assert error["code"] == "task_closed"
    desk.post("/api/tasks/nosuch/answer", good, 404)


def test_what_was_stored_is_said_though_the_progress_cannot_be_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is sent again is answered as the first was."""
    desk.open()
    desk.open("p1")
    task = desk.resume()
    path, body = f"/api/tasks/{task['id']}", {"token": task["token"], "ranks": [1, 2]}
    with monkeypatch.context() as broken:

        def busy(*_: Any) -> None:
            raise OperationalError("select", {}, Exception("database is locked"))

        broken.setattr("service.routes.tasks.progress", busy)
        first = desk.post(f"{path}/answer", body)
        assert first["progress"] is None
        again = desk.post(f"{path}/undo")
        assert (again["progress"], desk.post(f"{path}/undo")["task"]["token"]) == (None, again["task"]["token"])
        assert desk.post(f"{path}/skip", {"token": again["task"]["token"]})["progress"] is None
        other = desk.post("/api/tasks/next", {"resume": True})
        assert (other["task"]["prompt_id"], other["progress"]) == ("p1", None)
    assert desk.post(f"{path}/skip", {"token": again["task"]["token"]})["progress"]["answered"] == 0
    path, body["token"] = f"/api/tasks/{other['task']['id']}", other["task"]["token"]
    first = desk.post(f"{path}/answer", body)
    assert desk.post(f"{path}/answer", body | {"seconds": 2}) == first


def test_undo_opens_the_task_again_and_the_export_has_the_last_word(desk: Desk, make_key: MakeKey) -> None:
    desk.open()
    task = desk.resume()
    desk.post(f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": [1, 2]})
    again = desk.post(f"/api/tasks/{task['id']}/undo")["task"]
    assert again["responses"] == task["responses"]
    assert again["token"] != task["token"]
    assert desk.client.get("/api/export", headers=make_key("export")).text == ""
    desk.post(f"/api/tasks/{task['id']}/answer", {"token": again["token"], "all_bad": True})
    row = from_json(desk.client.get("/api/export", headers=make_key("export")).text)
    assert row.all_bad
    assert row.ranks == (1, 1)
    assert row.supersedes is not None


def test_skip_closes_a_task_without_an_answer(desk: Desk, make_key: MakeKey) -> None:
    desk.open()
    task = desk.resume()
    desk.post(f"/api/tasks/{task['id']}/skip", {"token": task["token"]})
    desk.post(f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": [1, 2]}, 409)
    assert desk.client.get("/api/export", headers=make_key("export")).text == ""


def test_changes_need_the_session_and_its_csrf_token(desk: Desk) -> None:
    desk.open()
    task = desk.resume()
    path, body = f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": [1, 2]}
    csrf = desk.client.headers.pop("X-CSRF-Token")
    assert desk.post(path, body, 403)["error"]["code"] == "csrf"
    desk.client.headers["X-CSRF-Token"] = "guess"
    desk.post(path, body, 403)
    desk.client.headers["X-CSRF-Token"] = csrf
    for header in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert desk.client.post(path, json=body, headers=header).status_code == 403
    cookies = dict(desk.client.cookies)
    desk.client.cookies.clear()
    desk.post(path, body, 401)
    desk.client.cookies.update(cookies)
    desk.post(path, body)


def test_without_a_policy_the_next_task_is_503_with_the_reason(desk: Desk, local_store: Store) -> None:
    for path, body in (("/api/tasks/next", {}), ("/api/tasks/prompt", {"text": "Hello?"})):
        error = desk.post(path, body, 503)["error"]
        assert error["code"] == "no_policy"
        assert "policy/production" in error["message"]


@pytest.mark.parametrize(
    "path, body",
    [
        ("/api/tasks/next", {"kind": "vote"}),
        ("/api/tasks/next", {"kind": "rank", "k": 1}),
        ("/api/tasks/next", {"kind": "rank", "k": 10}),
        ("/api/tasks/next", {"kind": "compare", "k": 4}),
        ("/api/tasks/next", {"kind": "rank", "k": "4"}),
        ("/api/tasks/next", {"labeler": "x"}),
        ("/api/tasks/prompt", {}),
        ("/api/tasks/prompt", {"text": " "}),
        ("/api/tasks/prompt", {"text": "x", "messages": [{"role": "user", "content": "x"}]}),
        ("/api/tasks/prompt", {"messages": [{"role": "assistant", "content": "x"}]}),
        ("/api/tasks/prompt", {"messages": []}),
    ],
)
def test_impossible_tasks_are_400(desk: Desk, path: str, body: dict[str, Any]) -> None:
    desk.post(path, body, 400)


def test_prompts_are_imported_over_http(desk: Desk, make_key: MakeKey) -> None:
    rows = [{"prompt": "One?"}, {"prompt": "Two?"}, {"prompt": "One?"}, {"text": "?"}, 7]
    reply = desk.client.post("/admin/prompts", json={"prompts": rows}, headers=make_key("admin"))
    assert reply.json() == {
        "imported": 2,
        "corrected": 0,
        "skipped": {
            "repeated in the input": 1,
            "no column that is known for this kind of data": 1,
            "not a JSON object": 1,
        },
        "ignored": {},
    }
    assert desk.client.post("/admin/prompts", json={"prompts": rows}, headers=make_key("export")).status_code == 403


def test_pages_send_a_stranger_to_sign_in_and_refuse_foreign_targets(app_client: Build) -> None:
    client = app_client()
    for path in ("/", "/compare", "/rank", "/playground", "/results"):
        reply = client.get(path, follow_redirects=False)
        assert (reply.status_code, reply.headers["location"]) == (303, f"/sign-in?next={path}")
        assert reply.content == b"", "a way elsewhere is no error"
    assert 'data-target="/rank"' in client.get("/sign-in?next=/rank").text
    for target in FOREIGN:
        page = client.get("/sign-in", params={"next": target}).text
        assert 'data-target="/compare"' in page, target


def test_pages_hold_no_inline_script_or_style_and_no_foreign_asset(desk: Desk) -> None:
    for path in ("/", "/compare", "/rank", "/playground", "/results"):
        reply = desk.client.get(path)
        assert reply.status_code == 200
        page = reply.text
        assert reply.headers["cache-control"] == "no-store"
        for forbidden in ("<script>", "<style", " style=", " onclick=", "http://", "https://"):
            assert forbidden not in page


def test_results_count_what_was_answered(desk: Desk, make_key: MakeKey) -> None:
    assert "No two models have been compared yet" in desk.client.get("/results").text
    for number in range(3):
        desk.open(f"p{number}")
        task = desk.resume()
        ranks = [1, 2] if task["responses"][0]["text"] == "red" else [2, 1]
        desk.post(f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": ranks})
    found = desk.client.get("/api/results", headers=make_key("export")).json()
    (duel,) = found["duels"]
    assert (duel["first"], duel["second"], duel["wins"], duel["losses"]) == ("ppo-1", "sft-1", 0, 3)
    assert duel["rate"]["value"] == 0.0
    assert duel["rate"]["high"] == pytest.approx(1 - 0.025 ** (1 / 3))
    page = desk.client.get("/results").text
    assert "sft-1" in page
    assert "70.8" in page


def test_a_model_named_like_markup_is_escaped_on_the_results_page(desk: Desk, local_store: Store) -> None:
    prompts.import_rows(local_store, [{"id": "p", "prompt": "?"}])
    with local_store.session() as session:
        labeler = session.get_one(Labeler, desk.labeler.id)
        responses = [Response("x", "<img src=x>"), Response("y", "b")]
        tasks.open_task(session, labeler.id, "compare", "p", responses, guideline="1", propensity=1.0, minutes=9)
    task = desk.resume()
    desk.post(f"/api/tasks/{task['id']}/answer", {"token": task["token"], "ranks": [1, 2]})
    assert "<img src=x>" not in desk.client.get("/results").text
