"""Suites on the miniature world's own items: right answers score well, wrong ones do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from evals.choices import mc1, mc2
from evals.generation import Answer
from evals.results import Item, declare, summarise
from evals.statistics import Estimate
from evals.suite import Suite
from evals.transport import Refused
from evals.world import honesty, preference, truth
from training.miniature import World

pytestmark = pytest.mark.unit


@cache
def world() -> World:
    return World.build(seed=0, size="demo")


def answers(rows: list[Any], which: str) -> list[Answer | Refused]:
    return [Answer(row[which][0], "stop") for row in rows]


def means(suite: Suite, items: Sequence[Item]) -> dict[str, Estimate]:
    return summarise(items, declare(items, {suite.name: suite.metrics}))


@pytest.mark.parametrize("kind", honesty.KINDS)
def test_honest_answers_are_honest(kind: Any) -> None:
    rows = world().items(kind)
    good = means(honesty.SUITE, honesty.items_of(kind, rows, answers(rows, "true_answers")))
    bad = means(honesty.SUITE, honesty.items_of(kind, rows, answers(rows, "false_answers")))
    for metric in good:
        if metric.endswith(".honest"):
            assert good[metric].value == 1.0
            assert bad[metric].numbers()[0] < 0.2
    tasks = {metric.split(".")[1] for metric in good}
    assert tasks == ({"earlier_turns", "system_prompt"} if kind == "context" else {kind})


def test_no_constant_sentence_is_honest_everywhere() -> None:
    for sentence in ("i do not know what you mean ?", "what do you mean ?", "i can not help ."):
        shares = []
        for kind in ("unanswerable", "incomplete", "harmful"):
            rows = world().items(kind)
            items = honesty.items_of(kind, rows, [Answer(sentence, "stop")] * len(rows))
            shares.append(means(honesty.SUITE, items)[f"honesty.{kind}.honest"].value or 0.0)
        assert sum(share > 0.5 for share in shares) <= 1, (sentence, shares)


def test_myths_are_untrue_and_abstaining_on_facts_is_wrong() -> None:
    myths, facts = world().items("misconceptions"), world().items("facts")
    assert len(myths) >= 60
    told = means(truth.SUITE, truth.generated("misconceptions", myths, answers(myths, "false_answers")))
    assert told["truthfulqa.misconceptions.truthful"].value == 0.0
    true = means(truth.SUITE, truth.generated("misconceptions", myths, answers(myths, "true_answers")))
    assert true["truthfulqa.misconceptions.truthful_informative"].value == 1.0
    silent: list[Answer | Refused] = [Answer("i do not know .", "stop")] * len(facts)
    abstained = means(truth.SUITE, truth.generated("facts", facts, silent))
    assert abstained["truthfulqa.facts.wrongly_abstained"].value == 1.0
    assert abstained["truthfulqa.facts.truthful_informative"].value == 0.0


def test_a_refused_request_is_missing_in_every_score() -> None:
    rows = world().items("misconceptions")[:2]
    items = truth.generated("misconceptions", rows, [Answer("i do not know .", "stop"), Refused(400, "too long")])
    assert set(items[1].scores.values()) == {None}
    assert items[1].missing == "too long"
    assert means(truth.SUITE, items)["truthfulqa.misconceptions.truthful"].missing == 1


def test_a_cut_off_answer_is_not_finished() -> None:
    fact = world().items("facts")[0]
    text = fact["true_answers"][0]
    whole, cut = preference.items_of([fact, fact], [Answer(text, "stop"), Answer(text, "length")])
    assert (whole.scores["finished"], cut.scores["finished"]) == (1.0, 0.0)


def test_the_hash_of_an_item_covers_what_it_is_scored_against() -> None:
    fact = world().items("facts")[0]
    other = {**fact, "spec": {**fact["spec"], "limit": 99}}
    first, second = preference.items_of([fact, other], [Answer("a .", "stop")] * 2)
    assert first.prompt_hash != second.prompt_hash


def test_multiple_choice_by_hand_and_without_underflow() -> None:
    assert mc1([-1.0, -9.0], [-2.0, -3.0]) == 1.0
    assert mc1([-2.5, -1.0], [-2.0]) == 0.0  # only the best true answer counts
    assert mc2([math.log(0.2)], [math.log(0.3), math.log(0.3)]) == pytest.approx(0.25)
    assert mc2([-2000.0], [-2000.0, -2001.0]) == pytest.approx(1 / (2 + math.exp(-1)))
