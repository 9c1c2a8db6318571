"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from service import metrics

pytestmark = pytest.mark.unit


def engines() -> list[str]:
    return sorted(line for line in metrics.text().decode().splitlines() if line.startswith("alignloop_engines{"))


def test_a_scrape_sees_all_engines_or_those_before() -> None:
    """The table is read in another thread than the one that is scraped."""
    metrics.show_engines([("a", "ready"), ("b", "ready")])
    before = engines()
    assert before == [
        'alignloop_engines{model="a",state="ready"} 1.0', 'alignloop_engines{model="b",state="ready"} 1.0'
    ]  # fmt: skip
    during: list[list[str]] = []

    def states() -> Iterator[tuple[str, str]]:
        for state in (("a", "ready"), ("a", "ready"), ("b", "failed")):
            during.append(engines())
            yield state

    metrics.show_engines(states())
    assert during == [before] * 3
    assert engines() == [
        'alignloop_engines{model="a",state="ready"} 2.0', 'alignloop_engines{model="b",state="failed"} 1.0'
    ]  # fmt: skip
    metrics.show_engines([])
    assert engines() == []


def series() -> set[str]:
    """Every series of ours, without its value."""
    lines = metrics.text().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if line.startswith("alignloop_") and "_created" not in line}


def test_no_text_of_a_caller_becomes_a_label(app_client: Callable[..., TestClient]) -> None:
    """Each new series costs memory in the gateway and in Prometheus for as long as they run."""
    client = app_client(open=True)

    def hostile(number: int) -> None:
        odd = f"no-such-{number}"
        chat = {"model": f'{odd}"\n{{}}', "messages": [{"role": "user", "content": odd}]}
        client.post("/v1/chat/completions", json=chat)
        client.post("/score", json={"model": odd, "messages": chat["messages"], "responses": [odd]})
        for method in ("GET", "POST", "DELETE", odd.upper()):
            for path in (
                f"/{odd}",
                f"/static/{odd}.js",
                f"/v1/models/{odd}",
                f"/api/tasks/{odd}/answer",
                f"/trace/{odd}",
            ):
                client.request(method, path, headers={"host": "127.0.0.1:8000"})
        client.get("/metrics", headers={"host": f"{odd}.example"})

    hostile(0)
    before = series()
    for number in range(1, 20):
        hostile(number)
    assert series() == before
    assert not any("no-such" in line for line in before)


@pytest.mark.parametrize("number", [10**400, 10**300, -5, True, 1.5, "9"])
def test_an_engine_that_counts_nonsense_does_not_spoil_the_counter(number: object) -> None:
    before = metrics.tokens.labels("odd", "prompt")._value.get()
    metrics.count_tokens("odd", {"prompt_tokens": number})
    assert metrics.tokens.labels("odd", "prompt")._value.get() - before in (0, 1)
