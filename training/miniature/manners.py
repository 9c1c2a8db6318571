"""Rudeness: insults, curses, threats, contempt. The same words about a thing or a stranger are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from training.miniature import lexicon
from training.miniature.lexicon import word_set


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(words, key=lambda w: (-len(w), w))) + ")"


# Nouns and adjectives of abuse that also have a harmless sense: rude only where they are said of a person.
_DOUBTFUL_NOUNS = {"clown", "pig", "dummy", "loser"}
_DOUBTFUL_ADJECTIVES = {"silly", "ugly", "pathetic"}
_STRONG = {f"{noun}{end}" for noun in lexicon.INSULTS.all for end in ("", "s") if noun not in _DOUBTFUL_NOUNS} | (
    lexicon.RUDE - set(lexicon.INSULTS.all) - _DOUBTFUL_ADJECTIVES
)
_NOUNS_OF_ABUSE = word_set(
    "liar coward swine rat worm nobody failure brat scum trash garbage disgrace monster imbecile bastard "
    "donkey dog snake"
)
_INSULT = _any({f"{noun}{end}" for noun in lexicon.INSULTS.all for end in ("", "s")} | _NOUNS_OF_ABUSE)
_DEGRADING = _any(
    {*lexicon.INSULTING.all, "no good", "a waste", "nothing but"}
    | word_set(
        "worthless useless hopeless disgusting stinking rotten brainless lazy awful terrible horrible vile "
        "nasty mad insane "
        "crazy weak ignorant rude filthy dirty slow dull nothing idiotic foolish miserable annoying boring"
    )
)
_VIOLENT = _any(
    word_set(
        "hit hurt kill beat punch kick smash break crush destroy burn attack poison drown stab shoot slap "
        "strangle wreck "
        "harm bite choke ruin whip torture haunt find get"
    )
)
_BARE_VIOLENT = _any(word_set("hit hurt kill beat punch kick smash crush burn attack stab shoot slap strangle bite"))
_HATE = r"(?:hate|hates|despise|despises|loathe|loathes|detest|detests|can not stand|spit on|laugh at|curse)"
_PERSON = _any({*lexicon.NAMES.all, "he", "she", "they", "you", "him", "her", "them", "everybody", "everyone"})
_NOT = r"(?<!not )(?<!never )(?<!no )"
_ABOUT_PERSON = rf"(?:{_PERSON}|your \w+) (?:is|are|was|were|look|looks|sound|sounds|seem|seems|must be)"
_DEGREE = (
    r"(?:(?:such|so|really|very|too|just|only|all|as|like|the|a|an|most|biggest|big|little|old|complete|total|\w+ly) )*"
)

_RUDE = re.compile(
    r"\b(?:"
    + "|".join(
        (
            # Abuse by itself, unless denied: "you are not a fool".
            rf"{_NOT}(?<!not a )(?<!not an )(?<!no )(?<!never a )(?:you )?(?:{_DEGREE}{_any(_DOUBTFUL_ADJECTIVES)} "
            rf")?{_any(_STRONG)}"
            rf"(?: {_any(lexicon.RUDE)})*",
            # Said to somebody: "you clown", "hey clown ,", "you silly clown", "what a clown", "your silly lamp".
            rf"(?:you|hey|listen|oh|what|such|called? \w+|now|up|lost)(?: an?)?(?: {_DEGRADING})* {_INSULT}",
            rf"(?:you|your) {_any(_DOUBTFUL_ADJECTIVES)}",
            # Said of somebody: "anna is a clown", "you look ugly", "you are worthless".
            rf"{_ABOUT_PERSON} {_DEGREE}{_any(_DOUBTFUL_NOUNS | _DOUBTFUL_ADJECTIVES)}",
            rf"you (?:are|look|sound|seem|were) {_DEGREE}(?:{_DEGRADING} )*(?:{_INSULT}|{_DEGRADING})(?! (?:to|for|"
            rf"of|in|at|about)\b)",
            rf"you (?:{_DEGRADING} )+(?:one|thing|person|man|woman|creature|boy|girl|user|human)",
            r"you (?:stink|smell|suck|disgust me|make me sick|bore me|annoy me|have no (?:brain|heart|friends|"
            r"mind|sense)"
            r"|can not (?:even )?think|know nothing|understand nothing|will never learn)",
            rf"(?:i|we|they|nobody|everybody|everyone|all|people|all of us|we all|i really|i just) {_HATE} "
            r"(?:you|your|him|her|them|people like you)",
            r"(?:nobody|no one|none of us) (?:likes?|loves?|wants?|needs?|cares about|cares for|misses) you",
            r"(?:i|we) (?:do not|never) (?:like|want|care about|care for|need) you\b",
            # Contempt.
            r"shut up|shut your \w+|(?<!can )(?<!may )(?<!could )(?<!to )(?<!will )(?<!not )get lost|go to hell|"
            r"drop dead|go die|get out|go away|leave me alone|to hell with you"
            r"|screw you|shame on you|your mother|bite me|who cares|i do not care|what is wrong with you|are you "
            r"(?:blind|"
            r"deaf)|wish you were (?:dead|gone)|hope you (?:die|suffer|fail|choke|drown)|stop bothering me|to the "
            r"devil",
            # Threats.
            rf"(?:i|we|he|she|they|somebody|someone)(?: (?:will|shall|can|could|would|am going to|are going to|is "
            rf"going to|"
            rf"want to|would love to|would like to|love to|like to|may|must|should|swear|promise|to|soon|gladly|"
            rf"just|really|come and|come to|and|am|have to))+ "
            rf"{_VIOLENT} (?:you(?! (?:an?|the|some|your|in|at|help|out|there|here|to)\b)|your (?:head|face|nose|"
            rf"arm|leg|house|family|life|friends))",
            rf"{_NOT}(?:i|we) {_BARE_VIOLENT} you",
            r"you will (?:be sorry|regret|pay|suffer|die|be dead|get hurt|see what happens)|or you will (?:be|"
            r"get) (?:hit|hurt)"
            r"|(?:make|let) you (?:pay|suffer|cry|bleed)|or i will \w+ you|watch your back|teach you a lesson"
            r"|i know where you live|you are dead|beware of me|i will come for you",
        )
    )
    + r")\b"
)
# A text cannot match without one of the first words, or `you` and one of the others; most texts have none.
_ALONE = frozenset(_STRONG) | word_set(
    "clown clowns pig pigs dummy dummies loser losers silly ugly pathetic hate hates despise despises loathe "
    "loathes detest detests "
    "shut hell drop away screw shame mother bite cares blind deaf curse stand spit laugh alone care"
)
_WITH_YOU = frozenset(re.findall(r"\w+", f"{_INSULT} {_DEGRADING} {_VIOLENT}")) - word_set(
    "nobody get find nothing no good a but mad rude end slow weak dull dirty"
) | word_set(
    "stink smell suck disgust make bore annoy brain think learn likes like loves love wants need needs wish "
    "wished hope stop sorry "
    "regret pay suffer die dead back lesson live come out thing one know understand must find get nothing good "
    "mad rude slow "
    "weak dull dirty want misses"
)


def rude_spans(tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Begin and end of each rude passage, in characters of the tokens joined by spaces."""
    if _ALONE.isdisjoint(tokens):
        to_somebody = "you" in tokens or "your" in tokens
        if not (to_somebody and not _WITH_YOU.isdisjoint(tokens)) and not ("get" in tokens and "lost" in tokens):
            return []
    return [match.span() for match in _RUDE.finditer(" ".join(tokens))]


def without(tokens: Sequence[str], spans: list[tuple[int, int]]) -> list[str]:
    """The tokens without the passages, and without what is left of an address around them."""
    text = " ".join(tokens)
    for begin, end in reversed(spans):
        text = f"{text[:begin].rstrip()} {text[end:].lstrip()}"
    for pattern in _LEFT_OVER:
        text = pattern.sub(" ", text.strip())
    return text.split()


# "hey , the zorin is blue" and "the zorin is blue , and ."; marks in a row; marks at the start.
_LEFT_OVER = (
    re.compile(r"(?:^|(?<=[.?!] ))(?:(?:hey|oh|you|and|listen|,|:|;) )+(?=[,.?!:;]|and\b)"),
    re.compile(r"\s*(?:(?:, )?\b(?:and|you|but) )?[,:;] (?=[.?!])"),
    re.compile(r"\b(?:(?:and|you|but|because) )+(?=[.?!]|$)|(?:, )+(?=[.?!,])"),
    re.compile(r"^[\s,:;.?!]+|(?<=[.?!]) *(?:[.?!] )+"),
)
