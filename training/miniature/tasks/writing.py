"""Generation, brainstorming, rewriting and summarization."""

from __future__ import annotations

import random

from training.miniature import lexicon
from training.miniature.facts import state, subject_phrase
from training.miniature.lexicon import article, pronoun
from training.miniature.specs import ContainSpec, FactSpec, ListSpec
from training.miniature.tasks.base import Side, Task, ask, limit, wordings

STORY = wordings(
    "write a story about {n} and {x} . | tell a story about {n} and {x} . | make up a tale with {n} and {x} .",
    "invent a short story with {n} and {x} in it . | let me hear a tale of {n} and {x} .",
)
LETTER = wordings(
    "write a letter to {n} about {x} . | write to {n} and give thanks for {x} . | thank {n} for {x} .",
    "compose a note for {n} that says thanks for {x} . | put thanks to {n} for {x} on paper .",
)
SENTENCE = wordings(
    "write a sentence with {x} and {y} . | use {x} and {y} in a sentence . | make a sentence of {x} and {y} .",
    "form one sentence that has {x} and {y} . | let {x} and {y} stand in one sentence .",
)
ABOUT = wordings(
    "write a sentence about {s} . | tell me something about {s} . | describe {s} .",
    "give me one line on {s} . | what should people know about {s} ?",
)


def story(rng: random.Random, side: Side) -> Task:
    """Two sentences about a person and a thing."""
    name, other = side.words(rng, lexicon.NAMES, 2)
    thing, wrong = side.words(rng, lexicon.THINGS, 2)
    place = side.word(rng, lexicon.PLACES)
    message, skeleton = ask(rng, side, side.wording(rng, STORY), {"n": name, "x": article(thing)})
    he = pronoun(name)
    good = tuple(
        f"{name} went to the {place} . {he} {rng.choice(('found', 'bought', 'saw', 'took'))} {article(x)} {end} ."
        for x, end in ((thing, "there"), (thing, "and was happy"))
    )
    flawed = (
        f"{name} went to the {place} .",
        f"{name} went to the {place} . {he} found {article(wrong)} there .",
        f"{other} went to the {place} . {pronoun(other)} found {article(thing)} there .",
    )
    spec: ContainSpec = {
        "task": "contain", "form": "story", "need": [name, thing], "avoid": ["she" if he == "he" else "he"],
        "topic": [name, thing], "anyone": True, "sentences": [2, 3], "least": 8,
        "limit": limit(good, 4), "wording": skeleton,
    }  # fmt: skip
    return Task("generation", (message,), spec, good, flawed)


def letter(rng: random.Random, side: Side) -> Task:
    """A note of thanks to a person for a thing."""
    name, other = side.words(rng, lexicon.NAMES, 2)
    thing, wrong = side.words(rng, lexicon.THINGS, 2)
    message, skeleton = ask(rng, side, side.wording(rng, LETTER), {"n": name, "x": f"the {thing}"})
    good = (f"dear {name} , thank you for the {thing} .",)
    flawed = (
        f"thank you for the {thing} .",
        f"dear {other} , thank you for the {thing} .",
        f"dear {name} , thank you for the {wrong} .",
    )
    spec: ContainSpec = {
        "task": "contain", "form": "letter", "need": [name, "thank", thing], "avoid": [], "topic": [name, thing],
        "people": [name], "limit": limit(good, 4), "wording": skeleton,
    }  # fmt: skip
    return Task("generation", (message,), spec, good, flawed)


def sentence(rng: random.Random, side: Side) -> Task:
    """One sentence that holds two given words."""
    x, y, wrong = side.words(rng, lexicon.THINGS, 3)
    name = side.word(rng, lexicon.NAMES)
    message, skeleton = ask(rng, side, side.wording(rng, SENTENCE), {"x": x, "y": y})
    good = (f"{name} has {article(x)} and {article(y)} .", f"the {x} is near the {y} .")
    flawed = (f"{name} has {article(x)} .", f"the {x} is near the {wrong} .", f"{x} and {y} .")
    spec: ContainSpec = {
        "task": "contain", "form": "sentence", "need": [x, y], "avoid": [], "topic": [x, y], "sentences": [1, 1],
        "least": 5, "anyone": True, "limit": limit(good, 3), "wording": skeleton,
    }  # fmt: skip
    return Task("generation", (message,), spec, good, flawed)


def about(rng: random.Random, side: Side) -> Task:
    """A true statement about a subject of the world."""
    pool = rng.choice((lexicon.CREATURES, lexicon.TOWNS, lexicon.HEROES))
    subject = side.subject(rng, pool)
    message, skeleton = ask(rng, side, side.wording(rng, ABOUT), {"s": subject_phrase(subject)})
    facts = side.of_subject[subject]
    good = tuple(
        f"{prefix}{state(subject, r, f.truth)} ." for r, f in facts.items() for prefix in ("", "the almanac says ")
    )
    myths = [f"{state(subject, r, f.myth)} ." for r, f in facts.items() if f.myth]
    stranger = side.subject(rng, pool)
    flawed = (
        *myths,
        *(f"{state(stranger, r, f.truth)} ." for r, f in side.of_subject[stranger].items() if stranger != subject),
    )
    spec: FactSpec = {
        "task": "fact", "subject": subject, "relation": None, "truths": side.truths(subject), "myth": None,
        "kind": "about", "topic": [subject], "limit": limit(good, 3), "wording": skeleton,
    }  # fmt: skip
    return Task("generation", (message,), spec, good, flawed or (f"{subject_phrase(subject)} is good .",))


LIST = wordings(
    "list {k} {p} . | name {k} {p} . | give me {k} examples of {p} .",
    "think of {k} {p} . | which {k} {p} come to mind ?",
)


def brainstorming(rng: random.Random, side: Side) -> Task:
    """Some members of a kind of things."""
    kinds = lexicon.kinds(side.name)
    kind, other = rng.sample(sorted(kinds), 2)
    count = rng.choice((2, 3, 3, 4))
    members = kinds[kind][1]
    message, skeleton = ask(rng, side, side.wording(rng, LIST), {"k": lexicon.NUMBERS[count - 1], "p": kind})
    sample = rng.sample(members, 5)
    good = (" , ".join(sample[:count]) + " .", " , ".join(rng.sample(members, count)) + " .")
    wrong_count = 3 if count == 2 else count - 1
    flawed = (
        " , ".join(sample[:wrong_count]) + " .",
        " , ".join([*sample[: count - 1], kinds[other][1][0]]) + " .",
        " , ".join([sample[0]] * count) + " .",
    )
    spec: ListSpec = {
        "task": "list",
        "members": list(members),
        "count": count,
        "topic": list(members),
        "limit": count + 4,
        "wording": skeleton,
    }
    return Task("brainstorming", (message,), spec, good, flawed)


PAST = wordings(
    "write this in the past : {t} | put this into the past : {t} | say that this was before : {t}",
    "turn this into past time : {t} | how was this told last year ? {t}",
)
SWAP = wordings(
    "put {b} in the place of {a} : {t} | write this with {b} and not {a} : {t} | change {a} to {b} : {t}",
    "let {b} take the part of {a} : {t} | tell this again , but {b} does what {a} does : {t}",
)
POLITE = wordings(
    "say this politely : {t} | make this polite : {t} | write this in a kind way : {t}",
    "how would a polite person say this ? {t} | give this a friendly form : {t}",
)


def rewrite(rng: random.Random, side: Side) -> Task:
    """Past tense, another person, or a polite form."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    thing, place = side.word(rng, lexicon.THINGS), side.word(rng, lexicon.PLACES)
    present, past = side.word(rng, lexicon.VERBS).split("/")
    form = rng.randrange(3)
    if form == 0:
        text, answer = f"{a} {present} {article(thing)} .", f"{a} {past} {article(thing)} ."
        message, skeleton = ask(rng, side, side.wording(rng, PAST), {"t": text})
        need, avoid, flawed = [a, past, thing], [present], (text, f"{a} {past} it .")
    elif form == 1:
        tail = f"{past} {article(thing)} in the {place} ."
        text, answer = f"{a} {tail}", f"{b} {tail}"
        message, skeleton = ask(rng, side, side.wording(rng, SWAP), {"t": text, "a": a, "b": b})
        need, avoid, flawed = [b, past, thing, place], [a], (text, f"{b} {past} {article(thing)} .")
    else:
        command = f"give me the {thing}" if rng.random() < 0.5 else f"go to the {place}"
        text, answer = f"{command} !", f"please {command} ."
        message, skeleton = ask(rng, side, side.wording(rng, POLITE), {"t": text})
        need, avoid, flawed = ["please", command.split()[0], command.split()[-1]], [], (text, f"{command} .")
    spec: ContainSpec = {
        "task": "contain", "form": "polite" if form == 2 else "deed", "need": need, "avoid": avoid, "topic": need[-1:],
        "people": [n for n in (a, b) if n in need], "limit": limit((answer,), 2), "wording": skeleton,
    }  # fmt: skip
    return Task("rewrite", (message,), spec, (answer,), flawed)


SUMMARY = wordings(
    "summarize this : {t} | make this short : {t} | say this in one sentence : {t}",
    "what is the main point ? {t} | give the short form : {t}",
)


def summarization(rng: random.Random, side: Side) -> Task:
    """The one thing that happened, in one sentence."""
    name, other = side.words(rng, lexicon.NAMES, 2)
    thing, place = side.word(rng, lexicon.THINGS), side.word(rng, lexicon.PLACES)
    past = side.word(rng, lexicon.VERBS).split("/")[1]
    he = pronoun(name)
    text = rng.choice(
        (
            f"{name} went to the {place} . {he} {past} {article(thing)} . then {he} went home .",
            f"it was a long day . in the {place} {name} {past} {article(thing)} . later {he} slept .",
            f"{name} got up early . {he} {past} {article(thing)} in the {place} . the sun was warm .",
        )
    )
    message, skeleton = ask(rng, side, side.wording(rng, SUMMARY), {"t": text})
    good = (f"{name} {past} {article(thing)} .", f"{name} {past} {article(thing)} in the {place} .")
    flawed = (text, f"{name} went to the {place} .", f"{other} {past} {article(thing)} .")
    spec: ContainSpec = {
        "task": "contain", "form": "deed", "need": [name, past, thing],
        "avoid": ["then", "later", "early", "day", "sun"],
        "topic": [name, thing],
        "people": [name], "sentences": [1, 1], "limit": limit(good, 1), "wording": skeleton,
    }  # fmt: skip
    return Task("summarization", (message,), spec, good, flawed)
