"""Messages on their way to an engine: plain text, nothing that forges a turn, system turns where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.endpoints import Endpoint
from service.errors import ApiError
from training.artifacts.conversations import (
    Message,
    Refusal,
    find_control_string,
    find_lost_system,
    merge_system,
    read_messages,
    sentence_with_place,
)


def for_engine(messages: Any, endpoint: Endpoint) -> list[Message]:
    """The messages as the engine's chat template is to render them.

    Raises:
        ApiError: 400 for messages that are malformed, hold other than text or a control string, or whose
            system turn the template would leave out.
    """
    turns = read_messages(messages)
    if isinstance(turns, Refusal):
        raise refused(turns)
    return fit(turns, endpoint)


def fit(turns: list[Message], endpoint: Endpoint) -> list[Message]:
    """Turns that were read already, as `for_engine` gives them. Raises `ApiError` 400."""
    forged = find_control_string(turns, endpoint.special)
    if forged is not None:
        raise refused(forged)
    if endpoint.merge_system:
        turns = merge_system(turns)
    lost = find_lost_system(turns, endpoint.lost_system)
    if lost is not None:
        raise refused(lost)
    return turns


def check_texts(texts: Sequence[str], endpoint: Endpoint, what: str) -> None:
    """Refuse texts beside the messages, such as tools, that hold a control string. Raises `ApiError` 400."""
    forged = find_control_string(({"content": text} for text in texts), endpoint.special)
    if forged is not None:
        message = f"{what} {sentence_with_place(Refusal(forged.code, forged.detail))}"
        raise ApiError(400, message, param=what, code=forged.code)


def refused(refusal: Refusal, param: str = "messages") -> ApiError:
    """A refusal over HTTP."""
    code = None if refusal.code == "malformed" else refusal.code
    return ApiError(400, sentence_with_place(refusal), param=param, code=code)


def is_empty(value: Any) -> bool:
    """Whether a field of a message says nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, (str, Sequence, Mapping)) and len(value) == 0)
