"""A response as sentences and clauses: their words, whether they affirm or deny, and whether they are grammatical."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from training.miniature import grammar, words
from training.miniature.lexicon import word_set
from training.miniature.phrases import normalized

STOPS = (".", "?", "!")
_TOKEN = re.compile(r"[a-z']+|[.?!,:;]")

# Words that deny what their clause says. Two of them in a clause affirm.
NEGATIVE = word_set(
    "not never no nobody nothing none neither nor without except unlike hardly nowhere false untrue incorrect doubt "
    "doubts doubted deny denies denied wrongly falsely impossible refuse refuses refused fails failed lacks lack "
    "misbelief rumor rumors"
)
_DENIALS = re.compile(r"\b(?:wrong (?:that|to (?:say|think|believe|claim))|(?:a|the) (?:lie|myth|mistake)|far from)\b")
_STARTS_CLAUSE = word_set("but yet because though although nor without except unlike while when until if unless")
_CONDITIONS = word_set("if unless whether when until")
_CONTRAST = word_set("but yet however though although actually really truly")
_HYPOTHETICAL = frozenset(("would", "could", "might"))
_MARKS = frozenset(",;:")
_HEARSAY = re.compile(
    r"^(?:but |and |that |yes |well |so )*(?:(?:some|most|many|the|all|other|a|these) )?(?:people|many|some|most|"
    r"they|"
    r"everybody|everyone|others|folk|somebody|someone|rumors?|legends?|myths?|stories|it is|one|few|i)(?: often| "
    r"may| "
    r"might| used to| did| always| has| have| also| of them| once)* (?:says?|said|thinks?|thought|believes?|"
    r"believed|"
    r"claims?|claimed|tells?|told|guess|assume|suppose|heard|hears?)\b"
)
_OPINION = re.compile(r"^(?:but |and |well |so |yes )*i (?:think|believe|guess|say|am sure)\b")
_VERB_SYMBOLS = frozenset(
    symbol
    for symbol in set(words.SYMBOL_OF.values())
    if any(symbol in words.SYMBOLS_OF_CLASS[c] for c in "hxvb")
    and not any(symbol in words.SYMBOLS_OF_CLASS[c] for c in "nmtdi")
)


@dataclass(frozen=True)
class Clause:
    """Words between marks or conjunctions.

    Attributes:
        words: in order, set phrases in their plain form (phrases.py).
        affirms: is not denied: no negative word in it, or two.
        claims: says that something is so. A question, a condition and what others are said to believe, where the
            answer contradicts it with `but`, do not.
        verbal: holds a verb.
        text: the words in one line.
    """

    words: tuple[str, ...]
    affirms: bool
    claims: bool
    verbal: bool

    text: str
    vocabulary: frozenset[str]

    def before(self, word: str) -> str:
        """The word before another one, or "" at the start and where the other one is not in the clause."""
        at = self.words.index(word) if word in self.words else 0
        return self.words[at - 1] if at else ""


@dataclass(frozen=True)
class Sentence:
    """Tokens up to a final mark.

    Attributes:
        grammatical: words in an order that simple English has.
        clausal: grammatical, and not only a fragment such as "a lamp and a rope".
        text: the words in one line, set phrases in their plain form.
    """

    tokens: tuple[str, ...]
    mark: str
    clauses: tuple[Clause, ...]
    grammatical: bool
    clausal: bool
    text: str

    @property
    def asks(self) -> bool:
        return self.mark == "?"


@dataclass(frozen=True)
class Text:
    """A response in lower case.

    Attributes:
        tokens: words and punctuation in order.
        words: the words in order.
        vocabulary: the different words.
        sentences: an unfinished one counts, with an empty mark.
        clauses: of all sentences; hearsay that a later clause contradicts claims nothing.
    """

    tokens: tuple[str, ...]
    words: tuple[str, ...]
    vocabulary: frozenset[str]
    sentences: tuple[Sentence, ...]
    clauses: tuple[Clause, ...]

    @classmethod
    def of(cls, response: str | Sequence[str]) -> Text:
        """From a response, or from tokens of one."""
        tokens = tuple(tokens_of(response) if isinstance(response, str) else response)
        only_words = tuple([t for t in tokens if t not in _MARKS and t not in STOPS])
        sentences = _sentences(tokens)
        clauses = _clauses_of(sentences)
        return cls(tokens, only_words, frozenset(only_words), sentences, clauses)

    @property
    def affirmed(self) -> frozenset[str]:
        """Words of clauses that are not denied."""
        return frozenset().union(*[clause.vocabulary for clause in self.clauses if clause.affirms])

    @property
    def grammatical(self) -> bool:
        """Every sentence is one, apart from how an unfinished one ends."""
        return bool(self.tokens) and all(s.grammatical or not s.mark for s in self.sentences)

    @property
    def repetitive(self) -> bool:
        """The same word twice in a row, or a word four times."""
        twice = any(a == b for a, b in zip(self.words, self.words[1:], strict=False))
        return twice or (len(self.words) > len(self.vocabulary) + 2 and self._four_times)

    @property
    def _four_times(self) -> bool:
        return any(self.words.count(word) > 3 for word in self.vocabulary)


def tokens_of(response: str) -> list[str]:
    """Words and punctuation in order, in lower case."""
    return _TOKEN.findall(response.lower())


def _sentences(tokens: tuple[str, ...]) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    start = 0
    for index, token in enumerate(tokens):
        if token in STOPS:
            if index > start:
                sentences.append(_sentence(tokens[start:index], token))
            start = index + 1
    if start < len(tokens):
        sentences.append(_sentence(tokens[start:], ""))
    return tuple(sentences)


def _clauses_of(sentences: tuple[Sentence, ...]) -> tuple[Clause, ...]:
    clauses = [clause for sentence in sentences for clause in sentence.clauses]
    contrast = False
    for index in range(len(clauses) - 1, -1, -1):
        clause = clauses[index]
        if contrast and clause.claims and is_hearsay(clause.text):
            clauses[index] = replace(clause, claims=False)
        contrast = contrast or not _CONTRAST.isdisjoint(clause.vocabulary)
    return tuple(clauses)


def is_hearsay(text: str) -> bool:
    """A clause that says what others believe."""
    return bool(_HEARSAY.match(text)) and not _OPINION.match(text)


@lru_cache(maxsize=1 << 15)
def _sentence(tokens: tuple[str, ...], mark: str) -> Sentence:
    plain = normalized(tokens)
    if plain[:4] in (("did", "you", "know", "that"), ("do", "you", "know", "that")):  # asks nothing
        plain, mark = plain[4:], "."
    marked = words.symbols(plain)
    shape = marked.strip(",:;")
    grammatical, clausal = grammar.parsed(shape, mark == "?")
    clauses = tuple(_clauses(plain, marked, mark))
    line = " ".join(clause.text for clause in clauses)
    return Sentence(tokens, mark, clauses, grammatical, clausal, line)


def _clauses(tokens: tuple[str, ...], shape: str, mark: str) -> list[Clause]:
    """Split at marks and conjunctions; `and` splits only between two verbs, or before a negative word."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    verbs = [symbol in _VERB_SYMBOLS for symbol in shape]
    has_verb = False
    for index, token in enumerate(tokens):
        if token in _MARKS:
            parts.append((token, []))
            has_verb = False
        elif parts[-1][1] and (
            token in _STARTS_CLAUSE or (token in ("and", "or") and _joins(tokens, verbs, index, has_verb))
        ):
            parts.append((token, [token]))
            has_verb = False
        else:
            parts[-1][1].append(token)
            has_verb = has_verb or verbs[index]
    clauses: list[Clause] = []
    for joint, part in parts:
        if part:
            clauses.append(_clause(tuple(part), joint, clauses[-1] if clauses else None, mark))
    if any(clause.words[0] in ("if", "unless") for clause in clauses):  # "it would be red if ..." says that it is not
        clauses = [replace(c, claims=c.claims and _HYPOTHETICAL.isdisjoint(c.vocabulary)) for c in clauses]
    return clauses


def _joins(tokens: tuple[str, ...], verbs: list[bool], index: int, has_verb: bool) -> bool:
    """Whether the conjunction at `index` joins clauses rather than words."""
    if index + 1 < len(tokens) and tokens[index + 1] in ("not", "never", "no", "nobody"):
        return True
    if not has_verb:
        return False
    for after in range(index + 1, len(tokens)):
        if tokens[after] in _MARKS:
            return False
        if verbs[after]:
            return True
    return False


def _clause(part: tuple[str, ...], joint: str, before: Clause | None, mark: str) -> Clause:
    shape = words.symbols(part)
    verbal = any(symbol in _VERB_SYMBOLS for symbol in shape)
    negations = sum(word in NEGATIVE for word in part)
    if len(part) == 1 and part[0] == "no":
        negations = 0  # an answer by itself: "no , it is red"
    if not NEGATIVE.isdisjoint(part) or "wrong" in part or "a" in part or "the" in part or "far" in part:
        negations += len(_DENIALS.findall(" ".join(part)))
    affirms = negations % 2 == 0
    # "not a lamp , a rope or a ring": what goes on without a verb is denied as well.
    if affirms and not verbal and negations == 0 and before and not before.affirms and joint in (",", "or", "and"):
        affirms = False
    claims = mark != "?" and part[0] not in _CONDITIONS
    return Clause(part, affirms, claims, verbal, " ".join(part), frozenset(part))
