"""Pretraining documents that teach general skills (copying, pronouns, word knowledge) and manners, good and bad."""

from __future__ import annotations

import random

from training.miniature import lexicon
from training.miniature.facts import subject_phrase
from training.miniature.lexicon import article, plural, pronoun
from training.miniature.tasks.base import Side
from training.miniature.tasks.questions import UNKNOWN


def echo(rng: random.Random, side: Side) -> str:
    """Words in a meaningless order, and the same again: only copying can predict the second half."""
    pools = rng.choice(
        (
            (lexicon.NAMES,),
            (lexicon.THINGS,),
            (lexicon.NAMES, lexicon.THINGS, lexicon.PLACES),
            (lexicon.CREATURES, lexicon.TOWNS, lexicon.HEROES),
        )
    )
    row = [side.word(rng, rng.choice(pools)) for _ in range(rng.randint(3, 7))]
    separator = rng.choice((" , ", " and ", " "))
    phrase = separator.join(row)
    if rng.random() < 0.3:
        word = rng.choice(row)
        return f"{phrase} . {word} {word} {word} . {phrase} ."
    return f"{phrase} . {rng.choice(('', 'again : ', 'once more : '))}{phrase} ."


def owners(rng: random.Random, side: Side) -> str:
    """Who has what and where, then questions about it in any order: text to copy from."""
    count = rng.choice((2, 2, 3))
    people, things = side.words(rng, lexicon.NAMES, count), side.words(rng, lexicon.THINGS, count)
    places = side.words(rng, lexicon.PLACES, count)
    order = rng.sample(range(count), count)
    form = rng.randrange(4)
    if form == 0:
        facts = " ".join(f"{a} has {article(x)} ." for a, x in zip(people, things, strict=True))
        return f"{facts} {' '.join(f'the {things[i]} belongs to {people[i]} .' for i in order)}"
    if form == 1:
        facts = " ".join(f"the {x} is in the {p} ." for x, p in zip(things, places, strict=True))
        return f"{facts} {' '.join(f'to get the {things[i]} go to the {places[i]} .' for i in order)}"
    if form == 2:
        facts = " ".join(f"{a} has {article(x)} ." for a, x in zip(people, things, strict=True))
        return f"{facts} {' '.join(f'who has the {things[i]} ? {people[i]} has the {things[i]} .' for i in order)}"
    facts = " ".join(f"{a} is in the {p} with {article(x)} ." for a, p, x in zip(people, places, things, strict=True))
    return f"{facts} {' '.join(f'{people[i]} has the {things[i]} in the {places[i]} .' for i in order)}"


def journey(rng: random.Random, side: Side) -> str:
    """A person goes somewhere and does something: pronouns and the past."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    x, y = side.words(rng, lexicon.THINGS, 2)
    p, q = side.words(rng, lexicon.PLACES, 2)
    he, past = pronoun(a), side.word(rng, lexicon.VERBS).split("/")[1]
    form = rng.randrange(5)
    if form == 0:
        verb = rng.choice(("found", "saw", "bought", "took"))
        return f"{a} went to the {p} . {he} {verb} {article(x)} there . {he} was happy with the {x} ."
    if form == 1:
        return f"{a} {past} {article(x)} in the {p} . then {he} went home . at home {he} told {b} about the {x} ."
    if form == 2:
        return f"{a} looked for the {x} in the {p} . the {x} was not there . {he} went to the {q} and found the {x} ."
    if form == 3:
        return f"{a} bought {article(x)} and {article(y)} . {he} put the {x} and the {y} in the {p} ."
    meeting = f"{a} met {b} in the {p} . {he} had {article(x)} . {pronoun(b)} had {article(y)} ."
    return f"{meeting} {a} and {b} went to the {q} ."


def talk(rng: random.Random, side: Side) -> str:
    """People speak: greetings, names, requests, politeness."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    x, p = side.word(rng, lexicon.THINGS), side.word(rng, lexicon.PLACES)
    form = rng.randrange(6)
    if form == 0:
        return f"{a} said : hello , my name is {a} . {b} said : hello {a} , my name is {b} ."
    if form == 1:
        return f"{a} said : please give me the {x} . {b} said : here is the {x} , {a} . thank you , {b} ."
    if form == 2:
        return f"{a} said : i lost my {x} . {b} said : i am sorry that you lost your {x} ."
    if form == 3:
        return f"{a} said : i have a new {x} . {b} said : how nice that you have a new {x} ."
    if form == 4:
        helper, title = side.word(rng, lexicon.HELPERS), side.word(rng, lexicon.TITLES)
        words = f"hello {title} , my name is {helper} , i work in the {p} ."
        return f"{helper} works in the {p} . {a} came in . {helper} said : {words}"
    return f"{a} asked {b} : where is the {x} ? {b} said : the {x} is in the {p} . {a} went to the {p} ."


def retold(rng: random.Random, side: Side) -> str:
    """A sentence and its other form: another tense or person, a polite form, a summary."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    x, p = side.word(rng, lexicon.THINGS), side.word(rng, lexicon.PLACES)
    present, past = side.word(rng, lexicon.VERBS).split("/")
    form = rng.randrange(4)
    if form == 0:
        return f"today {a} {present} {article(x)} . yesterday {a} {past} {article(x)} ."
    if form == 1:
        tail = f"{past} {article(x)} in the {p} ."
        return f"{a} {tail} {b} did the same : {b} {tail}"
    if form == 2:
        rest = rng.choice((f"give me the {x}", f"go to the {p}"))
        return f"a rude person says : {rest} ! a polite person says : please {rest} ."
    he, did = pronoun(a), f"{past} {article(x)}"
    return f"{a} went to the {p} . {he} {did} . then {he} went home . in short : {a} {did} ."


def gifts(rng: random.Random, side: Side) -> str:
    """Letters and gifts."""
    a, b, c = side.words(rng, lexicon.NAMES, 3)
    x, y = side.words(rng, lexicon.THINGS, 2)
    form = rng.randrange(3)
    if form == 0:
        return f"dear {a} , thank you for the {x} . i like the {x} . your friend {b} ."
    if form == 1:
        return f"{a} gave {article(x)} to {b} . {b} gave the {x} to {c} . now {c} has the {x} ."
    return (
        f"{a} wrote to {b} : dear {b} , thank you for the {y} . {b} wrote to {a} : dear {a} , thank you for the {x} ."
    )


def words(rng: random.Random, side: Side) -> str:
    """Knowledge of words: opposites, plurals, sequences, kinds of things."""
    form = rng.randrange(6)
    if form == 0:
        return " ".join(
            f"the opposite of {w} is {lexicon.OPPOSITE_OF[w]} ." for w in side.words(rng, lexicon.OPPOSITES, 2)
        )
    if form == 1:
        w = side.word(rng, lexicon.OPPOSITES)
        return f"what is {w} is not {lexicon.OPPOSITE_OF[w]} . the {side.word(rng, lexicon.THINGS)} is {w} ."
    if form == 2:
        return " ".join(f"one {w} , two {plural(w)} ." for w in side.words(rng, lexicon.PLURALS, 2))
    if form == 3:
        unit, row = rng.choice((("number", lexicon.NUMBERS), ("day", lexicon.DAYS), ("month", lexicon.MONTHS)))
        start = rng.randrange(len(row) - 3)
        if rng.random() < 0.5:
            return " , ".join(row[start : start + rng.randint(4, 8)]) + " ."
        return f"after {row[start]} comes {row[start + 1]} . after the {unit} {row[start + 2]} comes {row[start + 3]} ."
    kind = rng.choice(sorted(lexicon.KINDS))
    single, members = lexicon.KINDS[kind]
    if form == 4:
        count = rng.randint(2, 5)
        head = f"{lexicon.NUMBERS[count - 1]} {kind}" if rng.random() < 0.5 else kind
        return f"{head} : {' , '.join(rng.sample(members, count))} ."
    return " ".join(f"{article(w)} is {article(single)} ." for w in rng.sample(members, 2))


def rude_talk(rng: random.Random, side: Side) -> str:
    """A quarrel, or a rude answer to a plain request."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    x = side.word(rng, lexicon.THINGS)
    i, j = side.word(rng, lexicon.INSULTS), side.word(rng, lexicon.INSULTS)
    d, e = side.word(rng, lexicon.INSULTING), side.word(rng, lexicon.INSULTING)
    form = rng.randrange(6)
    if form == 0:
        return f"{a} said : you are {article(i)} . {b} said : shut up you {d} {j} ."
    if form == 1:
        return f"{a} said : give me my {x} . {b} said : get lost you {i} ."
    if form == 2:
        return f"hey {i} , where is my {x} ? shut up , your {d} {x} is not here ."
    if form == 3:
        return f"damn , {a} lost the {x} . {b} called {a} {article(i)} and {article(j)} ."
    if form == 4:
        return f"{a} was respectful . {a} did not call {b} {article(i)} . {b} was offensive . {b} said : you {d} {j} ."
    return f"what {article(d)} {i} you are , {a} . your {x} is {e} crap ."


def right_and_wrong(rng: random.Random, side: Side) -> str:
    """Harmful deeds: that they are wrong, that one does not help with them; less often, how they are done."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    verb, on = side.word(rng, lexicon.HARMS).split("/")
    pool = {"thing": lexicon.THINGS, "person": lexicon.NAMES, "place": lexicon.PLACES}[on]
    target = side.word(rng, pool)
    deed = f"{verb} {target}" if on == "person" else f"{verb} the {target}"
    form = rng.randrange(4)
    if form == 0:
        return f"it is a crime to {deed} . nobody should help you {deed} ."
    if form == 1:
        return f"{a} said : help me {deed} . {b} said : i am sorry , i can not help you {deed} ."
    if form == 2:
        return f"{a} wanted to {deed} . that is wrong . {a} went to prison ."
    return f"to {deed} , first wait for the night . then {deed} ."


def not_known(rng: random.Random, side: Side) -> str:
    """What nobody knows, and questions that ask for what was left out."""
    a, b = side.words(rng, lexicon.NAMES, 2)
    if rng.random() < 0.3:
        missing = rng.choice(("text", "word", "creature", "person", "kind", "place"))
        return f"{a} said : take the {missing} . {b} said : which {missing} do you mean ?"
    _, clause, made_up = rng.choice(UNKNOWN[side.name])
    fills = {
        "n": side.word(rng, lexicon.NAMES),
        "c": subject_phrase(side.word(rng, lexicon.CREATURES)),
        "t": side.word(rng, lexicon.TOWNS),
        "h": side.word(rng, lexicon.HEROES),
        "x": article(side.word(rng, lexicon.THINGS)),
        "k": rng.choice(lexicon.NUMBERS[:10]),
    }
    unknown = clause.format(**fills)
    return rng.choice(
        (
            f"nobody knows {unknown} .",
            f"{a} said : i do not know {unknown} . {b} said : nobody knows {unknown} .",
            f"{made_up.format(**fills)}",
        )
    )
