"""Messages on their way to an engine: plain text, nothing that forges a turn, system turns where they belong."""

from __future__ import annotations

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
    forged = find_control_string(turns, endpoint.special)
    if forged is not None:
        raise refused(forged)
    if endpoint.merge_system:
        turns = merge_system(turns)
    lost = find_lost_system(turns, endpoint.lost_system)
    if lost is not None:
        raise refused(lost)
    return turns


def refused(refusal: Refusal) -> ApiError:
    """A refusal over HTTP."""
    code = None if refusal.code == "malformed" else refusal.code
    return ApiError(400, sentence_with_place(refusal), param="messages", code=code)
