"""Prometheus scrapes a real gateway with traffic: every panel has data, every alert can be evaluated."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from sqlalchemy import text, update

from service.engines.manifests import served_manifest
from service.store.database import Store
from service.store.models import Alias, Engine
from tests.support.fixed_gateway import MANIFEST, add_engine
from tests.support.live_service import Running, running_service
from tests.support.prometheus import PANELS, RULES, Prometheus, scraping
from tests.support.stub_engine import chat_answer, stub_engine
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
ALIASES = {"policy/production": "policy-1", "policy/candidate": "policy-2", "reward/production": "reward-1"}
numbers = itertools.count()


async def answer(request: web.Request, body: Any) -> web.StreamResponse:
    """Policies never say the same twice, but where they are asked to; reward models score by length."""
    if request.path == "/classify":
        rows = [{"index": index, "probs": [float(len(row))]} for index, row in enumerate(body["input"])]
        return web.json_response({"data": rows})
    same = "same" in body["messages"][-1]["content"]
    texts = ["same" if same else f"answer {next(numbers)}" for _ in range(body.get("n") or 1)]
    return web.json_response(chat_answer(body, texts))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_reward: Checkpoint) -> Iterator[Running]:
    """A gateway over stub engines of two policies and a reward model, whose manifests have figures."""
    home = tmp_path_factory.mktemp("scraped")
    store = Store(f"sqlite:///{home / 'service.db'}")
    store.migrate()
    with stub_engine(answer) as engine:
        for policy in ("policy-1", "policy-2"):
            add_engine(store, policy, engine.url, {**MANIFEST, "stage": "ppo", "figures": {"published/kl": 3.2}})
        figures = {"accuracy/heldout": 0.62, "length_accuracy/heldout": 0.53}  # as training names them, by group
        manifest = served_manifest(tiny_reward, 256) | {"figures": figures}
        add_engine(store, "reward-1", engine.url, manifest, "reward")
        with store.session() as session:
            session.add_all(Alias(name=name, checkpoint=id, served=id) for name, id in ALIASES.items())
        store.close()
        with running_service(home, ()) as running:
            running.wait_for(lambda: len(httpx.get(f"{running.url}/v1/models", headers=running.headers).json()["data"]))
            yield running


@pytest.fixture(scope="module")
def prometheus(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraping(service.url, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def traffic(service: Running) -> None:
    """Answers, scores, refusals, and a labeler who ranks, skips and takes back."""
    with service.client() as client:
        chat = {"model": "policy/production", "messages": [{"role": "user", "content": "so"}]}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert client.post("/v1/chat/completions", json={**chat, "model": "none"}).status_code == 404
        body = {"model": "reward/production", "messages": chat["messages"], "responses": ["hot", "cold"]}
        assert client.post("/score", json=body).status_code == 200
        number = next(numbers)
        rows = [{"prompt": f"{kind} {number}.{n}"} for kind in ("same", "other") for n in range(6)]
        client.post("/admin/prompts", json={"prompts": rows}).raise_for_status()
        token = client.post("/admin/labelers", json={"name": f"labeler {number}"}).json()["token"]
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as labeler:
        labeler.headers["X-CSRF-Token"] = labeler.post("/api/session", json={"token": token}).json()["csrf"]
        for action in ("skip", "answer", "undo"):
            task = labeler.post("/api/tasks/next", json={"kind": "compare"}).raise_for_status().json()["task"]
            body = {"token": task["token"]} | ({} if action == "skip" else {"ranks": [1, 2], "seconds": 1.0})
            first = "skip" if action == "skip" else "answer"
            labeler.post(f"/api/tasks/{task['id']}/{first}", json=body).raise_for_status()
            if action == "undo":
                labeler.post(f"/api/tasks/{task['id']}/undo", json={}).raise_for_status()


def test_every_panel_has_data(service: Running, prometheus: Prometheus) -> None:
    queries = {f"{title}: {query}": query for title, query in PANELS}
    assert len(queries) >= 15
    assert prometheus.without_data(queries, lambda: traffic(service), 120) == {}
    assert prometheus.values('alignloop_requests_total{route="/nowhere"}') == []  # not everything has data


def test_every_alert_is_evaluated_on_metrics_that_are_there(service: Running, prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 30
    while True:
        (group,) = prometheus.ask("rules")["groups"]
        if all(rule["health"] != "unknown" for rule in group["rules"]) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in group["rules"]} == {
        rule["alert"]: ("ok", "") for rule in RULES
    }
    metrics = {name for rule in RULES for name in re.findall(r"alignloop_\w+|\bup\b", rule["expr"])}
    traffic(service)
    assert prometheus.without_data({name: name for name in metrics}, lambda: None, 10) == {}
    assert prometheus.ask("alerts")["alerts"] == []  # a service that is well


def test_engines_that_fail_are_seen(service: Running, prometheus: Prometheus) -> None:
    with service.store.session() as session:
        session.execute(update(Engine).values(state="failed"))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pending = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}
        if {"NoEngineReady", "EngineFailed"} <= pending:
            break
        time.sleep(0.5)
    assert pending == {"NoEngineReady", "EngineFailed"}
    assert sorted(prometheus.values("alignloop_engines")) == [1.0, 1.0, 1.0]
    with service.store.session() as session:
        session.execute(update(Engine).values(state="ready"))


def test_a_store_that_cannot_be_read_is_seen(service: Running, prometheus: Prometheus) -> None:
    def rename(old: str, new: str) -> None:
        with service.store.session() as session:
            session.execute(text(f"alter table {old} rename to {new}"))

    rename("engines", "gone")
    try:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and max(prometheus.values("alignloop_table_age_seconds"), default=0) <= 3:
            time.sleep(0.5)
        assert max(prometheus.values("alignloop_table_age_seconds")) > 3
    finally:
        rename("gone", "engines")
    time.sleep(2.5)
    assert max(prometheus.values("alignloop_table_age_seconds")) < 2
