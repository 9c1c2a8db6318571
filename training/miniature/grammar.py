"""Whether words are a sentence of simple English: order matters, which a bag of words cannot see.

A recognizer for a small regular grammar over word classes (words.py). A set of places between tokens is an integer, bit
i for the place before token i; each rule takes the places where it may begin and gives those where it may end, so that
all readings of ambiguous words are followed at once and the time is linear in the length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from training.miniature.words import CLASSES, SYMBOL_OF_UNKNOWN, SYMBOLS_OF_CLASS

Places = int
Rule = Callable[[Places], Places]
LONGEST = 60  # tokens; no good answer of the world has a sentence of half this length
UNKNOWN_SHARE = 1 / 3  # more unknown words than this are not a sentence that can be judged


class Shape(NamedTuple):
    """Whether words are a sentence, and one with a verb, so more than a fragment such as "a lamp and a rope"."""

    sentence: bool
    clause: bool


@lru_cache(maxsize=1 << 16)
def parsed(shape: str, question: bool = False) -> Shape:
    """What the words of this shape are (`words.symbols`, without marks at its ends).

    Args:
        question: a question mark follows, so that the verb may come first.
    """
    if not 0 < len(shape) <= LONGEST or shape.count(SYMBOL_OF_UNKNOWN) > len(shape) * UNKNOWN_SHARE:
        return Shape(False, False)
    reader, end = _Reader(shape, question), 1 << len(shape)
    clause = bool(reader.full_sentence() & end)
    return Shape(clause or bool(reader.sentence() & end), clause)


def _by_place(rule: Callable[[_Reader, Places], Places]) -> Callable[[_Reader, Places], Places]:
    """Work the rule out for each place once: the ends of several beginnings are the union of the ends of each."""
    name = rule.__name__

    def cached(self: _Reader, start: Places) -> Places:
        ends, known = 0, self.known[name]
        while start:
            place = start & -start
            start ^= place
            if place not in known:
                known[place] = rule(self, place)
            ends |= known[place]
        return ends

    return cached


class _Reader:
    """The rules on one shape. Each takes and gives `Places`."""

    def __init__(self, shape: str, question: bool) -> None:
        self.question = question
        self.known: dict[str, dict[Places, Places]] = defaultdict(dict)
        self._places: dict[str, Places] = {}
        for name in (*CLASSES, ",", ":", ";"):
            members = SYMBOLS_OF_CLASS.get(name, name)
            self._places[name] = sum(1 << i for i, symbol in enumerate(shape) if symbol in members)
        marks = self._places[","] | self._places[":"] | self._places[";"] | self._places["k"] | self._places["s"]
        # A preposition may end a clause only after a question word or `that`: "the place which you speak of".
        self.ends = marks | 1 << len(shape) if self._places["w"] or self._places["s"] else 0

    def one(self, start: Places, classes: str) -> Places:
        """One token of any of the classes."""
        union = 0
        for name in classes:
            union |= self._places[name]
        return (start & union) << 1

    def many(self, start: Places, rule: Rule) -> Places:
        """The rule any number of times."""
        reached, fresh = start, start
        while fresh:
            fresh = rule(fresh) & ~reached
            reached |= fresh
        return reached

    def maybe(self, start: Places, rule: Rule) -> Places:
        return start | rule(start)

    # Phrases

    @_by_place
    def adjectives(self, start: Places) -> Places:
        """One or more: "big", "very big and red"."""

        def one_more(m: Places) -> Places:
            return self.one(self.many(m, lambda k: self.one(k, "r")), "a")

        def joined(m: Places) -> Places:
            comma = m | self.one(m, ",")
            return one_more(comma | self.one(comma, "k"))

        return self.many(one_more(start), joined)

    @_by_place
    def core(self, start: Places) -> Places:
        """A noun phrase without what may follow it: a countable noun needs a determiner or a number."""
        quantity = self.many(start, lambda m: self.one(m, "q"))
        marked = self.many(self.maybe(quantity, lambda m: self.one(m, "d")), lambda m: self.one(m, "q")) & ~start
        counted = self.maybe(marked, self.adjectives)
        bare = self.maybe(start, self.adjectives)
        nouns = self.one(counted, "nm") | self.one(self.one(counted, "m"), "n") | self.one(bare, "m")
        names = self.one(self.maybe(start, self.adjectives), "e")
        names = self.maybe(names, lambda m: self.one(m, "e"))
        return nouns | names | self.one(start, "pq")

    @_by_place
    def phrase(self, start: Places) -> Places:
        """A noun phrase with what belongs to it: "the opposite of big", "the lamp in the attic"."""
        return self.many(self.core(start), self.prepositional)

    @_by_place
    def prepositional(self, start: Places) -> Places:
        after = self.one(self.many(start, lambda m: self.one(m, "rN")), "tT")
        after = self.maybe(after, lambda m: self.one(m, "t"))
        noun = self.core(after) | self.one(after, "M")
        return noun | self.adjectives(self.one(start, "O")) | self.deed(self.one(after, "g"))

    @_by_place
    def phrases(self, start: Places) -> Places:
        """One noun phrase, or several joined by commas, `and`, `or`."""

        def more(m: Places) -> Places:
            comma = self.one(m, ",")
            joined = comma | self.one(m | comma, "k")
            return self.phrase(self.maybe(joined, lambda k: self.one(k, "rN")))

        return self.many(self.phrase(start), more)

    @_by_place
    def deed(self, start: Places) -> Places:
        """What may follow a verb: objects, places, adjectives, `to` with another verb."""
        objects = self.objects(start)

        def more(m: Places) -> Places:
            negated = self.one(m, "N")
            to = self.many(self.one(m | negated, "T"), lambda k: self.one(k, "r"))
            verb = self.one(to, "bh") | self.one(m, "g")
            verb = self.helped(self.objects(verb))
            others = self.prepositional(m) | self.adjectives(m | negated) | self.phrase(negated) | self.one(m, "rv")
            stranded = self.one(m, "t") & self.ends  # "the place you speak of"
            return verb | others | stranded

        return self.many(start | self.helped(objects & ~start), more)

    def helped(self, start: Places) -> Places:
        """An infinitive without `to` after an object: "help you find it"."""
        verb = self.one(start | self.one(start, "N"), "b")
        return start | self.objects(verb)

    def objects(self, start: Places) -> Places:
        """No, one or two objects: "give me the lamp"."""
        one = start | self.phrases(start) | self.one(start, "M")
        return one | self.phrase(one) | self.one(one, "M")

    @_by_place
    def verbs(self, start: Places) -> Places:
        """A verb with its auxiliaries; `not` needs one of these."""
        begin = self.many(start, lambda m: self.one(m, "r"))
        helped = self.many(self.one(begin, "xh"), lambda m: self.one(m, "xhNr"))
        return self.one(begin, "bv") | helped | self.one(helped, "bvg")

    # Units

    @_by_place
    def opening(self, start: Places) -> Places:
        """What may stand before a clause: "please", "now ,", "in the attic ,", "to get it ,"."""
        single = self.one(start, "r") | self.prepositional(start) | self.deed(self.one(self.one(start, "T"), "b"))
        return self.maybe(single, lambda m: self.one(m, ",:"))

    @_by_place
    def openings(self, start: Places) -> Places:
        """Any number of interjections, a conjunction, then any number of adverbs and places."""

        def called(m: Places) -> Places:
            """ "hello ruth ," """
            word = self.one(m, "i")
            word |= self.one(word, "e")
            return word | self.one(word, ",:")

        begin = self.many(start, called)
        begin = self.maybe(begin, lambda m: self.one(m, "ksw"))
        return self.many(begin, self.opening)

    @_by_place
    def predicate(self, start: Places) -> Places:
        return self.deed(self.verbs(start))

    @_by_place
    def statement(self, start: Places) -> Places:
        """Subject and predicate."""
        begin = self.openings(start)
        gerund = self.many(self.one(begin, "g"), lambda m: self.one(self.one(m, "k"), "g"))
        subject = self.phrases(begin) | self.adjectives(begin) | self.deed(gerund)
        subject |= self.deed(self.one(self.one(begin, "T"), "b")) | self.one(begin, "w")
        joined = self.one(self.maybe(self.phrase(begin), lambda m: self.one(m, ",")), "k")
        person = self.one(begin | (joined & ~begin), "S")
        subject |= person | self.phrase(self.one(person, "k"))
        return self.predicate(self.many(subject, lambda m: self.one(m, "r")))

    @_by_place
    def inversion(self, start: Places) -> Places:
        """The verb first: "which text do you mean", "is it red", "here is the lamp", "after three comes four"."""
        begin = self.openings(start)
        asked_about = self.phrase(begin) | self.one(begin, "w")
        if self.question:
            asked_about |= begin
        else:
            asked_about |= self.one(start, "w") | self.one(self.one(start, "i"), "w")
        inverted = self.many(self.one(asked_about, "xh"), lambda m: self.one(m, "N"))
        subject = self.phrases(inverted) | self.one(inverted, "S")
        inverted = self.maybe(subject, lambda m: self.one(self.many(m, lambda k: self.one(k, "rN")), "bvg"))
        led = self.one(start, "rw") | self.prepositional(start)
        led = self.phrases(self.one(self.maybe(led, lambda m: self.one(m, ",")), "C"))
        return self.deed(inverted) | self.deed(led)

    def clause(self, start: Places) -> Places:
        return self.statement(start) | self.inversion(start)

    @_by_place
    def command(self, start: Places) -> Places:
        begin = self.openings(start)
        begin = self.maybe(begin, lambda m: self.one(self.one(m, "x"), "N"))
        begin = self.many(begin, lambda m: self.one(m, "r"))
        return self.deed(self.one(begin, "b"))

    @_by_place
    def fragment(self, start: Places) -> Places:
        """Words without a verb: "a lamp", "in the attic", "not red", "yes"."""
        begin = self.openings(start)
        begin = self.maybe(begin, lambda m: self.one(m, "N"))
        quality = self.adjectives(begin)
        quality |= self.prepositional(quality) | self.deed(self.one(self.one(quality, "T"), "b"))
        inner = self.phrases(begin) | quality | self.one(begin, "rwi")
        return inner | (begin & ~start) | self.one(begin, "SM")

    def sentence(self) -> Places:
        return self._units(self.fragment(1))

    def full_sentence(self) -> Places:
        """As `sentence`, with a clause or a command in it."""
        leading = self.many(self.fragment(1), lambda m: self.fragment(self._joint(m)))
        return self._units(0, self._joint(leading) | 1)

    def _joint(self, start: Places) -> Places:
        comma = self.one(start, ",:;")
        joined = comma | self.one(start | comma, "ksw")
        return self.many(joined, lambda m: self.one(m, "ksw"))

    def _units(self, fragments: Places, start: Places = 1) -> Places:
        reached = fragments | self.clause(start) | self.command(start)

        def more(m: Places) -> Places:
            joined = self._joint(m)
            unit = self.clause(joined) | self.command(joined) | self.fragment(joined) | self.predicate(joined)
            return unit | self.statement(m & ~fragments)  # "i hope you are well"

        return self.many(reached, more)
