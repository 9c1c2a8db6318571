"""Work that any replica can do: one that is down or full is passed over, one that answered is not."""

from __future__ import annotations

import asyncio

import pytest

from service.endpoints import Endpoint, Endpoints
from service.engines import gateway, protocol
from service.errors import ApiError
from service.store.database import Store
from tests.service.conftest import engine_row

pytestmark = pytest.mark.unit


@pytest.fixture
def endpoints(local_store: Store) -> Endpoints:
    with local_store.session() as session:
        session.add_all([engine_row("sft-1", f"http://127.0.0.1:{port}") for port in (1, 2, 3)])
    followed = Endpoints(local_store)
    followed.refresh()
    return followed


def outcome(endpoints: Endpoints, failures: list[ApiError]) -> tuple[str | int, int]:
    """What comes of work whose first tries fail: the answer or the status, and the number of tries."""
    tried: list[str] = []

    async def work(engine: Endpoint) -> str:
        tried.append(engine.url)
        assert endpoints.running[engine.url] == 1
        if len(tried) <= len(failures):
            raise failures[len(tried) - 1]
        return "done"

    candidates = endpoints.candidates("sft-1", "policy")
    try:
        answer: str | int = asyncio.run(gateway.answer_of_any(endpoints, candidates, 9, work))
    except ApiError as error:
        answer = error.status
    assert len(set(tried)) == len(tried)
    assert endpoints.running.total() == 0
    return answer, len(tried)


def test_replicas_that_are_down_are_passed_over(endpoints: Endpoints) -> None:
    down = protocol.down("sft-1")
    assert outcome(endpoints, []) == ("done", 1)
    assert outcome(endpoints, [down, down]) == ("done", 3)
    assert outcome(endpoints, [down, down, down]) == (503, 3)


def test_what_a_replica_refuses_or_is_late_with_is_not_asked_of_another(endpoints: Endpoints) -> None:
    for error in (ApiError(400, "too long"), protocol.timed_out("sft-1"), protocol.garbled("sft-1")):
        assert outcome(endpoints, [error]) == (error.status, 1)


def test_an_engine_with_too_many_requests_is_passed_over(endpoints: Endpoints) -> None:
    first, second, third = endpoints.candidates("sft-1", "policy")

    async def work(engine: Endpoint) -> str:
        return engine.url

    with endpoints.busy(first, 1), endpoints.busy(second, 1):
        assert asyncio.run(gateway.answer_of_any(endpoints, [first, second, third], 1, work)) == third.url
