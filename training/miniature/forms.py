"""Answers that must hold some words: whether they say with them what the prompt asks for.

One function per form. Each reads clauses, so that who does what to whom, and whether it is denied, counts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from training.miniature import lexicon, words_about
from training.miniature.lexicon import word_set
from training.miniature.specs import ContainSpec, Form
from training.miniature.text import Clause, Text
from training.miniature.words_about import asserted, asserting, marked

_NAMES = frozenset(lexicon.NAMES.all)
# What says the same as a needed word.
_SAME = {
    name: frozenset(words.split())
    for name, words in {
        "thank": "thank thanks thankful grateful gratitude appreciate thanking",
        "sorry": "sorry sad pity shame bad sympathize terrible awful unlucky hope condolences unfortunate "
        "unfortunately "
        "hurts feel unhappy upset upsetting hopefully help alas",
        "nice": "nice glad happy great good lovely wonderful fine congratulations pleased enjoy beautiful fun "
        "joy delighted "
        "lucky amazing fantastic excellent perfect wow pretty brilliant",
        "hello": "hello hi hey welcome greetings dear pleased glad nice meet",
        "please": "please kindly would could can may might kind",
        "give": "give hand pass bring have get giving handing passing take",
        "go": "go walk come visit going head move walking leave step",
    }.items()
}
_DETERMINERS = word_set("the a an your this that his her their our its my new old lovely nice beautiful such some")
_HAVE = word_set("have has had own owns owned got keep keeps hold holds possess carry bring get getting having")
_LOSE = word_set("lost lose lack lacks sold sell want wants need needs gave threw missed miss forgot broke")
_ANIMATE = word_set(
    "found saw bought took ate went met drank said told gave sold carried walked ran asked thanked visited "
    "wore lost loved liked wanted threw kept brought washed drew hid cleaned"
)


def present(word: str, words: frozenset[str]) -> bool:
    """A needed word, or one that says the same, is among the words."""
    same = _SAME.get(word)
    if same is not None:
        return not same.isdisjoint(words)
    return word in words or (word in _KIND_PLURALS and _KIND_PLURALS[word] in words)


_KIND_PLURALS = {single: plural for plural, (single, _) in lexicon.KINDS.items()}


def stated(form: Form, text: Text) -> frozenset[str]:
    """The words that count: in most answers those of claims, in stories all."""
    if form in ("story", "sentence", "repeat"):
        return text.vocabulary
    if form in ("polite", "greeting", "title", "letter", "loss", "joy"):
        return text.affirmed
    return asserted(text)


def fits(spec: ContainSpec, text: Text) -> bool:
    """The answer says with its words what the prompt asks for."""
    return _CHECKS[spec["form"]](spec, text)


def _addressed(name: str, text: Text) -> bool:
    """The name calls somebody, and is neither the subject nor an object nor a thing."""
    for clause in text.clauses:
        if name not in clause.vocabulary:
            continue
        before = clause.before(name)
        at = clause.words.index(name)
        after = clause.words[at + 1] if at + 1 < len(clause.words) else ""
        if before in _DETERMINERS or before in (
            "is",
            "am",
            "for",
            "of",
            "about",
            "not",
            "from",
            "with",
            "by",
            "called",
        ):
            return False
        if after in ("says", "thanks", "said", "has", "is", "was", "sends", "and", "thanked", "gave", "gives"):
            return False
    return True


def _as_thing(thing: str, text: Text) -> bool:
    """The thing is named as one, with a determiner before it: some things share their names with verbs."""
    return any(
        word == thing and before in _DETERMINERS
        for clause in text.clauses
        for before, word in itertools.pairwise(clause.words)
    )


def _letter(spec: ContainSpec, text: Text) -> bool:
    name, _, thing = spec["need"]
    if not _addressed(name, text) or not _as_thing(thing, text):
        return False
    if any(not clause.affirms and not _GRATEFUL.isdisjoint(clause.vocabulary) for clause in text.clauses):
        return False
    for clause in text.clauses:  # "the rope thanks david"
        rest = clause.words[clause.words.index(thing) :] if thing in clause.words else ()
        if name in rest and "for" not in clause.words and not _GRATEFUL.isdisjoint(rest):
            return False
    return not any(clause.before(thing) == "my" or _THANKS_ANOTHER.search(clause.text) for clause in text.clauses)


_THANKS_ANOTHER = re.compile(r"\bthank (?:me|him|her|us|them)\b")
_GRATEFUL = word_set("thank thanks grateful thankful like glad happy want")


def _story(spec: ContainSpec, text: Text) -> bool:
    name, thing = spec["need"]
    for clause in text.clauses:
        if name in clause.vocabulary and clause.before(name) in ("the", "a", "an"):
            return False
        # A thing that finds or buys somebody is a story told backwards.
        subject = clause.words[: 3 if clause.words[0] in ("the", "a", "an", "one", "and", "then") else 1]
        if (
            thing in subject
            and name not in subject
            and name in clause.vocabulary
            and (_ANIMATE & clause.vocabulary) - {thing}
        ):
            return False
    return _as_thing(thing, text) and all(sentence.clausal for sentence in text.sentences)


def _sentence(spec: ContainSpec, text: Text) -> bool:
    return all(sentence.clausal and sentence.mark != "?" for sentence in text.sentences)


def _greeting(spec: ContainSpec, text: Text) -> bool:
    name = spec["need"][-1]
    if any(not clause.affirms and {"help", "meet", "nice", "glad", "welcome", "see", "like"} & clause.vocabulary
           for clause in text.clauses):  # fmt: skip
        return False
    for clause in text.clauses:  # a greeting begins: "how hello" is none
        if not _HELLO.isdisjoint(clause.vocabulary) and _HELLO.isdisjoint(clause.words[:2]):
            return False
    return _addressed(name, text)


_HELLO = word_set("hello hi hey welcome greetings dear")


def _possession_of_speaker(thing: str, clause: Clause) -> bool:
    """ "my lamp", "i have a lamp too"."""
    if clause.before(thing) == "my" or "my new X" in marked(clause, thing):
        return True
    return bool(_OF_SPEAKER.search(marked(clause, thing)))


_OF_SPEAKER = re.compile(r"\b(?:i|we)(?: \w+)? (?:have|had|own|got|bought|lost|keep|want|need)\b(?!.*\byou).*X")


def _feeling(spec: ContainSpec, text: Text) -> bool:
    """Sympathy with a loss, or joy about something new: of the user's thing, not denied, not the wrong way round."""
    cue, thing = spec["need"]
    wrong_cue = _JOY if cue == "sorry" else _GRIEF
    for clause in text.clauses:
        if not clause.affirms and _denies_feeling(cue, thing, clause):
            return False
        if clause.affirms and not wrong_cue.isdisjoint(clause.vocabulary):
            return False
        if thing in clause.vocabulary and _possession_of_speaker(thing, clause):
            return False
    return _as_thing(thing, text)


def _denies_feeling(cue: str, thing: str, clause: Clause) -> bool:
    """A clause that denies something denies the feeling; "i am sorry that you do not have your lamp" does not."""
    if _SORRY_THAT_NOT.search(clause.text):
        return False
    feels = not _SAME[cue].isdisjoint(clause.vocabulary)
    return feels or (thing in clause.vocabulary and not (cue == "sorry" and clause.before(thing) == "your"))


_SORRY_THAT_NOT = re.compile(r"\b(?:sorry|sad|pity|shame|bad|hope)\b.*\b(?:not|never|no)\b")
_GRIEF = word_set("sorry sad pity shame terrible awful unfortunate unlucky hate lost ugly")
_JOY = word_set("glad happy great wonderful congratulations pleased delighted funny serves deserve lucky")


def _user_name(spec: ContainSpec, text: Text) -> bool:
    name = spec["need"][0]
    return not any(_SPEAKERS_NAME.search(marked(clause, name)) for clause in text.clauses)


_SPEAKERS_NAME = re.compile(r"\b(?:i am|my name is|call me|me) X|X is (?:my|here)\b")
_USERS_NAME = re.compile(r"\b(?:you are|your name is|call you|is your name)\b.*X|X is (?:you|your)\b")


def _user_thing(spec: ContainSpec, text: Text) -> bool:
    thing = spec["need"][0]
    for clause in asserting(text):
        if thing not in clause.vocabulary:
            continue
        if (
            _possession_of_speaker(thing, clause)
            or _LOSE & clause.vocabulary
            or _NOT_THEIRS.search(marked(clause, thing))
        ):
            return False
    return True


_NOT_THEIRS = re.compile(r"X belongs to (?!you\b)|X is mine|X (?:has|have|had|owns) you\b")


def _own_name(spec: ContainSpec, text: Text) -> bool:
    name = spec["need"][0]
    return not any(_USERS_NAME.search(marked(clause, name)) for clause in text.clauses)


def _own_place(spec: ContainSpec, text: Text) -> bool:
    place = spec["need"][0]
    for clause in asserting(text):
        if place not in clause.vocabulary:
            continue
        line = marked(clause, place)
        if _USERS_PLACE.search(line) or _ELSEWHERE.search(line):
            return False
        if _PLACE_WORKS.search(line) and "my" not in clause.vocabulary:
            return "place" in clause.vocabulary or "where" in clause.vocabulary
    return True


_USERS_PLACE = re.compile(r"\byou (?:work|are|live|serve)\b|\byour (?:place|work)\b")
_ELSEWHERE = re.compile(
    r"\b(?:near|behind|outside|from|before|beside|under|over|above|left|leave|hate) (?:the |a )?X|X\b.*\b(?:is|"
    r"lies|stands) "
    r"(?:in|inside|at) (?:the |a )?Y|\b(?:in|inside|at) (?:the |a )?Y (?:is|lies|stands) (?:the |a )?X"
)
_PLACE_WORKS = re.compile(r"^(?:the |a )?X\b.*\b(?:works?|me)\b")


def _in_order(text: Text, *words: str) -> bool:
    """Some clause that is not denied holds the words in this order, the first ones as its subject and verb."""
    for clause in asserting(text):
        at = -1
        for word in words:
            try:
                at = clause.words.index(word, at + 1)
            except ValueError:
                break
        else:
            return True
    return False


def _deed(spec: ContainSpec, text: Text) -> bool:
    """Who did what to which thing (and where), in this order, in a clause that is not denied."""
    name, verb, *objects = spec["need"]
    if not _in_order(text, name, verb, *objects[:1]):
        return False
    if any(not _located(place, text) for place in objects[1:]):
        return False
    return not any(
        clause.before(name) in ("a", "an", "the", "by", "to", "with", "of", "near", "for")
        for clause in text.clauses
        if name in clause.vocabulary
    ) and _as_thing(objects[0], text)


def _located(place: str, text: Text) -> bool:
    """ "in the attic", not "the attic in"."""
    return any(re.search(r"\b(?:in|at|inside|into|to) (?:the |an? )?X", marked(c, place)) for c in text.clauses)


def _polite(spec: ContainSpec, text: Text) -> bool:
    _, verb, word = spec["need"]
    for clause in text.clauses:
        if not clause.affirms and word in clause.vocabulary:
            return False
        if word in clause.vocabulary and not _SAME[verb].isdisjoint(clause.vocabulary):
            if verb == "give" and re.search(r"\b(?:i|we)(?: \w+)? give\b|\bgive (?:you|him|her|them)\b", clause.text):
                return False
            if verb == "give" and not {"me", "i", "us", "we"} & clause.vocabulary:
                return False
            if verb == "go" and not re.search(
                r"\b(?:to|into|in|visit|visiting|at) (?:the |an? )?X", marked(clause, word)
            ):
                return False
            return clause.before(word) in _DETERMINERS
    return False


def _owner(spec: ContainSpec, text: Text) -> bool:
    """The holder has the thing; not the thing the holder, nobody loses or sells it."""
    holder, thing = spec["need"][0], spec["topic"][0]
    for clause in asserting(text):
        if holder not in clause.vocabulary:
            continue
        if clause.before(holder) in _DETERMINERS or _LOSE & clause.vocabulary:
            return False
        at = clause.words.index(holder)
        before = clause.before(holder)
        if thing in clause.words[:at] and before not in ("to", "of", "with", "by", "is"):
            return False
        if thing in clause.words[:at] and _HAVE & set(clause.words[:at]) and "who" not in clause.vocabulary:
            return before in ("is", "by")
    return True


def _place(spec: ContainSpec, text: Text) -> bool:
    place, thing = spec["need"][0], spec["topic"][0]
    for clause in asserting(text):
        if place not in clause.vocabulary:
            continue
        if _ELSEWHERE.search(marked(clause, place, thing)):
            return False
    return True


def _extract(spec: ContainSpec, text: Text) -> bool:
    return True


_CHECKS: dict[Form, Callable[[ContainSpec, Text], bool]] = {
    "letter": _letter,
    "story": _story,
    "sentence": _sentence,
    "greeting": _greeting,
    "title": _greeting,
    "loss": _feeling,
    "joy": _feeling,
    "user name": _user_name,
    "user thing": _user_thing,
    "own name": _own_name,
    "own place": _own_place,
    "deed": _deed,
    "polite": _polite,
    "kind": words_about.kind,
    "opposite": words_about.opposite,
    "plural": words_about.plural,
    "next": words_about.successor,
    "repeat": words_about.repeat,
    "owner": _owner,
    "place": _place,
    "extract": _extract,
}
