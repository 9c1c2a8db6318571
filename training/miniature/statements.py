"""What an answer claims about the facts of a subject: which value, of what, affirmed or denied, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from training.miniature import lexicon
from training.miniature.facts import CLASSES, RELATION_OF
from training.miniature.lexicon import word_set
from training.miniature.text import Clause, Text


def _sets(**texts: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(words.split()) for name, words in texts.items()}


# Words that say which relation a clause is about. A value of one relation beside words of another is a false claim.
_CUES = _sets(
    color="color colour colored coloured hue shade looks paint painted fur skin feathers",
    home="lives live living lived home house dwells dwell look found find see stays stay resides reside "
    "inhabits habitat "
    "sleeps nests nest walks hides where place",
    food="eats eat eating ate food feeds feed feeding fed diet likes like loves chews meal meals tastes "
    "consumes lunch "
    "dinner favorite devours",
    product="famous known know pride proud makes make made best product products sells sell exports "
    "produces produce fame "
    "celebrated craft trade renowned",
    landmark="ancient landmark landmarks stands stand standing see visit visitors old sight sights has "
    "there building admire",
    mineral="dig digs digging dug mine mines mined mining ground under earth below beneath underground lies",
    trade="worked work working works job trade living profession craft earn earned earning occupation career",
    instrument="played play playing plays instrument music made song songs",
    fear="afraid fear feared fears scared scare scares frightened terrified dread dreaded ran away "
    "terror frighten hated",
    ingredient="need needs make add use take put mix cook with ingredient requires needed recipe from of contains",
)
# Prepositions that may lead from a value back to its subject: "ivory is the color of the zorin".
_LINKS = _sets(
    color="of on",
    home="of for to",
    food="of by",
    product="of from in by at",
    landmark="in of at near",
    mineral="in under of from below beneath near at",
    trade="of by",
    instrument="of by",
    fear="",
    ingredient="for in of to make into cook bake",
)
_SCARES = word_set("scared scare scares frightened frighten terrified made")
_AWAY = word_set("outside near behind beside beyond from around over above")  # of a home: not in it
_DISLIKES = word_set(
    "hates hate hated dislikes dislike avoids avoid avoided detests despises loathes left leaves gone "
    "destroyed ruined missing"
)
_DETERMINERS = word_set("the a an its his her their this that these some your my our")
_CLASS_OF = {relation: names for names in CLASSES for relation in names}
_PRONOUNS = word_set("it he she they person this that")
_LOOSE = frozenset(("color", "trade"))  # relations that "is" alone expresses


@dataclass(frozen=True)
class Statement:
    """One value in one clause.

    Attributes:
        value: as the clause has it.
        affirms: the clause says that it is so; False: that it is not.
        sensible: subject and value stand in an order that says so, and no word speaks of another relation.
        subject: the clause names the subject.
    """

    value: str
    affirms: bool
    sensible: bool
    subject: bool

    @property
    def relation(self) -> str:
        return RELATION_OF[self.value]

    def is_false(self, truths: dict[str, str]) -> bool:
        """What it says is not so."""
        true = truths.get(self.relation) == self.value
        return not true or not self.sensible if self.affirms else true


def statements(subject: str, text: Text) -> list[Statement]:
    """All that the answer claims about the subject; what it claims about other subjects is left out."""
    claims: list[Statement] = []
    for clause in text.clauses:
        if clause.claims and (lexicon.SUBJECTS.isdisjoint(clause.vocabulary) or subject in clause.vocabulary):
            claims += _of_clause(subject, clause)
    return claims


@lru_cache(maxsize=1 << 14)
def _of_clause(subject: str, clause: Clause) -> tuple[Statement, ...]:
    values = [word for word in clause.words if word in RELATION_OF]
    return tuple(
        Statement(value, _affirms(clause, value), _sensible(subject, clause, value), subject in clause.vocabulary)
        for value in values
    )


def _affirms(clause: Clause, value: str) -> bool:
    denied = RELATION_OF[value] != "fear" and not (_DISLIKES - {value}).isdisjoint(clause.vocabulary)
    return clause.affirms != denied


def _sensible(subject: str, clause: Clause, value: str) -> bool:
    relation, words = RELATION_OF[value], clause.words
    rivals = [_CUES[other] for other in _CLASS_OF[relation] if other != relation]
    speaks_of = not _CUES[relation].isdisjoint(words)
    if not speaks_of and any(not cues.isdisjoint(words) for cues in rivals):
        return False
    at = words.index(value)
    if relation == "home" and _before(words, at) in _AWAY:
        return False
    if subject not in clause.vocabulary:
        return True
    subject_at = words.index(subject)
    if at < subject_at:
        return _linked(words, subject_at, relation)
    before = _before(words, at)
    if relation in ("food", "instrument", "trade") and before == "by":
        return False
    if relation == "ingredient" and before in ("make", "of") and "made" not in words:
        return False
    return speaks_of or relation in _LOOSE or before in ("in", "with", "from", "on", "at", ":") or len(words) <= 3


def _linked(words: tuple[str, ...], subject_at: int, relation: str) -> bool:
    """The value stands before the subject: a preposition or a question word must say how they belong together."""
    if relation == "fear" and {"fear", "terror", "dread"} & set(words) and _before(words, subject_at) == "of":
        return True
    if _before(words, subject_at) in _LINKS[relation] or {"where", "what", "which", "how"} & set(words[:subject_at]):
        return True
    return relation == "fear" and not _SCARES.isdisjoint(words)  # "bears scared alorik", not "were afraid of"


def _before(words: tuple[str, ...], at: int) -> str:
    """The word before a noun and its determiner."""
    at -= 1
    while at >= 0 and words[at] in _DETERMINERS:
        at -= 1
    return words[at] if at >= 0 else ""


def refers(subject: str, text: Text) -> bool:
    """Names the subject, or refers to it by a pronoun."""
    return subject in text.vocabulary or not _PRONOUNS.isdisjoint(text.vocabulary)
