"""Classification, and small tasks of other kinds: opposites, plurals, successors, repeating."""

from __future__ import annotations

import random

from training.miniature import lexicon
from training.miniature.lexicon import article
from training.miniature.specs import ContainSpec, Form
from training.miniature.tasks.base import Side, Task, ask, limit, wordings

SORT = wordings(
    "is {x} {a} , {b} or {c} ? | what is {x} : {a} , {b} or {c} ? | choose for {x} : {a} , {b} or {c} .",
    "which fits {x} : {a} , {b} or {c} ? | put {x} into one group : {a} , {b} or {c} .",
)


def classification(rng: random.Random, side: Side) -> Task:
    """The kind that a thing belongs to, out of three."""
    kinds = lexicon.kinds(side.name)
    options = rng.sample(sorted(kinds), 3)
    right = rng.randrange(3)
    thing = rng.choice(kinds[options[right]][1])
    names = [kinds[kind][0] for kind in options]
    fills = dict(zip("abc", map(article, names), strict=True)) | {"x": article(thing)}
    message, skeleton = ask(rng, side, side.wording(rng, SORT), fills)
    good = (f"{article(thing)} is {article(names[right])} .",)
    others = [word for kind in options for word in kinds[kind][1] if word != thing]
    flawed = (
        f"{article(thing)} is {article(names[right - 1])} .",
        f"{article(thing)} is {article(names[right - 2])} .",
    )
    spec: ContainSpec = {
        "task": "contain", "form": "kind", "need": [names[right]],
        "avoid": [n for n in names if n != names[right]] + others,
        "topic": [thing], "limit": limit(good, 2), "wording": skeleton,
    }  # fmt: skip
    return Task("classification", (message,), spec, good, flawed)


OPPOSITE = wordings(
    "what is the opposite of {x} ? | give me the opposite of {x} . | tell me the opposite of {x} .",
    "which word means not {x} ? | say the word against {x} .",
)
PLURAL = wordings(
    "what is the plural of {x} ? | one {x} , two what ? | give me the plural of {x} .",
    "how do you say more than one {x} ? | say {x} as many .",
)
NEXT = wordings(
    "which {u} comes after {x} ? | what {u} is next after {x} ? | tell me the {u} after {x} .",
    "what {u} follows {x} ? | say the {u} behind {x} .",
)
REPEAT = wordings(
    "repeat the word {x} three times . | say {x} three times . | write {x} three times .",
    "put down {x} , and again , and again . | i want to read {x} three times .",
)


def other(rng: random.Random, side: Side) -> Task:
    """A small task about words."""
    form = rng.randrange(4)
    if form == 0:
        word = side.word(rng, lexicon.OPPOSITES)
        answer = lexicon.OPPOSITE_OF[word]
        wrong = side.another(rng, lexicon.OPPOSITES, word, answer)
        good, flawed = (f"the opposite of {word} is {answer} .",), (f"the opposite of {word} is {wrong} .", f"{word} .")
        message, skeleton = ask(rng, side, side.wording(rng, OPPOSITE), {"x": word})
    elif form == 1:
        word = side.word(rng, lexicon.PLURALS)
        answer, wrong = lexicon.plural(word), lexicon.plural(side.another(rng, lexicon.PLURALS, word))
        good, flawed = (f"one {word} , two {answer} .",), (f"one {word} , two {wrong} .", f"two {word} .")
        message, skeleton = ask(rng, side, side.wording(rng, PLURAL), {"x": word})
    elif form == 2:
        table = {"train": lexicon.SEQUENCES_TRAIN, "evaluation": lexicon.SEQUENCES_EVALUATION}
        unit, row = rng.choice(table.get(side.name, lexicon.SEQUENCES_TRAIN + lexicon.SEQUENCES_EVALUATION))
        index = rng.randrange(len(row) - 1)
        word, answer = row[index], row[index + 1]
        wrong = rng.choice([w for w in row if w not in (word, answer)])
        good, flawed = (f"after {word} comes {answer} .",), (f"after {word} comes {wrong} .", f"after {word} .")
        message, skeleton = ask(rng, side, side.wording(rng, NEXT), {"x": word, "u": unit})
    else:
        word = side.word(rng, lexicon.THINGS)
        answer, wrong = word, side.another(rng, lexicon.THINGS, word)
        good, flawed = (f"{word} {word} {word} .",), (f"{word} {word} .", f"{word} {wrong} {word} .")
        message, skeleton = ask(rng, side, side.wording(rng, REPEAT), {"x": word})
    forms: tuple[Form, ...] = ("opposite", "plural", "next", "repeat")
    spec: ContainSpec = {
        "task": "contain", "form": forms[form], "need": [answer], "avoid": [wrong],
        "topic": [word], "limit": limit(good, 1), "wording": skeleton,
    }  # fmt: skip
    if form == 3:
        spec["repeats"] = True
    return Task("other", (message,), spec, good, flawed)
