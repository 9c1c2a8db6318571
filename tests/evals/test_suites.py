"""Suites on the miniature world's own items: right answers score well, wrong ones do not."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from evals.client import Answer, Refused
from evals.lm import split_trailing_space
from evals.results import summarise
from evals.suites import honesty, preference, truth
from evals.tasks.files import read
from training.artifacts.errors import UserError
from training.miniature import World

pytestmark = pytest.mark.unit


@cache
def world() -> World:
    return World.build(seed=0, size="demo")


def answers(rows: list[Any], which: str) -> list[Answer | Refused]:
    return [Answer(row[which][0], "stop") for row in rows]


@pytest.mark.parametrize("kind", honesty.KINDS)
def test_honest_answers_are_honest(kind: Any) -> None:
    rows = world().items(kind)
    good = summarise(honesty.items(kind, rows, answers(rows, "true_answers")))
    bad = summarise(honesty.items(kind, rows, answers(rows, "false_answers")))
    for metric in good:
        if metric.endswith(".honest"):
            assert good[metric].value == 1.0
            assert bad[metric].numbers()[0] < 0.2
    tasks = {metric.split(".")[1] for metric in good}
    assert tasks == ({"earlier_turns", "system_prompt"} if kind == "context" else {kind})


def test_myths_are_untrue_and_abstaining_on_facts_is_wrong() -> None:
    myths, facts = world().items("misconceptions"), world().items("facts")
    assert len(myths) >= 60
    told = summarise(truth.generated("misconceptions", myths, answers(myths, "false_answers")))
    assert told["truth.misconceptions.truthful"].value == 0.0
    true = summarise(truth.generated("misconceptions", myths, answers(myths, "true_answers")))
    assert true["truth.misconceptions.truthful_informative"].value == 1.0
    silent: list[Answer | Refused] = [Answer("i do not know .", "stop")] * len(facts)
    found = summarise(truth.generated("facts", facts, silent))
    assert found["truth.facts.wrongly_abstained"].value == 1.0
    assert found["truth.facts.truthful_informative"].value == 0.0


def test_a_refused_request_is_missing_in_every_score() -> None:
    rows = world().items("misconceptions")[:2]
    items = truth.generated("misconceptions", rows, [Answer("i do not know .", "stop"), Refused(400, "too long")])
    assert set(items[1].scores.values()) == {None}
    assert items[1].missing == "too long"
    assert summarise(items)["truth.misconceptions.truthful"].missing == 1


def test_a_cut_off_answer_is_not_finished() -> None:
    row = {"id": "1", "messages": world().items("facts")[0]["messages"], "spec": world().items("facts")[0]["spec"]}
    text = world().items("facts")[0]["true_answers"][0]
    whole, cut = preference.items([row, row], [Answer(text, "stop"), Answer(text, "length")])
    assert (whole.scores["finished"], cut.scores["finished"]) == (1.0, 0.0)


def test_multiple_choice_by_hand_and_without_underflow() -> None:
    assert truth.mc1([-1.0, -9.0], [-2.0, -3.0]) == 1.0
    assert truth.mc1([-2.5, -1.0], [-2.0]) == 0.0  # only the best true answer counts
    assert truth.mc2([math.log(0.2)], [math.log(0.3), math.log(0.3)]) == pytest.approx(0.25)
    assert truth.mc2([-2000.0], [-2000.0, -2001.0]) == pytest.approx(1 / (2 + math.exp(-1)))


def test_the_primer_is_the_official_one() -> None:
    primer = truth._primer()
    assert primer.startswith("Q: What is human life expectancy in the United States?\nA: ")
    assert primer.endswith("The 1992 Olympics were held in Barcelona, Spain.")
    assert primer.count("\nQ: ") == 5


def test_words_keep_their_leading_space() -> None:
    assert split_trailing_space("the fox ", "runs") == ("the fox", " runs")
    assert split_trailing_space("", "runs") == ("", "runs")


def test_unusable_rows_are_counted_with_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "winogrande.jsonl"
    good = '{"context_options": ["a b", "a c"], "continuation": "d e", "gold": 0}\n'
    path.write_text(
        good + '{"context_options": ["a b", "a c"], "continuation": "d", "gold": 5}\nnot json\n{"gold": 1}\n'
    )
    rows, skipped = read("winogrande", path)
    assert [row["answer"] for row in rows] == ["1"]
    assert dict(skipped) == {
        "the gold label names no choice": 1,
        "not valid JSON": 1,
        "no column 'context_options'": 1,
    }
    path.write_text("not json\n")
    with pytest.raises(UserError, match=r"none of the 1 rows of .* can be used \(1 x not valid JSON\)"):
        read("winogrande", path)
    with pytest.raises(UserError, match="does not exist"):
        read("winogrande", tmp_path / "none.jsonl")
