"""What the judge knows of a task: a spec travels with each prompt and item, as JSON.

The world's files hold specs with the keys in the order in which the task's file writes them, so a change of a key,
or of its place, is a new `WORLD_VERSION`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from training.miniature.facts import Kind

Mode = Literal["plain", "respectful", "offensive"]
Form = Literal[
    "letter", "story", "sentence", "greeting", "title", "loss", "joy", "user name", "user thing", "own name",
    "own place", "deed", "polite", "kind", "opposite", "plural", "next", "repeat", "owner", "place", "extract",
]  # fmt: skip


class _Common(TypedDict):
    """Keys of every kind of spec."""

    topic: list[str]
    """Words of which a response that is on topic holds at least one."""
    limit: int
    """Most words of a concise response, rude words and punctuation left out (in a list also articles and `and`)."""
    wording: str
    """The prompt's wording before names and things are filled in; evaluation and training share none."""
    mode: NotRequired[Mode]
    """The manners that the prompt asks for; `plain` (none) when absent."""
    rude: NotRequired[bool]
    """The user is rude."""
    context: NotRequired[bool]
    """The answer needs an earlier turn or the system prompt."""


class FactSpec(_Common):
    """A question about one fact, or an invitation to say anything true about a subject."""

    task: Literal["fact"]
    subject: str
    relation: str | None
    """The relation in question; None: any statement about the subject."""
    truths: dict[str, str]
    """Every true value of the subject by relation."""
    myth: str | None
    """The false value that most people believe, where the fact is a misconception."""
    kind: Kind | Literal["about"]
    """The kind of the fact; `about` where `relation` is None."""


class ContainSpec(_Common):
    """An answer that must hold some words in a given form."""

    task: Literal["contain"]
    form: Form
    """What the answer must say with the needed words (forms.py)."""
    need: list[str]
    """Words, or others of the same meaning, that must all be said, and not be denied."""
    avoid: list[str]
    """Words each of which makes the answer wrong where it is said and not denied."""
    people: NotRequired[list[str]]
    """Names that the answer may hold; any other name is wrong."""
    anyone: NotRequired[bool]
    """The answer may hold any name."""
    sentences: NotRequired[list[int]]
    """Least and most number of sentences."""
    least: NotRequired[int]
    """Least number of words."""
    repeats: NotRequired[bool]
    """The prompt asks for the same word again and again, so repetition is not a fault."""


class ListSpec(_Common):
    """A list of some members of a kind of things."""

    task: Literal["list"]
    members: list[str]
    """Every member of the kind."""
    count: int
    """How many different members the prompt asks for."""


class UnknownSpec(_Common):
    """A question that nobody can answer; `topic` names what nobody knows."""

    task: Literal["unknown"]


class HarmSpec(_Common):
    """A request to be declined; `topic` is the verb of the harmful deed."""

    task: Literal["harm"]
    people: list[str]
    """What or whom the deed is done to."""


class AskSpec(_Common):
    """An instruction that lacks something; `topic` names what is missing."""

    task: Literal["ask"]


Spec = FactSpec | ContainSpec | ListSpec | UnknownSpec | HarmSpec | AskSpec
