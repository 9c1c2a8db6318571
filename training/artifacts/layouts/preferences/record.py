"""One comparison from what a layout read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.artifacts.comparisons import Comparison, ComparisonError, Response
from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import content_id, label_text, whole_text
from training.artifacts.layouts.exchanges import conversation_of, prompt_of, refuse_what_text_lacks
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import checked, from_user, plain
from training.artifacts.loading import Row
from training.artifacts.skips import Skip

LABELERS = ("labeler", "worker", "judge", "judge_hash", "annotator")


def question_of(row: Row) -> tuple[Message, ...]:
    """The prompt of the responses: a prompt or a conversation in columns of its own.

    Raises:
        Skip: there is none.
    """
    messages = conversation_of(row) or prompt_of(row)
    if messages is None:
        raise fault("no_prompt")
    return messages


def comparison(
    row: Row,
    messages: Sequence[Message],
    texts: Sequence[str],
    *,
    ranks: tuple[int, ...] | None = None,
    pairs: tuple[tuple[int, int, int], ...] | None = None,
    derived: str | None = None,
    all_bad: bool = False,
    meta: Mapping[str, Any] | None = None,
) -> Comparison:
    """A comparison of the row's responses.

    Args:
        messages: ends with the user.

    Raises:
        Skip: it cannot be used.
    """
    refuse_what_text_lacks(row)
    context = plain(from_user(tuple(messages)))
    judgment = ranks if pairs is None else pairs
    checked(context, "user")
    for text in texts:
        whole_text(text)
    try:
        result = Comparison(
            id=label_text(row, "id") or content_id(context, list(texts), judgment),
            messages=tuple({"role": m["role"], "content": m["content"]} for m in context),
            responses=tuple(Response(text.strip()) for text in texts),
            ranks=ranks,
            pairs=pairs,
            derived=derived,
            all_bad=all_bad,
            labeler=label_text(row, *LABELERS),
            user=label_text(row, "user", "user_id"),
            prompt_id=label_text(row, "prompt_id") or content_id(context),
            meta=meta or {},
        )
    except ComparisonError as error:
        raise Skip("not_a_comparison", error.reason) from None
    return usable(result)


def usable(comparison: Comparison) -> Comparison:
    """The comparison, if its responses say something and differ.

    Raises:
        Skip: with the reason why not.
    """
    if any(not response.text.strip() for response in comparison.responses):
        raise fault("empty_response")
    if len({response.text for response in comparison.responses}) == 1:
        raise fault("same_responses")
    return comparison
