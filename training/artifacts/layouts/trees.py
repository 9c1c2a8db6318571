"""Trees of messages (OASST): nested, or as one row per message that names its parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from training.artifacts.layouts.columns import filled, number
from training.artifacts.layouts.faults import fault
from training.artifacts.loading import Row
from training.artifacts.skips import Skip

MARKS = ("text", "role", "replies", "parent_id", "rank")  # what makes up the tree


def is_message(row: Row) -> bool:
    """Whether a row is one message of a tree."""
    ids = [row[name] for name in ("message_id", "parent_id") if name in row]
    return len(ids) == 2 and "role" in row and "text" in row and all(isinstance(i, str | int | None) for i in ids)


def is_tree(row: Row) -> bool:
    """Whether a row is a whole tree: its first message in `prompt`, with its replies."""
    return filled(row, "prompt") and isinstance(row["prompt"], Mapping) and "replies" in row["prompt"]


def grown(rows: Sequence[Row]) -> Iterator[dict[str, Any] | Skip]:
    """Trees of single messages, in the order of their first ones; messages that belong to no tree as `Skip`."""
    nodes: dict[Any, dict[str, Any]] = {}
    for row in rows:
        name = row["message_id"]
        if not filled(row, "message_id"):
            yield fault("no_message_id")
        elif name in nodes:
            yield fault("repeated_message")
        else:
            nodes[name] = {**row, "replies": []}
    tops = []
    for node in nodes.values():
        if filled(node, "parent_id") and node["parent_id"] in nodes:
            nodes[node["parent_id"]]["replies"].append(node)
        else:
            tops.append(node)
    for node in tops:
        yield fault("no_parent") if filled(node, "parent_id") else node
    for _ in range(len(nodes) - _size(tops)):
        yield fault("circular_parents")


def _size(tops: Sequence[Mapping[str, Any]]) -> int:
    """Number of messages in these trees."""
    waiting, size = list(tops), 0
    while waiting:
        size += 1
        waiting += waiting.pop()["replies"]
    return size


def best_paths(roots: Iterable[Any]) -> Iterator[Row | Skip]:
    """One row per tree: the conversation along the best replies, with the other columns of its last message."""
    for root in roots:
        if isinstance(root, Skip):
            yield root
            continue
        yield from _rejected(root)
        if _is_valid(root):
            path = [root]
            while replies := _replies(path[-1]):
                path.append(min(replies, key=_rank))
            yield _row(path, {name: value for name, value in path[-1].items() if name not in MARKS})


def siblings(roots: Iterable[Any]) -> Iterator[Row | Skip]:
    """One row per turn to which the assistant replied more than once: the path to it, and the replies by column."""
    for root in roots:
        if isinstance(root, Skip):
            yield root
            continue
        yield from _rejected(root)
        waiting = [[root]] if _is_valid(root) else []
        while waiting:
            path = waiting.pop(0)
            replies = _replies(path[-1])
            waiting += [[*path, reply] for reply in replies]
            answers = [reply for reply in replies if str(reply.get("role")).lower() == "assistant"]
            if len(answers) > 1:
                names = dict.fromkeys(n for reply in answers for n in reply if n not in ("role", "replies"))
                by_column = {name: [reply.get(name) for reply in answers] for name in names}
                yield _row(path, by_column | {"parent_id": path[-1].get("message_id")})


def _row(path: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> dict[str, Any]:
    messages = [{"role": node.get("role"), "content": node.get("text")} for node in path]
    return {**columns, "user_id": path[0].get("user_id"), "messages": messages}


def _rejected(root: Mapping[str, Any]) -> Iterator[Skip]:
    """One `Skip` per message that was deleted or rejected in review; what follows it goes with it."""
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if _is_valid(node):
            waiting += _children(node)
        else:
            yield fault("deleted_message")


def _replies(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [reply for reply in _children(node) if _is_valid(reply)]


def _children(node: Mapping[str, Any]) -> list[Any]:
    replies = node.get("replies")
    return replies if isinstance(replies, list) else []


def _is_valid(node: Any) -> bool:
    return isinstance(node, Mapping) and not node.get("deleted") and node.get("review_result") is not False


def _rank(node: Mapping[str, Any]) -> float:
    """Order among siblings, 0 = best; unranked ones come last."""
    rank = number(node.get("rank"))
    return float("inf") if rank is None else rank
