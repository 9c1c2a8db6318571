"""One world for all tests of the miniature: drawing it takes a second."""

from __future__ import annotations

import pytest

from training.miniature import World


@pytest.fixture(scope="session")
def world() -> World:
    return World.build(seed=0, size="demo")
