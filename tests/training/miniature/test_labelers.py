"""Simulated labelers: how often they agree, when they tie, and what the noise allows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from training.miniature import World, agreement, best_accuracy, judge, lexicon
from training.miniature.facts import RELATIONS
from training.miniature.labelers import Group, Pair
from training.miniature.mixture import draw
from training.miniature.responses import CAREFUL, CARELESS, ORDINARY, write
from training.miniature.tasks.base import Side, Task

pytestmark = pytest.mark.unit


POOLS = (
    lexicon.NAMES, lexicon.THINGS, lexicon.PLACES, lexicon.CREATURES, lexicon.TOWNS, lexicon.HEROES,
    *(relation.values for relation in RELATIONS.values()),
)  # fmt: skip
POOL_OF = {word: pool for pool in POOLS for word in pool.train}
MUDDLED, OFF_TOPIC = 0.7, 0.08


@pytest.fixture(scope="module")
def pairs(world: World) -> list[Pair]:
    """Pairs of answers of a fine-tuned small policy's quality: most keep the form and muddle names, things and values,
    some answer another prompt. The shares give as many pairs of equal utility (23 %) as sampled pairs had."""
    rng, side = random.Random(11), Side.of("train", world.facts)
    pairs: list[Pair] = []
    before = draw(rng, side)

    def answer(task: Task) -> str:
        answered = before if rng.random() < OFF_TOPIC else task
        text = write(rng, answered, rng.choices((CAREFUL, ORDINARY, CARELESS), (3, 5, 2))[0])
        if rng.random() >= MUDDLED:
            return text
        return " ".join(rng.choice(POOL_OF[w].train) if w in POOL_OF else w for w in text.split())

    while len(pairs) < 1200:
        task = draw(rng, side)
        a, b = answer(task), answer(task)
        if a != b:
            pairs.append(({"spec": task.spec}, a, b))
        before = task
    return pairs


@pytest.mark.parametrize("group, expected", [("training", 0.73), ("heldout", 0.77)])
def test_labelers_agree_as_often_as_people_did(world: World, pairs: list[Pair], group: Group, expected: float) -> None:
    assert agreement(world.labelers(group), pairs) == pytest.approx(expected, abs=0.015)


def test_best_accuracy_is_above_agreement_and_below_one(world: World, pairs: list[Pair]) -> None:
    labelers = world.labelers("training")
    assert agreement(labelers, pairs) + 0.02 < best_accuracy(labelers, pairs) < 0.9


def test_without_taste_and_noise_the_labels_are_the_true_preference(world: World, pairs: list[Pair]) -> None:
    labeler = world.labelers("training")[0]
    plain = replace(labeler, length_liking=0.0, leniency=0.0, belief=0.0, citing=0.0, noise=0.0)
    clear = [p for p in pairs if abs(judge(p[0], p[1]).utility - judge(p[0], p[2]).utility) > 0.03]
    assert best_accuracy([plain], clear) == 1.0
    assert agreement([plain, replace(plain, id="other")], clear) == 1.0


def test_few_pairs_are_near_ties_but_equal(pairs: list[Pair]) -> None:
    differences = [abs(judge(p, a).utility - judge(p, b).utility) for p, a, b in pairs]
    assert sum(d == 0 for d in differences) / len(differences) == pytest.approx(0.23, abs=0.04)
    assert sum(0 < d < 0.05 for d in differences) / len(differences) < 0.05


def test_ranks_are_dense_and_equal_texts_tie(world: World) -> None:
    prompt = world.prompts("reward")[0]
    for labeler in world.labelers("training"):
        ranks = labeler.rank(prompt, ["a .", "b b b .", "a .", "c ."], random.Random(0))
        assert ranks[0] == ranks[2]
        assert sorted(set(ranks)) == list(range(1, max(ranks) + 1))
        assert ranks == labeler.rank(prompt, ["a .", "b b b .", "a .", "c ."], random.Random(0))


def test_a_response_ties_with_those_just_below_the_best_of_its_rank(world: World) -> None:
    """Without taste or noise: .98 lies within .03 of 1, .96 does not, and .95 ties with .96."""
    labeler = replace(world.labelers("training")[0], length_liking=0.0, leniency=0.0, belief=0.0, citing=0.0, noise=0.0)
    verdict = judge(world.prompts("reward")[0], "a .")
    verdicts = [replace(verdict, truthful=None, toxic=False, utility=u) for u in (0.96, 1.0, 0.95, 0.98)]
    assert labeler.rank_judged(["b .", "a .", "c .", "d ."], verdicts, random.Random(0)) == [2, 1, 2, 1]


def test_two_groups_of_different_people(world: World) -> None:
    training, heldout = world.labelers("training"), world.labelers("heldout")
    assert len(training) >= 10
    assert len(heldout) >= 10
    assert not {x.id for x in training} & {x.id for x in heldout}
    assert len({x.length_liking for x in training}) == len(training)
    assert World.build(0, "miniature").labelers("training") == training
