"""What servers answer, read: one that lacks what it should hold is refused, so that its measurement is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evals.transport import Refused
from training.artifacts.errors import UserError

NO_LOGPROBS = "the engine gives no log-probabilities"
OTHER_FORM = "the server sent an answer of another form than OpenAI's"


@contextmanager
def expected_form() -> Iterator[None]:
    """Reading of an answer: one that lacks what was to be read is missing, as if none had come."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise Refused(200, OTHER_FORM) from None


def choices_of(answer: Any) -> list[Any]:
    """Choices of an answer in the order of their prompts; a server that does not number them keeps that order."""
    choices = list(answer["choices"])
    places = places_of(choices, len(choices))
    return [choices[i] for i in sorted(range(len(choices)), key=places.__getitem__)]


def places_of(rows: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Which of `count` requests each row answers, by its `index`, or in their order where it has none.

    Raises:
        ValueError: two rows answer one, or a row answers none of them: a value would be taken for another's.
    """
    places = [int(row.get("index", place)) for place, row in enumerate(rows)]
    if len(set(places)) < len(places) or any(not 0 <= place < count for place in places):
        raise ValueError("numbers of answers that are not those of the requests")
    return places


def text_of_choice(choice: Mapping[str, Any]) -> str | None:
    """The text of a choice; None where there is none, such as behind a filter or beside a tool call."""
    text = choice["message"].get("content") if "message" in choice else choice.get("text")
    if not isinstance(text, str) or choice.get("finish_reason") == "content_filter":
        return None
    return text


def finish_reason(choice: Mapping[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return None if reason is None else str(reason)


def scored(logprobs: Mapping[str, Any] | None) -> list[Any]:
    """Values and greedy flags of an echoed text. Raises `UserError` for a server without log-probabilities."""
    if not logprobs or not logprobs.get("token_logprobs"):
        raise UserError("the server gives no log-probabilities of a prompt (echo): suites by likelihood need vLLM")
    values = [None if value is None else finite(value) for value in logprobs["token_logprobs"]]
    if None in values[1:]:
        raise ValueError("only the first token has no log-probability")
    greedy: list[bool | None] = []
    for value, top in zip(values, logprobs["top_logprobs"], strict=True):
        greedy.append(None if value is None else value >= max(top.values()))
    return [values, greedy]


def finite(value: Any) -> float:
    """A log-probability as a number. Raises `ValueError` for NaN and infinity, which no mean survives."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def token_id(name: str) -> int:
    return int(name.removeprefix("token_id:"))
