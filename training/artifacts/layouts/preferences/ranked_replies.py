"""The ranked replies of OASST's trees, as `grouping.judged` hands them on: one row per turn of the user."""

from __future__ import annotations

from training.artifacts.comparisons import Comparison
from training.artifacts.layouts.columns import Layout, number, peek, text_in
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import turns
from training.artifacts.layouts.preferences.ratings import ranks_of_order
from training.artifacts.layouts.preferences.record import comparison
from training.artifacts.loading import Row


def _read(row: Row) -> Comparison:
    """Replies without a rank are left out of the comparison. Raises `Skip`."""
    replies = [(text_in(text), number(rank)) for text, rank in zip(row["text"], row["rank"], strict=True)]
    ranked = [(text, rank) for text, rank in replies if text is not None and rank is not None]
    if len(ranked) < 2:
        raise fault("unranked_replies")
    places = [rank + 1 for _, rank in ranked]  # 0 is the best
    return comparison(row, turns(row["messages"]), [text for text, _ in ranked], ranks=ranks_of_order(places))


LAYOUTS = (
    Layout(
        "OASST",
        "comparisons",
        (("text",), ("rank",), ("messages",)),
        "Trees, nested (`prompt` with `replies`) or one row per message (`message_id`, `parent_id`, `role`, `text`, "
        "`rank`): one comparison per turn with ranked replies; as demonstrations, the conversation along the best "
        "replies. Deleted and rejected messages are left out.",
        _read,
        lambda row: isinstance(peek(row, "text"), list) and isinstance(peek(row, "rank"), list),
    ),
)
