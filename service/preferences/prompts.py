"""Stored prompts: imported from a file or over HTTP, or typed by a labeler."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.models import Prompt
from training.artifacts.conversations import check_messages
from training.artifacts.errors import UserError

BATCH = 500
MAX_ID = 100
META = ("mode", "spec")  # kept beside the prompt and exported with its comparisons


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        imported: prompts that are new in the store.
        skipped: reason -> number of rows left out.
    """

    imported: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def import_prompts(session: Session, path: Path) -> ImportReport:
    """Import a JSONL file, one prompt a line; see `import_rows` for the fields.

    Raises:
        UserError: the file is missing, or no row of it is a prompt.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a JSONL file of prompts")
    with path.open(encoding="utf-8", errors="replace") as lines:
        report = import_rows(session, (_parsed(line) for line in lines if line.strip()))
    if not report.imported and not report.skipped["in the store already"]:
        reasons = "; ".join(f"{n} x {reason}" for reason, n in report.skipped.most_common(3)) or "it is empty"
        raise UserError(f"{path} holds no usable prompt ({reasons})")
    return report


def import_rows(session: Session, rows: Iterable[object]) -> ImportReport:
    """Add prompts that the store does not hold.

    Args:
        rows: objects with `messages` (a conversation that ends with the user) or `prompt` (text of one user turn),
            and optionally `id`, `user` (pseudonym of who wrote it), `use_case`, `mode`, `spec`. Without an `id` the
            prompt gets the hash of its messages.
    """
    report = ImportReport()
    seen: set[str] = set()
    for batch in _batches(_usable(rows, report), BATCH):
        stored = set(session.scalars(select(Prompt.id).where(Prompt.id.in_([prompt.id for prompt in batch]))))
        for prompt in batch:
            if prompt.id in stored:
                report.skipped["in the store already"] += 1
            elif prompt.id in seen:
                report.skipped["repeated in the input"] += 1
            else:
                seen.add(prompt.id)
                session.add(prompt)
                report.imported += 1
        session.flush()
        session.expunge_all()
    return report


def typed_prompt(session: Session, messages: Sequence[Mapping[str, Any]], user: str) -> Prompt:
    """Store the prompt that a labeler typed. Nobody else is given it.

    Args:
        user: the labeler's pseudonym.

    Raises:
        UserError: not a conversation that ends with the user.
    """
    turns = check_prompt(messages)
    key = hashlib.sha256(f"{user}\0{json.dumps(turns, sort_keys=True)}".encode()).hexdigest()[:32]
    prompt = session.get(Prompt, f"typed-{key}")
    if prompt is None:
        prompt = Prompt(id=f"typed-{key}", messages=turns, user=user, source="typed")
        session.add(prompt)
        session.flush()
    return prompt


def check_prompt(messages: object) -> list[dict[str, str]]:
    """The messages as plain turns. Raises `UserError` unless they are a conversation that ends with the user."""
    if not isinstance(messages, (list, tuple)) or not all(isinstance(m, Mapping) for m in messages):
        raise UserError("`messages` must be a list of objects with `role` and `content`")
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in check_messages(messages)]
    if turns[-1]["role"] != "user":
        raise UserError("the conversation must end with a message of the user")
    if not turns[-1]["content"].strip():
        raise UserError("the prompt is empty: type something")
    if any("\0" in turn["content"] for turn in turns):
        raise UserError("the prompt contains a null character: remove it")
    return turns


def _usable(rows: Iterable[object], report: ImportReport) -> Iterator[Prompt]:
    for row in rows:
        try:
            yield _prompt(row)
        except UserError as error:
            report.skipped[str(error)] += 1


def _prompt(row: object) -> Prompt:
    if not isinstance(row, Mapping):
        raise UserError("not a JSON object")
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), str):
        messages = [{"role": "user", "content": row["prompt"]}]
    if messages is None:
        raise UserError("neither `messages` nor `prompt`")
    turns = check_prompt(messages)
    identity = row.get("id")
    if identity is None:
        identity = hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:32]
    if not isinstance(identity, (str, int)) or not 0 < len(str(identity)) <= MAX_ID:
        raise UserError(f"`id` must be 1 to {MAX_ID} characters")
    for name, limit in (("user", 100), ("use_case", 40)):
        value = row.get(name)
        if value is not None and not (isinstance(value, str) and len(value) <= limit):
            raise UserError(f"`{name}` must be text of at most {limit} characters")
    meta = {name: row[name] for name in META if row.get(name) is not None}
    return Prompt(
        id=str(identity),
        messages=turns,
        user=row.get("user"),
        use_case=row.get("use_case"),
        source="imported",
        meta=meta,
    )


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def _batches(prompts: Iterator[Prompt], size: int) -> Iterator[list[Prompt]]:
    while batch := list(islice(prompts, size)):
        yield batch
