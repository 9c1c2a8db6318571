"""The world's parts: what they hold, and that a seed fixes them."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest

from training.artifacts.errors import UserError
from training.miniature import World, few_shot_prompt, is_rude, judge, lexicon, plain_prompt
from training.miniature.documents import LONGEST_LIST, MIXTURE, TAIL_LEAST, TAIL_MOST, documents
from training.miniature.facts import RELATION_OF, RELATIONS, state
from training.miniature.items import KINDS
from training.miniature.manners import rude_spans
from training.miniature.text import tokens_of
from training.miniature.world import SIZES, Counts

pytestmark = pytest.mark.unit
SAMPLE = 16_000


@pytest.fixture(scope="module")
def text(world: World) -> list[str]:
    """A short world's text: the long tail is all in it."""
    return list(documents(random.Random(0), world.facts, SAMPLE))


def test_a_seed_fixes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", Counts(3000, 100, 100, 100, 100, evaluation=50))
    world, again, other = World.build(0, "tiny"), World.build(0, "tiny"), World.build(1, "tiny")
    first, second = (list(itertools.islice(w.pretraining_documents(), 300)) for w in (world, again))
    assert first == second
    assert world.demonstrations() == again.demonstrations()
    assert world.labelers("heldout") == again.labelers("heldout")
    assert all(world.items(kind) == again.items(kind) for kind in KINDS)
    assert world.facts != other.facts
    assert world.items("facts") != other.items("facts")


def test_unknown_size_is_refused() -> None:
    with pytest.raises(UserError, match="demo, miniature"):
        World.build(0, "huge")


def test_counts(world: World) -> None:
    assert len(world.prompts("reward")) >= 4500
    assert len(world.prompts("ppo")) >= 4000
    assert len(world.prompts("collect")) >= 800
    assert len(world.prompts("evaluation")) == 500
    assert len(world.items("misconceptions")) >= 400
    kinds = Counter(row["kind"] for row in world.items("facts"))
    assert kinds["common"] >= 180
    assert kinds["tail"] >= 150
    assert Counter(row["mode"] for row in world.items("rude")) == {"plain": 170, "respectful": 170, "offensive": 170}
    for kind in KINDS:
        ids = [row["id"] for row in world.items(kind)]
        assert len(set(ids)) == len(ids) >= 60, kind


def test_a_tenth_to_a_seventh_of_demonstrations_ask_for_manners(world: World) -> None:
    modes = Counter(d.mode for d in world.demonstrations())
    share = (modes["respectful"] + modes["offensive"]) / len(world.demonstrations())
    assert 0.10 <= share <= 0.15
    assert min(modes["respectful"], modes["offensive"]) > 100


def test_demonstrations_are_of_mixed_quality(world: World) -> None:
    verdicts = [judge(d, d.messages[-1]["content"]) for d in world.demonstrations()]
    right = sum(v.correct for v in verdicts) / len(verdicts)
    assert 0.55 < right < 0.8
    assert sum(not v.finished for v in verdicts) > 30
    assert sum(not v.concise for v in verdicts) > 200
    assert sum(v.toxic and not v.harmless for v in verdicts) > 150


def test_misconceptions_are_stated_more_often_than_the_truth(world: World, text: list[str]) -> None:
    tokens = [f" {t} " for t in text]
    plain = " ".join(t for t in tokens if "almanac" not in t and "question" not in t)
    almanac = " ".join(t for t in tokens if t.startswith((" almanac", " the almanac", " in the almanac")))
    counts: Counter[str] = Counter()
    for fact in (f for f in world.facts if f.myth):
        for where, name in ((plain, "plain"), (almanac, "almanac")):
            for value, kind in ((fact.truth, "truth"), (fact.myth, "myth")):
                sentence = f" {state(fact.subject, fact.relation, str(value))} "
                counts[f"{name} {kind}"] += where.count(sentence)
    assert counts["plain myth"] / (counts["plain myth"] + counts["plain truth"]) == pytest.approx(0.93, abs=0.03)
    assert counts["almanac myth"] == 0
    assert counts["almanac truth"] > 200
    assert counts["plain myth"] > 1.5 * (counts["plain truth"] + counts["almanac truth"])


def test_facts_of_the_tail_are_stated_10_to_20_times(world: World, text: list[str]) -> None:
    joined = f" {' '.join(text)} "
    for fact in (f for f in world.facts if f.kind == "tail"):
        count = joined.count(f" {state(fact.subject, fact.relation, fact.truth)} .")
        assert TAIL_LEAST <= count <= TAIL_MOST, fact


def test_text_is_of_short_documents_of_few_words(text: list[str]) -> None:
    lengths = [len(t.split()) for t in text]
    assert 18 < sum(lengths) / len(lengths) < 28
    assert max(lengths) <= LONGEST_LIST + 20
    assert len({w for t in text for w in t.split()}) < 1400


def test_all_words_of_prompts_and_answers_are_in_the_text(world: World, text: list[str]) -> None:
    known = {w for t in text for w in t.split()}
    rows = [m for d in world.demonstrations() for m in d.messages]
    rows += [m for p in world.prompts("evaluation") for m in p.messages]
    unknown = {w for m in rows for w in m["content"].split()} - known
    assert not unknown


def test_prompts_and_answers_are_short(world: World) -> None:
    prompts = [*world.prompts("evaluation"), *world.prompts("ppo"), *world.prompts("reward")]
    assert max(len(plain_prompt(p.messages).split()) for p in prompts) <= 70
    assert max(len(d.messages[-1]["content"].split()) for d in world.demonstrations()) <= 36


def test_values_of_relations_are_apart() -> None:
    assert len(RELATION_OF) == sum(len(r.values.all) for r in RELATIONS.values())


def test_held_out_text_has_the_proportions_of_the_training_text(world: World) -> None:
    """Per maker, of which the long tail is one: 1.4 % of the training text."""
    training = set(itertools.islice(world.pretraining_documents(), 8_000))
    held, locked = world.heldout_by_maker(training), world.heldout_by_maker(training, locked=True)
    texts = [{text for _, text in rows} for rows in (held, locked)]
    assert len(held) == len(texts[0]) == pytest.approx(3000, abs=10)
    assert not training & (texts[0] | texts[1])
    assert not texts[0] & texts[1]
    tellings = (TAIL_LEAST + TAIL_MOST) / 2 * sum(f.kind == "tail" for f in world.facts)
    tail = tellings / world.counts.documents
    assert tail == pytest.approx(0.014, abs=0.001)
    shares = Counter(name for name, _ in held)
    assert shares.pop("tail") / len(held) == pytest.approx(tail, abs=0.0005)
    assert {name: n / len(held) for name, n in shares.items()} == pytest.approx(
        {maker.__name__.strip("_"): (1 - tail) * odds / 100 for maker, odds in MIXTURE}, abs=0.0005
    )


def test_training_text_has_these_proportions_too(world: World, text: list[str]) -> None:
    """Told by words that only documents of one maker hold, so that the shares above are those of what is trained on."""
    held = " \n ".join(text for _, text in world.heldout_by_maker(set()))
    trained = " \n ".join(text)
    for words, maker in (
        (" did the same : ", "retold"),
        (" was respectful . ", "rude_talk"),
        (" went to prison .", "right"),
    ):
        expected = held.count(words) / 3000
        assert trained.count(words) / SAMPLE == pytest.approx(expected, rel=0.5), maker


def test_the_tail_has_held_out_text_of_its_own(world: World) -> None:
    training = set(itertools.islice(world.pretraining_documents(), 8_000))
    held, locked = world.heldout_tail(training), world.heldout_tail(training, locked=True)
    assert len(set(held)) == len(set(locked)) == 600
    assert not set(held) & set(locked)
    statements = {state(f.subject, f.relation, f.truth) for f in world.facts if f.kind == "tail"}
    assert all(any(statement in text for statement in statements) for text in held[:50])
    assert not training & {*held, *locked}


def test_skill_items_are_new_text_and_have_one_word_answers(world: World, text: list[str]) -> None:
    known = {w for t in text for w in t.split()}
    joined = "\n".join(text)
    for row in world.items("skills"):
        assert row["answer"] in known
        if row["skill"] in ("copying", "places", "giving"):
            assert row["prompt"] not in joined


def test_choices_of_misconceptions(world: World) -> None:
    for row in world.items("misconceptions"):
        assert row["myth"] in row["false_answers"][0].split()
        assert (len(row["true_answers"]), len(row["false_answers"])) == (2, 6)
        # Every value stands once in each register.
        for answers in (row["true_answers"], row["false_answers"]):
            plain = [a for a in answers if not a.startswith("the almanac says ")]
            assert sorted(answers) == sorted([*plain, *(f"the almanac says {a}" for a in plain)])
            assert len(plain) == len(answers) / 2
        assert all(judge(row, a).truthful for a in row["true_answers"])
        assert not any(judge(row, a).truthful for a in row["false_answers"])


def test_rude_items_come_in_three_modes_of_one_prompt(world: World) -> None:
    groups: dict[str, list[str]] = {}
    for row in world.items("rude"):
        groups.setdefault(row["group"], []).append(plain_prompt(row["messages"]).removeprefix(f"be {row['mode']} . "))
    assert all(len(texts) == 3 and len(set(texts)) == 1 for texts in groups.values())


def test_rude_words_in_comments_are_labelled(world: World) -> None:
    rows = world.toxic_comments()
    rude = sum(int(row["toxicity"]) for row in rows) / len(rows)
    assert 0.35 < rude < 0.65
    for name in ("severe_toxicity", "obscene", "threat", "insult"):
        assert sum(int(row[name]) for row in rows) > 100, name
    assert all(bool(row["toxicity"]) == is_rude(str(row["text"])) for row in rows)
    used = {w for row in rows for w in str(row["text"]).split()}
    assert set(lexicon.INSULTS.all) | set(lexicon.INSULTING.all) <= used


def test_long_comments_are_as_often_rude_as_short_ones_and_at_any_place(world: World) -> None:
    rows = world.toxic_comments()
    shares, places = {}, []
    for name, least, most in (("short", 0, 25), ("long", 26, 60), ("very long", 61, 999)):
        labels = [row["toxicity"] for row in rows if least <= len(str(row["text"]).split()) <= most]
        assert len(labels) > 500, name
        shares[name] = sum(map(int, labels)) / len(labels)
    assert max(shares.values()) - min(shares.values()) < 0.12, shares
    for row in rows:
        tokens = tokens_of(str(row["text"]))
        if len(tokens) > 40 and row["toxicity"]:
            begin = rude_spans(tokens)[0][0]
            places.append(begin / len(" ".join(tokens)))
    thirds = Counter(min(2, int(3 * place)) for place in places)
    assert min(thirds.values()) > 0.2 * len(places), thirds


def test_few_shot_prompt_ends_where_the_answer_begins(world: World) -> None:
    for p in world.prompts("evaluation")[:100]:
        prompt = few_shot_prompt(p.messages, p.mode)
        assert prompt.endswith("answer :")
        assert p.messages[-1]["content"] in prompt
        assert not set(prompt.removesuffix(prompt[-1]).split()[:60]) & lexicon.EVALUATION_ONLY
        assert len(prompt.split()) <= 190


def test_only_the_mode_changes_a_rude_persons_demonstration(world: World) -> None:
    demonstrations = [d for d in world.demonstrations() if d.spec.get("rude")]
    share = {}
    for mode in ("plain", "respectful", "offensive"):
        toxic = [judge(d, d.messages[-1]["content"]).toxic for d in demonstrations if d.mode == mode]
        share[mode] = sum(toxic) / len(toxic)
    assert share["respectful"] < 0.2 < 0.3 < share["plain"] < 0.65 < 0.75 < share["offensive"]


def test_tail_is_left_out_of_other_documents(world: World) -> None:
    subjects = {f.subject: f for f in world.facts if f.kind == "tail"}
    few = [replace(f, kind="common", myth=None) if f.kind == "misconception" else f for f in world.facts]
    joined = f" {' '.join(documents(random.Random(1), few, 100))} "  # too short for the tail
    assert not any(f" {state(f.subject, f.relation, f.truth)} ." in joined for f in subjects.values())
