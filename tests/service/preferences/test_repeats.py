from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import closing

import pytest

from service.preferences.repeats import Earlier

pytestmark = pytest.mark.unit


@pytest.fixture
def earlier() -> Iterator[Earlier]:
    with closing(Earlier()) as made:
        yield made


def test_the_first_text_of_an_id_is_kept(earlier: Earlier) -> None:
    greatest = 2**60 - 1  # 15 digits of a hash
    assert [earlier.text_of("é", 0), earlier.text_of("b", greatest)] == [None, None]
    assert [earlier.text_of("é", 7), earlier.text_of("b", 1), earlier.text_of("é", 0)] == [0, greatest, 0]


def test_python_does_not_hold_the_ids(earlier: Earlier) -> None:
    """20,000 in a dictionary take 3 MB."""
    tracemalloc.start()
    try:
        for number in range(20_000):
            earlier.text_of(f"an id of some length {number}", number << 40)
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
