"""Evaluation is held out from demonstrations and comparisons in words, entities, wordings, prompts and users."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from training.miniature import World, lexicon
from training.miniature.items import KINDS
from training.miniature.prompts import Demonstration, Prompt

pytestmark = pytest.mark.unit
TRAINED = ("reward", "ppo", "collect")
SPOKEN = tuple(kind for kind in KINDS if kind not in ("skills", "recall"))


def trained(world: World) -> list[Demonstration | Prompt]:
    return [*world.demonstrations(), *(p for purpose in TRAINED for p in world.prompts(purpose))]


def conversations(world: World) -> list[dict[str, Any]]:
    """Every conversation that evaluation uses."""
    rows = [{"messages": p.messages, "spec": p.spec} for p in world.prompts("evaluation")]
    rows += [{"messages": p.messages, "spec": p.spec} for p in world.prompts("locked")]
    return rows + [row for locked in (False, True) for kind in SPOKEN for row in world.items(kind, locked)]


def words(messages: Iterable[Mapping[str, str]]) -> set[str]:
    return {word for message in messages for word in message["content"].split()}


def test_no_evaluation_word_stands_in_anything_trained_on(world: World) -> None:
    used = set().union(*(words(row.messages) for row in trained(world)))
    assert not used & lexicon.EVALUATION_ONLY


def test_sides_of_every_pool_share_no_word() -> None:
    for name, pool in vars(lexicon).items():
        if isinstance(pool, lexicon.Pool):
            assert not set(pool.train) & set(pool.evaluation), name
            assert len(set(pool.all)) == len(pool.all), name


def test_entities_and_values_of_evaluation_come_from_its_own_side(world: World) -> None:
    train_values = {f.truth for f in world.facts if f.side == "train"} | {
        f.myth for f in world.facts if f.side == "train"
    }
    train_subjects = {f.subject for f in world.facts if f.side == "train"}
    for row in conversations(world):
        if row["spec"]["task"] == "fact":
            assert row["spec"]["subject"] not in train_subjects
            assert not set(row["spec"]["truths"].values()) & train_values
            assert row["spec"]["myth"] not in train_values - {None}


def test_wordings_of_evaluation_are_in_no_trained_prompt(world: World) -> None:
    trained_wordings = {row.spec["wording"] for row in trained(world)}
    evaluation_wordings = {row["spec"]["wording"] for row in conversations(world)}
    assert len(trained_wordings) > 200
    assert len(evaluation_wordings) > 100
    assert not trained_wordings & evaluation_wordings


def test_every_evaluation_conversation_is_new_also_as_text(world: World) -> None:
    known = {
        json.dumps(row.messages[:-1] if isinstance(row, Demonstration) else row.messages) for row in trained(world)
    }
    assert not known & {json.dumps(row["messages"]) for row in conversations(world)}


def test_no_prompt_is_asked_twice(world: World) -> None:
    prompts = [json.dumps(p.messages) for purpose in (*TRAINED, "evaluation", "locked") for p in world.prompts(purpose)]
    prompts += [json.dumps(d.messages[:-1]) for d in world.demonstrations()]
    assert len(set(prompts)) == len(prompts)


def test_a_user_is_in_one_split_and_one_purpose(world: World) -> None:
    places_of_user: dict[str, set[tuple[str, str]]] = {}
    for purpose in (*TRAINED, "evaluation", "locked"):
        for p in world.prompts(purpose):
            places_of_user.setdefault(p.user, set()).add((purpose, p.split))
    for d in world.demonstrations():
        places_of_user.setdefault(d.user, set()).add(("demonstration", d.split))
    assert all(len(places) == 1 for places in places_of_user.values())
    splits = {split for places in places_of_user.values() for _, split in places}
    assert splits == {"train", "validation", "test"}
    assert {p.split for p in world.prompts("evaluation")} == {"test"}


def test_answers_of_skill_items_are_words_that_no_demonstration_holds(world: World) -> None:
    rows = [*world.items("skills"), *world.items("skills", True), *world.items("recall")]
    assert {row["answer"] for row in rows if row["skill"] != "pronouns"} <= lexicon.EVALUATION_ONLY


def test_the_locked_set_shares_nothing_with_the_first(world: World) -> None:
    sets: list[set[str]] = []
    for locked in (False, True):
        rows = [row for kind in KINDS if kind != "recall" for row in world.items(kind, locked)]
        texts = {json.dumps(row["messages"]) for row in rows if "messages" in row}
        texts |= {row["prompt"] for row in rows if "prompt" in row}
        assert len(texts) == sum(("messages" in row) + ("prompt" in row) for row in rows), "nothing is asked twice"
        prompts = {json.dumps(p.messages) for p in world.prompts("locked" if locked else "evaluation")}
        sets.append(texts | prompts)
    assert not sets[0] & sets[1]
    assert min(map(len, sets)) > 2500


def test_items_of_a_cluster_ask_the_same_thing(world: World) -> None:
    for kind in SPOKEN:
        clusters: dict[str, set[str]] = {}
        for row in world.items(kind):
            spec = row["spec"]
            key = spec["subject"] if spec["task"] == "fact" else spec["task"] + str(spec["topic"])
            clusters.setdefault(row["cluster"], set()).add(key)
        assert all(len(keys) == 1 for keys in clusters.values()), kind
    facts = [row["cluster"] for row in world.items("misconceptions")]
    assert len(facts) == 5 * len(set(facts)) >= 400
