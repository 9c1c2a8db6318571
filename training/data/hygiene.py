"""Hygiene of prompts by InstructGPT's rules (arXiv 2203.02155, section 3.2): plain functions over records."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from training.artifacts.loading import Loaded
from training.artifacts.text import common_prefix

PREFIX_CHARACTERS = 100  # ours; counted in characters, so that text without blanks is measured like any other
PREFIX_SHARE = 0.9  # ours: the paper says "long common prefix" (section 3.2)
PROMPTS_PER_USER = 200  # section 3.2
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
PHONE = re.compile(
    r"(?<![\w.$-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"  # +44 20 7946 0123
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # (555) 010-9999
    r")(?![\w-])"
)
CARD = re.compile(
    r"(?<![\w.-])(?:"
    r"[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}"  # four groups of four
    r"|3[47]\d{2}([ -]?)\d{6}\2\d{5}"  # American Express
    r")(?![\w-])"
)


class Conversation(Protocol):
    """What hygiene needs of a record."""

    @property
    def messages(self) -> Sequence[Mapping[str, str]]: ...

    @property
    def user(self) -> str | None: ...


T = TypeVar("T", bound=Conversation)


def without_repeats(loaded: Loaded[T]) -> Loaded[T]:
    """Leave out prompts that repeat an earlier one, and a user's prompts beyond PROMPTS_PER_USER; both are counted.

    For demonstrations and prompts; several comparisons of one prompt are not repetitions.

    Raises:
        UserError: nothing is left.
    """
    repeated = duplicates([prompt_text(record) for record in loaded.records])
    prompts_of_user: Counter[str] = Counter()
    reasons: dict[int, str] = {}
    for position, record in enumerate(loaded.records):
        if position in repeated:
            reasons[id(record)] = "the prompt repeats an earlier one"
        elif record.user is not None:
            prompts_of_user[record.user] += 1
            if prompts_of_user[record.user] > PROMPTS_PER_USER:
                reasons[id(record)] = f"more than {PROMPTS_PER_USER} prompts of one user"
    return loaded.without(lambda record: reasons.get(id(record)))


def without_personal_information(loaded: Loaded[T]) -> Loaded[T]:
    """Leave out records with personal information in a message or response, counted by kind: for training splits.

    Raises:
        UserError: nothing is left.
    """

    def reason(record: T) -> str | None:
        kinds = personal_information("\n".join(texts_of(record)))
        return f"it contains {kinds[0]}" if kinds else None

    return loaded.without(reason)


def texts_of(record: Conversation) -> list[str]:
    """Every text of a record: its messages, and the responses of a comparison."""
    responses = getattr(record, "responses", ())
    return [m["content"] for m in record.messages] + [response.text for response in responses]


def prompt_text(record: Conversation) -> str:
    """The conversation up to the last user turn, as one text."""
    messages = list(record.messages)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return "\n\n".join(m["content"] for m in messages)


def duplicates(texts: Sequence[str]) -> set[int]:
    """Indices of texts that repeat an earlier one.

    Case and white space aside, a text repeats another if both are equal, or if their common prefix has at
    least PREFIX_CHARACTERS characters and covers PREFIX_SHARE of the longer one. Texts are compared with their
    neighbours in sorted order, so the work is that of a sort. The first of a group in the original order stays.
    """
    normal = [" ".join(text.lower().split()) for text in texts]
    order = sorted(range(len(normal)), key=lambda i: (normal[i], i))
    groups: list[list[int]] = []
    for i in order:
        if groups and _same(normal[groups[-1][0]], normal[i]):
            groups[-1].append(i)
        else:
            groups.append([i])
    return {i for group in groups for i in group if i != min(group)}


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    longer = max(len(a), len(b))
    common = len(common_prefix(a, b))
    return common >= PREFIX_CHARACTERS and common >= PREFIX_SHARE * longer


def personal_information(text: str) -> list[str]:
    """Which kinds of personal information the text seems to hold: patterns, so some are missed."""
    kinds = []
    if "@" in text and EMAIL.search(text):
        kinds.append("an email address")
    if PHONE.search(text):
        kinds.append("a phone number")
    if any(_luhn(match.group()) for match in CARD.finditer(text)):
        kinds.append("a card number")
    return kinds


def _luhn(number: str) -> bool:
    """Whether the check digit of a card number is right: every second digit from the right counts twice."""
    digits = [int(c) for c in number if c.isdigit()][::-1]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(digits)]
    return sum(doubled) % 10 == 0


def hash_fraction(record: Conversation) -> float:
    """A number in [0, 1) that is the same for all records of a user, or of a prompt where no user is known."""
    key = (
        f"user:{record.user}" if record.user is not None else f"prompt:{' '.join(prompt_text(record).lower().split())}"
    )
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def split_by_user(records: Sequence[T], validation: float) -> tuple[list[T], list[T]]:
    """Training and validation records: no user, and without users no prompt, is in both.

    Args:
        validation: share of users (or prompts) that go to validation. The same record goes to the same side
            in every run and every file.
    """
    held_out = [record for record in records if hash_fraction(record) < validation]
    return [record for record in records if hash_fraction(record) >= validation], held_out
