"""Trees of messages."""

from __future__ import annotations

from typing import Any

from tests.support.data_sets.data_set import DataSet, Judged, Rows, assistant, user


def node(id: str, parent: str | None, role: str, text: str, rank: int | None = None) -> dict[str, Any]:
    return {"message_id": id, "parent_id": parent, "user_id": f"u-{id}", "role": role, "text": text, "rank": rank,
            "lang": "en", "deleted": False, "review_result": True, "message_tree_id": "m1"}  # fmt: skip


FLAT: Rows = [
    node("m1", None, "prompter", "How do I boil an egg?"),
    node("m2", "m1", "assistant", "In water.", 2),
    node("m3", "m1", "assistant", "Eight minutes in boiling water.", 0),
    node("m4", "m1", "assistant", "Ask a cook.", 1),
    node("m5", "m3", "prompter", "And a soft one?"),
    node("m6", "m5", "assistant", "Five minutes.", 0),
    node("m7", "m5", "assistant", "Twenty minutes.", 1),
    node("m8", "m5", "assistant", "(spam)") | {"deleted": True},
]


def nested(id: str) -> dict[str, Any]:
    node = next(row for row in FLAT if row["message_id"] == id)
    return node | {"replies": [nested(row["message_id"]) for row in FLAT if row["parent_id"] == id]}


EGG = [user("How do I boil an egg?"), assistant("Eight minutes in boiling water."), user("And a soft one?")]
COMPARISONS = [
    Judged(EGG[:1], ["In water.", "Eight minutes in boiling water.", "Ask a cook."], [3, 1, 2], user="u-m1"),
    Judged(EGG, ["Five minutes.", "Twenty minutes."], [1, 2], user="u-m1"),
]
DELETED = {"the message was deleted or rejected in review": 1}
SKIPPED = {"demonstrations": DELETED, "comparisons": DELETED, "prompts": DELETED}


DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "OASST messages",
        {"comparisons": "OASST", "demonstrations": "conversation", "prompts": "conversation"},
        [*FLAT[4:], *FLAT[:4]],  # in any order
        [[*EGG, assistant("Five minutes.")]],
        COMPARISONS,
        [EGG],
        skipped=SKIPPED,
    ),
    DataSet(
        "OASST trees",
        {"comparisons": "OASST", "demonstrations": "conversation", "prompts": "conversation"},
        [{"message_tree_id": "m1", "tree_state": "ready_for_export", "prompt": nested("m1")}],
        [[*EGG, assistant("Five minutes.")]],
        COMPARISONS,
        [EGG],
        skipped=SKIPPED,
    ),
)
