"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
