"""Labelers, keys and the pool: the same rules and audit rows from the command line and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from service import aliases
from service.__main__ import main
from service.labelers import add_labeler
from service.preferences import answers, export, pool, prompts, tasks
from service.preferences.answers import Judgement
from service.store.database import Store
from service.store.models import Audit, Labeler, Prompt, SetAside
from training.artifacts.comparisons import Response
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
MakeKey = Callable[..., dict[str, str]]


@pytest.fixture
def admin(app_client: Build, make_key: MakeKey) -> TestClient:
    client = app_client()
    client.headers.update(make_key("admin"))
    return client


@pytest.fixture
def command(tmp_path: Path, local_store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command on `local_store`; returns what it printed on standard output."""

    def run(*words: str) -> str:
        capsys.readouterr()
        main([*words, "--database", str(local_store.engine.url)])
        return capsys.readouterr().out

    return run


def actions(store: Store) -> list[tuple[str, str]]:
    with store.session() as session:
        return [(row.action, row.subject) for row in session.scalars(select(Audit).order_by(Audit.id))]


def signs_in(client: TestClient, token: str) -> bool:
    return client.post("/api/session", json={"token": token}).status_code == 200


def test_a_labelers_life_over_http(admin: TestClient, local_store: Store) -> None:
    added = admin.post("/admin/labelers", json={"name": "Ada Lovelace", "group": "heldout"}).json()
    taken = admin.post("/admin/labelers", json={"name": "Ada Lovelace"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
    assert signs_in(admin, added["token"])
    path = "/admin/labelers/Ada Lovelace"
    fresh = admin.post(f"{path}/token").json()["token"]
    assert admin.get("/api/session").status_code == 401, "a session of the lost token goes on"
    assert not signs_in(admin, added["token"])
    assert signs_in(admin, fresh)
    assert admin.delete(path).json()["disabled"]
    assert not signs_in(admin, fresh)
    assert admin.post(f"{path}/enable").json()["disabled"] is None
    assert signs_in(admin, fresh)
    assert admin.put(f"{path}/exclusion").json()["excluded"]
    (row,) = admin.get("/admin/labelers").json()["data"]
    assert (row["name"], row["group"], row["answered"]) == ("Ada Lovelace", "heldout", 0)
    assert row["excluded"]
    assert "token" not in row
    assert admin.delete(f"{path}/exclusion").json()["excluded"] is None
    for method, rest in (("DELETE", ""), ("POST", "/enable"), ("POST", "/token"), ("PUT", "/exclusion")):
        missing = admin.request(method, f"/admin/labelers/nobody{rest}")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    who = added["pseudonym"]
    names = [action for action, subject in actions(local_store) if subject == who]
    assert [name for name in names if name != "sign_in"] == [
        "add_labeler", "reissue_token", "disable_labeler", "enable_labeler", "exclude_labeler", "include_labeler",
    ]  # fmt: skip
    assert names.count("sign_in") == 3


def test_the_same_from_the_command_line(command: Callable[..., str], admin: TestClient, local_store: Store) -> None:
    token = command("labelers", "add", "Ada").strip()
    with pytest.raises(UserError, match="already"):
        command("labelers", "add", "Ada")
    fresh = command("labelers", "reissue", "Ada").strip()
    assert fresh != token
    for action in ("disable", "enable", "exclude", "include"):
        assert command("labelers", action, "Ada") == ""
    assert signs_in(admin, fresh)
    assert "Ada" in command("labelers", "list")
    assert [action for action, _ in actions(local_store)][:6] == [
        "add_labeler", "reissue_token", "disable_labeler", "enable_labeler", "exclude_labeler", "include_labeler",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no labeler 'Eve'"):
        command("labelers", "enable", "Eve")


def test_the_audit_names_the_key_and_not_only_its_free_name(admin: TestClient, local_store: Store) -> None:
    body = {"name": "root (command line)", "scopes": ["admin"]}
    keys = [admin.post("/admin/keys", json=body).json() for _ in range(2)]
    for key in keys:
        headers = {"Authorization": f"Bearer {key['key']}"}
        admin.post("/admin/labelers", json={"name": key["id"]}, headers=headers)
    with local_store.session() as session:
        actors = session.scalars(select(Audit.actor).where(Audit.action == "add_labeler")).all()
    assert actors == [f"root (command line) (key {key['id'][:8]})" for key in keys]


def test_what_goes_in_and_out_in_bulk_leaves_a_row(
    command: Callable[..., str], admin: TestClient, local_store: Store, tmp_path: Path
) -> None:
    rows = [{"prompt": "one?"}, {"prompt": "two?"}, 7]
    assert admin.post("/admin/prompts", json={"prompts": rows}).status_code == 200
    sha = admin.get("/api/export").headers["x-content-sha256"]
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "three?"}\n')
    command("import", "prompts", str(tmp_path / "prompts.jsonl"))
    command("export", str(tmp_path / "out.jsonl"))
    data = admin.get("/admin/audit").json()["data"][::-1]
    assert [(row["action"], row["subject"]) for row in data] == [
        ("import_prompts", "prompts"),
        ("export", "comparisons"),
    ] * 2
    assert [row["actor"].startswith("test (key ") for row in data] == [True, True, False, False]
    assert data[0]["detail"] == {"imported": 2, "corrected": 0, "skipped": 1}
    assert data[1]["detail"] == {"rows": 0, "sha256": sha} == data[3]["detail"]


def test_a_labeler_is_not_named_like_a_visitor(admin: TestClient) -> None:
    """Visitors of open mode are forgotten when their sessions end."""
    refused = admin.post("/admin/labelers", json={"name": " visitor Ada"})
    assert refused.status_code == 400
    assert "visitors" in refused.json()["error"]["message"]


@pytest.mark.parametrize("version", [-1, 2**31, 10**30, 1.5, "x", True, None, []])
def test_a_version_that_no_alias_can_have_is_refused(admin: TestClient, version: Any) -> None:
    body = {"checkpoint": "sft-1", "version": version}
    answer = admin.put("/admin/aliases/policy/production", json=body)
    assert answer.status_code == (404 if version in (None, True) else 400), answer.text
    if not isinstance(version, (bool, list, type(None))):
        removed = admin.delete(f"/admin/aliases/policy/production?version={version}")
        assert removed.status_code == 400, removed.text


def test_who_was_overtaken_is_told_by_the_kind_of_error(admin: TestClient, local_store: Store) -> None:
    """Whatever the alias is called."""
    for name in ("policy/changed", "policy/unchanged"):
        missing = admin.post(f"/admin/aliases/{name}/rollback")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        assert admin.delete(f"/admin/aliases/{name}").status_code == 404
        with local_store.session() as session:
            aliases.promote(session, name, "sft-1", "me")
        late = admin.delete(f"/admin/aliases/{name}?version=7")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
        nothing = admin.post(f"/admin/aliases/{name}/rollback")
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (400, None)


def test_long_work_of_the_store_holds_up_nobody_else(
    admin: TestClient, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports have threads of their own: sessions are read meanwhile."""
    released = threading.Event()
    real = export.write

    def slow(*arguments: Any) -> Any:
        released.wait(20)
        return real(*arguments)

    monkeypatch.setattr(export, "write", slow)
    with local_store.session() as session:
        _, token = add_labeler(session, "Ada")
    with ThreadPoolExecutor(16) as threads:
        exports = [threads.submit(admin.get, "/api/export") for _ in range(14)]
        try:
            assert signs_in(admin, token)
            assert admin.get("/api/session").status_code == 200
            assert not any(one.done() for one in exports)
        finally:
            released.set()
        assert [one.result().status_code for one in exports] == [200] * 14


def test_keys_are_revoked_by_id_or_prefix(admin: TestClient) -> None:
    keys = [admin.post("/admin/keys", json={"name": "x", "scopes": ["score"]}).json() for _ in range(2)]
    assert admin.delete(f"/admin/keys/{keys[0]['id']}").json()["revoked"]
    assert admin.delete(f"/admin/keys/{keys[1]['prefix']}").json()["revoked"]
    assert admin.delete("/admin/keys/nothing").status_code == 404
    assert all("key" not in row for row in admin.get("/admin/keys").json()["data"])


@pytest.fixture
def refused(local_store: Store) -> Store:
    """Prompts p0 to p4: p0 and p1 refused by `a`, p1 by `b` too, p4 retired."""
    prompts.import_rows(local_store, [{"id": f"p{i}", "prompt": f"Question [b]{i}[/b]?"} for i in range(5)])
    with local_store.session() as session:
        pool.set_aside(session, "p0", {"a": "System role not supported"})
        pool.set_aside(session, "p1", {"a": "too long \ud83d \0 it is", "b": "no"})
        pool.set_aside(session, "p1", {"a": "a second time", "b": "no"})
        pool.retire(session, "p4", "private")
    return local_store


def test_what_is_out_of_use_is_listed_with_policy_and_reason_and_brought_back(
    refused: Store, admin: TestClient
) -> None:
    shown = admin.get("/admin/pool").json()
    assert shown["summary"] == {"in_use": 4, "answered": 0, "retired": 1, "set_aside": {"a": 2, "b": 1}}
    rows = {(row["prompt"], row["checkpoint"]): row["reason"] for row in shown["data"]}
    assert rows == {
        ("p0", "a"): "System role not supported",
        ("p1", "a"): "too long ? \N{REPLACEMENT CHARACTER} it is",
        ("p1", "b"): "no",
        ("p4", None): "private",
    }
    assert [row["prompt"] for row in admin.get("/admin/pool?checkpoint=b").json()["data"]] == ["p1"]
    pages = [admin.get(f"/admin/pool?limit=1&offset={i}").json()["data"] for i in range(5)]
    assert [len(page) for page in pages] == [1, 1, 1, 1, 0]
    assert len({(page[0]["prompt"], page[0]["checkpoint"]) for page in pages[:4]}) == 4

    def restore(status: int = 200, **body: Any) -> Any:
        answer = admin.post("/admin/pool/restore", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    restore(400)
    assert restore(404, prompts=["p9"])["error"]["code"] == "not_found"
    assert restore(prompts=["p1"], checkpoint="b") == {"restored": 1}
    assert restore(checkpoint="a") == {"restored": 2}
    assert restore(prompts=["p4", "p3"]) == {"restored": 1}
    assert admin.get("/admin/pool").json()["data"] == []
    with refused.session() as session:
        assert session.get_one(Prompt, "p4").meta == {}
    assert admin.post("/admin/pool/retire", json={"prompts": ["p2", "p3"], "reason": "spam"}).json() == {"retired": 2}
    assert {row["reason"] for row in admin.get("/admin/pool").json()["data"]} == {"spam"}
    assert [action for action, _ in actions(refused)][-2:] == ["retire_prompt", "retire_prompt"]


def test_many_prompts_go_and_come_back_in_batches_in_which_others_write(
    local_store: Store, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"p{number}" for number in range(10)]
    prompts.import_rows(local_store, [{"id": name, "prompt": f"{name}?"} for name in names])
    with local_store.session() as session:
        for name in names:
            pool.set_aside(session, name, {"a": "too long"})
    monkeypatch.setattr("service.administration.pool.BATCH", 3)
    retired: list[int] = []

    def look(store: Store, began: float) -> None:
        with store.session() as session:
            retired.append(session.scalar(select(func.count(Prompt.retired))) or 0)
            session.add(Audit(actor="somebody", action="else", subject="meanwhile"))

    monkeypatch.setattr(Store, "give_way", look)
    body = {"prompts": [*names, "p0"], "reason": "old"}
    assert admin.post("/admin/pool/retire", json={**body, "prompts": [*names, "none"]}).status_code == 404
    assert admin.post("/admin/pool/retire", json=body).json() == {"retired": 10}
    assert retired == [3, 6, 9, 10]
    assert [action for action, _ in actions(local_store)].count("retire_prompt") == 10
    assert admin.post("/admin/pool/restore", json={"checkpoint": "a"}).json() == {"restored": 10}
    assert admin.post("/admin/pool/restore", json={"prompts": names}).json() == {"restored": 10}
    assert retired[4:] == [10, 10, 10, 10, 7, 4, 1, 0]


def test_the_pool_from_the_command_line(refused: Store, command: Callable[..., str]) -> None:
    listed = command("pool", "list")
    for text in ("p0", "System role", "everybody", "private"):
        assert text in listed
    command("pool", "restore", "--checkpoint", "a")
    with refused.session() as session:
        assert [row.checkpoint for row in session.scalars(select(SetAside))] == ["b"]
    command("pool", "retire", "p0", "--reason", "spam")
    command("pool", "restore", "p0", "p1", "p4")
    assert "p0" not in command("pool", "list")
    with pytest.raises(UserError, match="name prompts"):
        command("pool", "restore")
    with pytest.raises(UserError, match="no prompt 'p9'"):
        command("pool", "retire", "p9", "--reason", "x")


def test_results_say_who_changed_or_withdrew_after_the_names_were_shown(local_store: Store, admin: TestClient) -> None:
    prompts.import_rows(local_store, [{"id": "p", "prompt": "?"}])
    with local_store.session() as session:
        labeler, token = add_labeler(session, "Ada")
        responses = [Response("x", "A"), Response("y", "B")]
        task, secret = tasks.open_task(
            session, labeler.id, "compare", "p", responses, guideline="1", propensity=1.0, minutes=9
        )
        answers.answer(session, task.id, labeler.id, secret, Judgement(ranks=[1, 2]))
        answers.undo(session, task.id, labeler.id, 9)
    figures = admin.get("/api/results").json()
    assert (figures["votes"], figures["revised"], figures["withdrawn"]) == (1, 0, 1)
    assert figures["changes"] == [{"labeler": labeler.pseudonym, "revised": 0, "withdrawn": 1}]
    assert len(figures["duels"]) == 1
    assert admin.get("/api/export").text == ""
    assert signs_in(admin, token)
    page = admin.get("/results").text
    assert "Changed after the names were shown" in page
    assert admin.put(f"/admin/labelers/{labeler.pseudonym}/exclusion").status_code == 200
    assert admin.get("/api/results").json()["votes"] == 0
    with local_store.session() as session:
        assert session.get_one(Labeler, labeler.id).excluded is not None
