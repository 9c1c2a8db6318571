"""What a suite must declare, and that a forgotten declaration fails loudly."""

from __future__ import annotations

from typing import Any

import pytest

from evals.bench import Bench
from evals.catalog import SUITES, joined
from evals.results import Item, declare
from evals.sources import Sources
from evals.suite import Measurement, Metric, Suite, metric_of

pytestmark = pytest.mark.unit


def item(task: str = "prompts", score: str = "repeats", identity: str = "1") -> Item:
    return Item("repetition", task, identity, "p", "h", "a", "stop", {score: 1.0})


async def nothing(bench: Bench) -> Measurement:
    return Measurement([])


def suite(*metrics: Metric, lacks: str | None = None, items: list[Item] | None = None) -> Suite:
    async def measure(bench: Bench) -> Measurement:
        return Measurement(items or [])

    return Suite("repetition", "Repetition", metrics, lambda sources: lacks, measure)


def test_every_suite_says_what_it_measures() -> None:
    assert [s.name for s in SUITES] == ["preference", "truthfulqa", "honesty", "toxicity", "tax", "reward"]
    for s in SUITES:
        assert s.title
        for metric in s.metrics:
            assert metric.words
            assert metric.better in ("higher", "lower", None)
            assert (metric.margin or 1) > 0
    required = [m.name for s in SUITES for m in s.metrics if m.required]
    assert len(required) >= 4


def test_an_undeclared_score_is_an_error() -> None:
    declared = {"repetition": (Metric("prompts.repeats", "says a sentence twice", "lower"),)}
    assert declare([item()], declared)["repetition.prompts.repeats"].better == "lower"
    with pytest.raises(ValueError, match=r"repetition writes the score prompts\.length, which no metric"):
        declare([item(score="length")], declared)
    with pytest.raises(ValueError, match="which no metric of it declares"):
        declare([item(task="others")], declared)
    with pytest.raises(ValueError, match="occur twice"):
        declare([item(), item()], declared)


def test_a_metric_of_every_task_takes_its_name() -> None:
    metrics = (Metric("*.acc", "{task}: right"), Metric("arc.acc", "ARC"))
    assert metric_of("tax", metrics, "piqa", "acc") == Metric("piqa.acc", "piqa: right")
    assert metric_of("tax", metrics, "arc", "acc").words == "ARC"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "accuracy", "words": "w"},
        {"name": "a.b.c", "words": "w"},
        {"name": ".acc", "words": "w"},
        {"name": "a.acc", "words": ""},
        {"name": "a.acc", "words": "w", "better": None, "margin": 0.1},
        {"name": "a.acc", "words": "w", "required": True},
    ],
)
def test_half_a_declaration_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="metric"):
        Metric(**fields)


def test_a_suite_without_metrics_or_with_one_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="declares no metric"):
        Suite("x", "X", (), lambda sources: None, nothing)
    with pytest.raises(ValueError, match="twice"):
        suite(Metric("a.acc", "w"), Metric("a.acc", "v"))


def test_joined_suites_run_where_any_can() -> None:
    import asyncio

    first, second = (
        suite(Metric("a.x", "w"), lacks="give A", items=[item("a", "x")]),
        suite(Metric("b.y", "w"), items=[item("b", "y")]),
    )
    both = joined(first, second)
    assert both.needs(Sources()) is None
    bench: Any = type("B", (), {"sources": Sources()})()
    assert [i.task for i in asyncio.run(both.measure(bench)).items] == ["b"]
    assert joined(first, suite(Metric("b.y", "w"), lacks="give B")).needs(Sources()) == "give A; or give B"
