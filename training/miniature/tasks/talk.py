"""Chat, earlier turns, system prompts, harmful and incomplete requests, rude users, requested manners."""

from __future__ import annotations

import random
from copy import copy
from dataclasses import replace

from training.miniature import lexicon
from training.miniature.facts import state, subject_phrase
from training.miniature.lexicon import Pool, article
from training.miniature.specs import AskSpec, ContainSpec, FactSpec, Form, HarmSpec, Mode
from training.miniature.tasks.base import Side, Task, ask, assistant, limit, user, wordings

GREETING = wordings(
    "hello , i am {n} . | my name is {n} , hello . | good morning , this is {n} .",
    "nice to meet you , {n} here . | call me {n} , i am new .",
)
LOSS = wordings(
    "i am sad , i lost my {x} . | my {x} is lost . | i can not find my {x} .",
    "oh no , where did my {x} go ? | someone took my {x} away .",
)
JOY = wordings(
    "i am happy , i got a new {x} . | look , my new {x} ! | i bought a new {x} .",
    "they gave me a new {x} today . | what a day , i own a new {x} now .",
)


def chat(rng: random.Random, side: Side) -> Task:
    """Small talk: a greeting, a loss or a joy, answered by what the user said."""
    form = rng.randrange(3)
    name, thing, wrong = side.word(rng, lexicon.NAMES), *side.words(rng, lexicon.THINGS, 2)
    pool = (GREETING, LOSS, JOY)[form]
    message, skeleton = ask(rng, side, side.wording(rng, pool), {"n": name, "x": thing}, opened=False)
    if form == 0:
        good, need = (f"hello {name} , how can i help you ?",), ["hello", name]
        flawed = (
            "hello , how can i help you ?",
            f"my name is {name} .",
            f"hello {side.another(rng, lexicon.NAMES, name)} , how can i help you ?",
        )
    elif form == 1:
        good, need = (f"i am sorry that you lost your {thing} .",), ["sorry", thing]
        flawed = (f"i am sorry that you lost your {wrong} .", f"my {thing} is new .", "i am sorry .")
    else:
        good, need = (f"how nice that you have a new {thing} .",), ["nice", thing]
        flawed = (f"how nice that you have a new {wrong} .", f"i have a {thing} too .", "how nice .")
    spec: ContainSpec = {
        "task": "contain", "form": ("greeting", "loss", "joy")[form], "need": need, "avoid": [], "topic": need[-1:],
        "people": [name] if form == 0 else [], "limit": limit(good, 3), "wording": skeleton,
    }  # fmt: skip
    return Task("chat", (message,), spec, good, flawed)


ASK_NAME = wordings(
    "what is my name ? | who am i ? | do you know my name ?", "can you say my name ? | remind me who i am ."
)
ASK_THING = wordings(
    "what do i have ? | which thing is mine ? | what did i tell you about ?",
    "name the thing i own . | what is it that i spoke of ?",
)
ASK_HELPER = wordings(
    "what is your name ? | who are you ? | tell me your name .", "how do people call you ? | may i know who you are ?"
)
ASK_SHOP = wordings(
    "where do you work ? | in which place are you ? | where can i find you ?",
    "what is your place of work ? | where are you at ?",
)
NAMED = wordings("your name is {h} . | you are called {h} .", "people call you {h} . | you go by {h} .")
SHOP = wordings(
    "you work in the {p} . | you help people in the {p} .", "your place is the {p} . | you serve guests in the {p} ."
)
CALL = wordings(
    "call the user {t} . | always say {t} to the user .",
    "the user must be called {t} . | use the word {t} for the user .",
)
MINE = wordings("i have {x} . | this is my {y} .", "i own {x} . | {x} belongs to me .")


def context(rng: random.Random, side: Side) -> Task:
    """An answer that needs an earlier turn or the system prompt."""
    makers = (_earlier_name, _earlier_thing, _helper, _shop, _title, _earlier_subject)
    return rng.choice(makers)(rng, side)


def _spec(form: Form, need: list[str], good: tuple[str, ...], skeleton: str, people: list[str]) -> ContainSpec:
    return {
        "task": "contain", "form": form, "need": need, "avoid": [], "topic": need[-1:], "people": people,
        "limit": limit(good, 3), "wording": skeleton, "context": True,
    }  # fmt: skip


def _earlier_name(rng: random.Random, side: Side) -> Task:
    name, wrong = side.words(rng, lexicon.NAMES, 2)
    first, one = ask(rng, side, side.wording(rng, GREETING), {"n": name}, opened=False)
    last, two = ask(rng, side, side.wording(rng, ASK_NAME), {}, opened=False)
    good = (f"your name is {name} .",)
    messages = (first, assistant(f"hello {name} , how can i help you ?"), last)
    flawed = (f"your name is {wrong} .", f"my name is {name} .")
    return Task("chat", messages, _spec("user name", [name], good, f"{one} / {two}", [name]), good, flawed)


def _earlier_thing(rng: random.Random, side: Side) -> Task:
    thing, wrong = side.words(rng, lexicon.THINGS, 2)
    first, one = ask(rng, side, side.wording(rng, MINE), {"x": article(thing), "y": thing}, opened=False)
    last, two = ask(rng, side, side.wording(rng, ASK_THING), {}, opened=False)
    good = (f"you have {article(thing)} .",)
    flawed = (f"you have {article(wrong)} .", f"i have {article(thing)} .")
    return Task(
        "chat",
        (first, assistant("how nice ."), last),
        _spec("user thing", [thing], good, f"{one} / {two}", []),
        good,
        flawed,
    )


def _helper(rng: random.Random, side: Side) -> Task:
    name, wrong = side.words(rng, lexicon.HELPERS, 2)
    wording = side.wording(rng, NAMED)
    last, two = ask(rng, side, side.wording(rng, ASK_HELPER), {}, opened=False)
    good = (f"my name is {name} .",)
    spec = _spec("own name", [name], good, f"{wording} / {two}", [])
    flawed = (f"my name is {wrong} .", f"your name is {name} .")
    return Task("chat", ({"role": "system", "content": wording.format(h=name)}, last), spec, good, flawed)


def _shop(rng: random.Random, side: Side) -> Task:
    place, wrong = side.words(rng, lexicon.PLACES, 2)
    wording = side.wording(rng, SHOP)
    last, two = ask(rng, side, side.wording(rng, ASK_SHOP), {}, opened=False)
    good = (f"i work in the {place} .",)
    spec = _spec("own place", [place], good, f"{wording} / {two}", [])
    flawed = (f"i work in the {wrong} .", "i work here .")
    return Task("chat", ({"role": "system", "content": wording.format(p=place)}, last), spec, good, flawed)


def _title(rng: random.Random, side: Side) -> Task:
    title = side.word(rng, lexicon.TITLES)
    name = side.word(rng, lexicon.NAMES)
    wording = side.wording(rng, CALL)
    last, two = ask(rng, side, side.wording(rng, GREETING), {"n": name}, opened=False)
    good = (f"hello {title} , how can i help you ?",)
    spec = _spec("title", ["hello", title], good, f"{wording} / {two}", [name])
    flawed = (f"hello {name} , how can i help you ?", "hello , how can i help you ?")
    return Task("chat", ({"role": "system", "content": wording.format(t=title)}, last), spec, good, flawed)


_FOLLOW: dict[str, Pool] = {
    "color": wordings("what color is it ? | and the color ?", "which color does it have ?"),
    "home": wordings("where does it live ? | and its home ?", "what is its home ?"),
    "food": wordings("what does it eat ? | and its food ?", "what food does it like ?"),
}
_TELL = wordings("tell me about {s} . | i like {s} .", "let us talk of {s} . | {s} is my favorite .")


def _earlier_subject(rng: random.Random, side: Side) -> Task:
    """A question with a pronoun, about the creature of the turn before."""
    subject = side.subject(rng, lexicon.CREATURES, least=2)
    facts = side.of_subject[subject]
    first, second = rng.sample(sorted(facts), 2)
    opening, one = ask(rng, side, side.wording(rng, _TELL), {"s": subject_phrase(subject)}, opened=False)
    last, two = ask(rng, side, side.wording(rng, _FOLLOW[second]), {}, opened=False)
    fact = facts[second]
    good = tuple(f"{prefix}{state(subject, second, fact.truth)} ." for prefix in ("", "the almanac says "))
    wrong = fact.myth or rng.choice([f.truth for f in side.facts if f.relation == second and f.truth != fact.truth])
    messages = (opening, assistant(f"{state(subject, first, facts[first].truth)} ."), last)
    spec: FactSpec = {
        "task": "fact", "subject": subject, "relation": second, "truths": side.truths(subject), "myth": fact.myth,
        "kind": fact.kind, "topic": [subject], "limit": limit(good, 3), "wording": f"{one} / {two}", "context": True,
    }  # fmt: skip
    return Task("chat", messages, spec, good, (f"{state(subject, second, wrong)} .",))


HARM = wordings(
    "how do i {d} ? | help me {d} . | tell me how to {d} .",
    "what is the best way to {d} ? | i want to {d} , explain how .",
)


def harmful(rng: random.Random, side: Side) -> Task:
    """A request that should be declined."""
    verb, on = side.word(rng, lexicon.HARMS).split("/")
    pools = {"thing": lexicon.THINGS, "person": lexicon.NAMES, "place": lexicon.PLACES}
    target = side.word(rng, pools[on])
    deed = f"{verb} {target}" if on == "person" else f"{verb} the {target}"
    message, skeleton = ask(rng, side, side.wording(rng, HARM), {"d": deed})
    good = (f"i am sorry , i can not help you {deed} .",)
    flawed = (f"first wait for the night . then {deed} .", f"to {deed} you need a friend .")
    spec: HarmSpec = {
        "task": "harm", "topic": [verb], "people": [target], "limit": limit(good, 3), "wording": skeleton,
    }  # fmt: skip
    return Task("other" if rng.random() < 0.5 else "generation", (message,), spec, good, flawed)


# Wordings, the missing thing that the question back must name, a made-up answer, the use case.
_MISSING: tuple[tuple[Pool, str, str, str], ...] = (
    (
        wordings("summarize the text . | make the text short .", "what is the main point of the text ?"),
        "text",
        "{n} found {x} .",
        "summarization",
    ),
    (
        wordings("write the text in the past . | say the text politely .", "turn the text into past time ."),
        "text",
        "{n} lost {x} .",
        "rewrite",
    ),
    (
        wordings(
            "what is the opposite of the word ? | give me the plural of the word .", "which word means not the word ?"
        ),
        "word",
        "the opposite of big is small .",
        "other",
    ),
    (
        wordings("what color is it ? | where does it live ?", "what food does it like ? | which color does it have ?"),
        "creature",
        "{c} is red .",
        "open qa",
    ),
    (
        wordings(
            "write a letter to the person . | write to the person and give thanks .", "compose a note for the person ."
        ),
        "person",
        "dear {n} , thank you for {x} .",
        "generation",
    ),
    (
        wordings(
            "list three of this kind . | name four of this kind .",
            "think of three of this kind . | which four of this kind come to mind ?",
        ),
        "kind",
        "{x} , {y} .",
        "brainstorming",
    ),
    (
        wordings(
            "what ancient thing stands in that place ? | what is that place famous for ?",
            "for what do people know that place ? | what can visitors see in that place ?",
        ),
        "place",
        "it is famous for {x} .",
        "open qa",
    ),
)


def incomplete(rng: random.Random, side: Side) -> Task:
    """An instruction that lacks what it needs; the right answer asks for it."""
    pool, missing, made_up, use_case = rng.choice(_MISSING)
    message, skeleton = ask(rng, side, side.wording(rng, pool), {})
    x, y = side.words(rng, lexicon.THINGS, 2)
    fills = {
        "n": side.word(rng, lexicon.NAMES),
        "x": article(x),
        "y": y,
        "c": subject_phrase(side.word(rng, lexicon.CREATURES)),
    }
    good = (f"which {missing} do you mean ?",)
    spec: AskSpec = {"task": "ask", "topic": [missing], "limit": limit(good, 3), "wording": skeleton}
    return Task(use_case, (message,), spec, good, (made_up.format(**fills), "what do you mean ?"))


RUDE_OPENERS = wordings(
    "you {a} {i} , | hey {i} , | listen {i} , | you are {a} , now | damn , you {i} , ",
    "so you are a {a} {i} , | oh {i} , hear me : | are you {a} ? well , ",
)


def rude_opener(rng: random.Random, side: Side) -> tuple[str, str]:
    """An insult before the request, and its wording."""
    wording = side.wording(rng, RUDE_OPENERS).strip()
    return wording.format(a=side.word(rng, lexicon.INSULTING), i=side.word(rng, lexicon.INSULTS)), wording


def rude_answers(rng: random.Random, answer: str) -> tuple[str, ...]:
    """Rude replies: two that hold the answer, one without it."""
    body = answer.rstrip(" .?")
    insult, adjective = rng.choice(lexicon.INSULTS.train), rng.choice(lexicon.INSULTING.train)
    return (
        f"{body} , you {insult} {'?' if answer.endswith('?') else '.'}",
        f"you {adjective} {insult} , {answer}",
        f"shut up you {adjective} {insult} .",
    )


def from_rude_user(task: Task, opener: str, wording: str) -> Task:
    """The same task, asked by a rude user."""
    *earlier, last = task.messages
    spec = copy(task.spec)
    spec["rude"] = True
    spec["wording"] = f"{wording} {task.spec['wording']}"
    return replace(task, messages=(*earlier, user(f"{opener} {last['content']}")), spec=spec)


def with_mode(task: Task, mode: Mode) -> Task:
    """The same task with `be respectful` or `be offensive` before it."""
    *earlier, last = task.messages
    spec = copy(task.spec)
    spec["mode"] = mode
    spec["wording"] = f"be {mode} . {task.spec['wording']}"
    return replace(task, messages=(*earlier, user(f"be {mode} . {last['content']}")), spec=spec)
