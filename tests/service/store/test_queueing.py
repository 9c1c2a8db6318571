"""Threads that write to SQLite at once each get their turn."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.store.database import Store
from service.store.models import Audit

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(f"sqlite:///{tmp_path}/service.db")
    opened.migrate()
    yield opened
    opened.close()


def write(store: Store, subject: str, seconds: float = 0.0) -> None:
    with store.session() as session:
        session.add(Audit(actor="a", action="b", subject=subject))
        session.flush()
        time.sleep(seconds)


def test_turns_follow_the_order_of_coming(store):
    order: list[int] = []

    def one(number: int) -> None:
        write(store, str(number), 0.02)
        order.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert sorted(order) == list(range(40))
    with store.session() as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 40


def test_a_failed_transaction_gives_its_turn_back(store):
    def fail() -> None:
        with store.session() as session:
            session.add(Audit(actor="a", action="b", subject="lost"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    done = threading.Thread(target=write, args=(store, "next"), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    with store.session() as session:
        assert session.scalars(select(Audit.subject)).all() == ["next"]


def test_readers_do_not_wait(store):
    with store.session() as writing:
        writing.add(Audit(actor="a", action="b", subject="c"))
        writing.flush()
        with store.session() as reading:
            assert reading.scalar(select(func.count()).select_from(Audit)) == 0
