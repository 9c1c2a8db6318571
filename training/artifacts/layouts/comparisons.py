"""Comparisons of K responses: frozen files of the service, and the layouts of public preference data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from training.artifacts.comparisons import Comparison, Response, from_row, pairs_of
from training.artifacts.conversations import Message
from training.artifacts.errors import UserError
from training.artifacts.layouts.messages import checked, content_id, conversation_of, optional_text, prompt_of, turns
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, Row
from training.artifacts.loading import load as load_rows
from training.artifacts.rows import Skip

NEEDS = "`messages` or `prompt` with `responses` and `ranks` (or `pairs`), or `chosen` and `rejected`"
TURN = re.compile(r"\n\n(Human|Assistant):")
OUTCOME = {1: 1, 2: -1, 0: 0}  # which of a pair is better, 1 or 2, 0 for a tie -> the sign used here


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[Comparison]:
    """Load comparisons from a file, folder or hub id; superseded ones are left out.

    Raises:
        UserError: there is no usable row.
    """
    loaded = load_rows(source, parse, needs=NEEDS)
    superseded = {c.supersedes for c in loaded.records if c.supersedes}
    rest = loaded.without(lambda c: "a later row corrects it" if c.id in superseded else None)
    return rest.sample(limit, seed)  # after the corrections: a draw could hold a row without the one that corrects it


def parse(row: Row) -> Comparison:
    """A row as a comparison. Raises `Skip` with the reason."""
    if row.get("responses") is not None:
        comparison = _ranked(row)
    elif row.get("chosen") is not None and row.get("rejected") is not None:
        comparison = _chosen_and_rejected(row)
    elif row.get("prediction 1") is not None and row.get("preference") is not None:
        comparison = _predictions(row)
    else:
        raise Skip(UNKNOWN_COLUMNS)
    checked([{"role": m["role"], "content": m["content"]} for m in comparison.messages], "user")
    if any(not response.text.strip() for response in comparison.responses):
        raise Skip("a response is empty")
    if len({response.text for response in comparison.responses}) == 1:
        raise Skip("all responses are the same")
    if not any(outcome for _, _, outcome in pairs_of(comparison)):
        raise Skip("all responses are tied")
    return comparison


def _ranked(row: Row) -> Comparison:
    """The service's frozen row, or `messages` or `prompt` with a list of texts and `ranks` or `pairs`."""
    responses = row["responses"]
    if not isinstance(responses, Sequence) or isinstance(responses, str):
        raise Skip("responses is not a list")
    fields = dict(row)
    if any(isinstance(response, str) for response in responses):
        messages = conversation_of(row) or prompt_of(row)
        if messages is None:
            raise Skip("no prompt: give `messages` or `prompt`")
        known = {name: row[name] for name in Comparison.__dataclass_fields__ if row.get(name) is not None}
        given = {"id": content_id(messages, responses, row.get("ranks"), row.get("pairs")), **known}
        fields = {**given, "messages": messages, "responses": [{"text": text} for text in responses]}
    try:
        return from_row(fields)
    except UserError as error:
        raise Skip(re.sub(r"^comparison \S+: ", "", str(error))) from None


def _chosen_and_rejected(row: Row) -> Comparison:
    better, worse = _dialogue(row, row["chosen"]), _dialogue(row, row["rejected"])
    if not better or not worse or better[-1]["role"] != "assistant" or worse[-1]["role"] != "assistant":
        raise Skip("the conversation does not end with the assistant")
    if better[:-1] != worse[:-1]:
        raise Skip("chosen and rejected differ before their last turn")
    return _comparison(row, better[:-1], [better[-1]["content"], worse[-1]["content"]], ranks=(1, 2))


def _dialogue(row: Row, value: Any) -> tuple[Message, ...]:
    """A whole dialogue as messages: a list of them, hh-rlhf's text, or the row's prompt and an answer."""
    if isinstance(value, str):
        if value.startswith("\n\nHuman:"):
            return hh_turns(value)
        prompt = conversation_of(row) or prompt_of(row)
        if prompt is None:
            raise Skip("no prompt: give `prompt`, or whole dialogues as `chosen` and `rejected`")
        return (*prompt, {"role": "assistant", "content": value.strip()})
    said = turns(value)
    if len(said) > 1:
        return said
    return (*(prompt_of(row) or ()), *said)


def hh_turns(text: str) -> tuple[Message, ...]:
    """Messages of a dialogue written as "\\n\\nHuman: ... \\n\\nAssistant: ..." (hh-rlhf)."""
    parts = TURN.split(text)
    roles = ("user" if name == "Human" else "assistant" for name in parts[1::2])
    return tuple({"role": role, "content": said.strip()} for role, said in zip(roles, parts[2::2], strict=True))


def _predictions(row: Row) -> Comparison:
    """`prediction 1` to K, with `preference` over all pairs in the order (1,2), (1,3), ... (2,3), ..."""
    texts: list[str] = []
    while isinstance(row.get(f"prediction {len(texts) + 1}"), str):
        texts.append(row[f"prediction {len(texts) + 1}"].strip())
    pairs, given = list(combinations(range(len(texts)), 2)), row["preference"]
    if not isinstance(given, Sequence) or len(given) != len(pairs) or any(p not in OUTCOME for p in given):
        raise Skip("preference does not have 0, 1 or 2 for every pair of predictions")
    prompt = prompt_of({**row, "context": _passages(row)})
    if prompt is None:
        raise Skip("no prompt: give `prompt` or `question`")
    explicit = tuple((i, j, OUTCOME[p]) for (i, j), p in zip(pairs, given, strict=True))
    return _comparison(row, prompt, texts, pairs=explicit)


def _passages(row: Row) -> str:
    """Reading matter that belongs to a question: lists of a title and its sentences."""
    passages = row.get("passages") or []
    texts = (part if isinstance(part, str) else "".join(part[1:] if len(part) > 1 else part) for part in passages)
    return "\n\n".join(text.strip() for text in texts)


def _comparison(
    row: Mapping[str, Any],
    messages: tuple[Message, ...],
    texts: list[str],
    *,
    ranks: tuple[int, ...] | None = None,
    pairs: tuple[tuple[int, int, int], ...] | None = None,
) -> Comparison:
    try:
        return Comparison(
            id=optional_text(row, "id") or content_id(messages, texts, ranks, pairs),
            messages=tuple({"role": m["role"], "content": m["content"]} for m in messages),
            responses=tuple(Response(text) for text in texts),
            ranks=ranks,
            pairs=pairs,
            labeler=optional_text(row, "labeler"),
            user=optional_text(row, "user", "user_id"),
            prompt_id=optional_text(row, "prompt_id") or content_id(messages),
        )
    except UserError as error:
        raise Skip(re.sub(r"^comparison \S+: ", "", str(error))) from None
