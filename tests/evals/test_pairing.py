"""Items of two sides brought together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals.pairing import Pairing, pair_metric, tasks_of
from evals.results import Item
from tests.support.measured import items
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
METRIC = "tax.cloze.accuracy"


def paired(candidate: list[Item], baseline: list[Item], metric: str = METRIC) -> Pairing:
    return pair_metric(tasks_of(candidate, "candidate"), tasks_of(baseline, "baseline"), metric)


def test_items_are_paired_by_id_whatever_their_order() -> None:
    pairing = paired(items([1.0, 0.0, 1.0]), items([0.0, 1.0, 1.0])[::-1])
    assert list(pairing.candidate) == [1.0, 0.0, 1.0]
    assert list(pairing.baseline) == [0.0, 1.0, 1.0]
    assert (pairing.weights, pairing.clusters, pairing.incomplete) == (None, None, 0)


def test_repeated_ids_are_refused() -> None:
    doubled = items([1.0, 0.0]) + items([1.0])
    with pytest.raises(UserError, match=r"candidate: 1 items of tax.cloze repeat the id"):
        tasks_of(doubled, "candidate")


def test_different_questions_are_refused_and_counted() -> None:
    other = [replace(i, prompt_hash="corrected gold") if i.id in "01" else i for i in items([1.0] * 5)]
    with pytest.raises(UserError, match=r"different questions: 2 of 5 items of tax.cloze"):
        paired(items([1.0] * 5), other)


def test_missing_items_are_counted_by_side_and_reason() -> None:
    mine = items([1.0, None, float("nan"), 1.0])
    mine[3] = replace(mine[3], scores={}, missing="refused by the filter")
    pairing = paired(mine, items([None, 1.0, 1.0, 1.0, 1.0]))
    assert pairing.missing_candidate == {"timed out": 1, "not a finite number": 1, "refused by the filter": 1}
    assert pairing.missing_baseline == {"timed out": 1}
    assert (pairing.only_candidate, pairing.only_baseline, pairing.incomplete) == (0, 1, 5)
    assert pairing.complete == []


def test_a_score_that_only_other_items_have_makes_nothing_missing() -> None:
    extra = [replace(i, id=f"x{i.id}", scores={"other": 1.0}) for i in items([1.0] * 3)]
    assert paired(items([1.0] * 4) + extra, items([1.0] * 4)).incomplete == 0


def test_clusters_and_ids_of_one_name_are_not_mixed_up() -> None:
    mine = items([1.0] * 4)
    mine[0], mine[1] = replace(mine[0], cluster="hash 3"), replace(mine[1], cluster="hash 3")
    pairing = paired(mine, items([1.0] * 4))
    assert pairing.clusters is not None
    assert len(set(pairing.clusters)) == 3


def test_equal_questions_under_several_ids_depend_on_each_other() -> None:
    same = [replace(i, prompt_hash=f"hash {int(i.id) // 2}") for i in items([1.0, 0.0] * 10)]
    pairing = paired(same, same)
    assert pairing.clusters is not None
    assert len(set(pairing.clusters)) == 10


def test_weights_of_two_tokenizers_are_refused() -> None:
    mine, theirs = items([2.0] * 3, weight=lambda i: 10.0 + i), items([2.0] * 3, weight=lambda i: 20.0 + i)
    with pytest.raises(UserError, match="bits per byte"):
        paired(mine, theirs)


def test_a_failed_item_takes_the_weight_of_the_other_side() -> None:
    mine, theirs = items([2.0, None, None], weight=lambda i: 8.0), items([2.0, 2.0, None], weight=lambda i: 8.0)
    mine[1], mine[2], theirs[2] = (replace(i, weight=1.0) for i in (mine[1], mine[2], theirs[2]))
    theirs[1] = replace(theirs[1], weight=16.0)
    assert paired(mine, theirs).weights == [8.0, 16.0, 12.0]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_that_weigh_nothing_are_refused(weight: float) -> None:
    row = [replace(i, weight=weight) for i in items([1.0, 1.0])]
    with pytest.raises(UserError, match="weigh"):
        paired(row, row)


@pytest.mark.parametrize("value", [[1.0, 2.0], "0.5", {"f1": 1.0}])
def test_scores_that_are_not_numbers_are_refused_in_one_line(value: object) -> None:
    odd = [replace(i, scores={"accuracy": value}) for i in items([1.0, 1.0])]  # type: ignore[dict-item]
    with pytest.raises(UserError, match="not a number"):
        paired(odd, odd)
