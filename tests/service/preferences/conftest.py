"""Labelers, prompts and responses in the `store` of the service's tests."""

from __future__ import annotations

import pytest

from service.labelers import add_labeler
from service.preferences import prompts
from service.store.database import Store
from service.store.models import Labeler
from training.artifacts.comparisons import Response


@pytest.fixture
def people(store: Store) -> list[Labeler]:
    """Three labelers."""
    with store.session() as session:
        return [add_labeler(session, name, group)[0] for name, group in (("Ada", "a"), ("Bob", "a"), ("Eve", "b"))]


@pytest.fixture
def stocked(store: Store) -> Store:
    """The store with five prompts, p0 to p4."""
    prompts.import_rows(store, [{"id": f"p{i}", "prompt": f"Question {i}?", "user": f"u{i}"} for i in range(5)])
    return store


@pytest.fixture
def responses() -> list[Response]:
    """Three responses of two checkpoints."""
    return [
        Response("red", "sft-1", {"temperature": 1.0, "seed": 7}, "stop"),
        Response("green", "ppo-1", {"temperature": 1.0, "seed": 8}, "stop"),
        Response("blue", "ppo-1", {"temperature": 1.0, "seed": 9}, "length"),
    ]
