"""Stored prompts: imported from a data source or over HTTP, or typed by a labeler."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.preferences.pool import forget_refusals, retire
from service.preferences.repeats import Earlier
from service.store.database import Store
from service.store.models import Prompt, Task
from training.artifacts.conversations import check_messages
from training.artifacts.errors import UserError
from training.artifacts.layouts import prompts as layout
from training.artifacts.layouts.columns import label_text
from training.artifacts.layouts.grouping import demonstrated
from training.artifacts.loading import Reading, Row, TrackedRow
from training.artifacts.readers.values import check_texts
from training.artifacts.skips import Skip

BATCH = 200  # prompts of one transaction
TABLE = cast(Table, Prompt.__table__)
DEEPEST = 100  # levels of nesting in what is kept beside a prompt
LONGEST = 500  # characters of an id, a user or a use case: an index of PostgreSQL holds 2,700 bytes
STORED = "in the store already"
REPEATED = "repeated in the input"
OTHER_TEXT_STORED = "another text than the stored prompt of this id (correct it with --correct)"
OTHER_TEXT_REPEATED = "another text than an earlier row of this id"


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        imported: prompts that are new in the store.
        corrected: prompts of the store whose text was replaced.
        skipped: reason -> number of rows left out.
        ignored: column -> number of usable rows in which it held a value that nothing looked at.
    """

    imported: int = 0
    corrected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def import_prompts(
    store: Store, source: str, *, correct: bool = False, done: Callable[[int], None] = lambda rows: None
) -> ImportReport:
    """Import the prompts of a data source, read as training reads it.

    Args:
        source: `PATH_OR_ID[:configuration][@split]`, with rows of any layout that holds prompts.
        correct: see `import_rows`.
        done: told the number of prompts of each batch that is stored.

    Raises:
        UserError: the source is missing or damaged, or no row of it is a prompt.
    """
    reading = Reading(source, _prompt, needs=layout.NEEDS, regroup=demonstrated)
    report = ImportReport(skipped=reading.skipped, ignored=reading.ignored)
    _store(store, iter(reading), report, correct, done)
    return report


def import_rows(store: Store, rows: Iterable[object], *, correct: bool = False) -> ImportReport:
    """Add prompts that the store does not hold.

    They are stored in batches, each in a transaction of its own. An import that was stopped is finished by the same
    import: what is there already is skipped.

    Args:
        rows: JSON objects of any layout that holds prompts (see `training.artifacts.layouts.prompts`), optionally
            with `id`, `user` (pseudonym of who wrote it), `use_case`, `mode`, `spec`. Without an `id` the prompt gets
            the hash of its messages.
        correct: replace stored prompts by rows of the same id with another text. A prompt that was given to labelers
            stays as they saw it, is retired, and its correction gets an id of its own.
    """
    report = ImportReport()
    _store(store, _usable(rows, report), report, correct, lambda rows: None)
    return report


def _usable(rows: Iterable[object], report: ImportReport) -> Iterator[Prompt]:
    """Prompts of JSON values; the other rows are counted."""
    for number, row in enumerate(demonstrated(map(_checked, rows))):
        try:
            if isinstance(row, Skip):
                raise row
            tracked = TrackedRow(row, number)
            prompt = _prompt(tracked)
        except Skip as skip:
            report.skipped[skip.reason] += 1
        except RecursionError:  # of a layout, over nested lists that the parser could still read
            report.skipped[Skip("too_deep").reason] += 1
        else:
            report.ignored.update(tracked.unread())
            yield prompt


def _checked(row: object) -> Row | Skip:
    if not isinstance(row, dict):
        return Skip("not_an_object")
    try:
        check_texts(row)
    except Skip as skip:
        return skip
    return row


def _prompt(row: TrackedRow) -> Prompt:
    """A row as a prompt of the store. Raises `Skip`."""
    record = layout.parse(row)
    messages = [{"role": message["role"], "content": message["content"]} for message in record.messages]
    identity = label_text(row, "prompt_id", "id") or _digest(messages)
    for name, value in (("id", identity), ("user", record.user), ("use_case", record.use_case)):
        if value is not None and len(value) > LONGEST:
            raise Skip("too_long", f"`{name}` is longer than {LONGEST} characters: shorten it")
    meta = {name: value for name, value in (("mode", record.mode), ("spec", dict(record.spec))) if value}
    _check_storable(meta)
    return Prompt(
        id=identity, messages=messages, user=record.user, use_case=record.use_case, source="imported", meta=meta
    )


def _check_storable(meta: Mapping[str, Any]) -> None:
    """Raise `Skip` for what cannot be written as JSON again: an export holds it."""
    level: list[Any] = [meta]
    for _ in range(DEEPEST):
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            raise Skip("not_a_number")
        held = [v.values() if isinstance(v, Mapping) else v for v in level if isinstance(v, (Mapping, list, tuple))]
        level = [value for values in held for value in values]
        if not level:
            return
    raise Skip("too_deep")


def _store(
    store: Store, prompts: Iterator[Prompt], report: ImportReport, correct: bool, done: Callable[[int], None]
) -> None:
    """Add the prompts in batches; each is counted as new, as a correction, or with the reason why it is neither."""
    with closing(Earlier()) as earlier:
        while batch := list(islice(prompts, BATCH)):
            unseen = []
            for prompt in batch:
                text = int(_digest(prompt.messages)[:15], 16)
                before = earlier.text_of(prompt.id, text)
                if before is None:
                    unseen.append(prompt)
                else:
                    report.skipped[REPEATED if before == text else OTHER_TEXT_REPEATED] += 1
            began = time.monotonic()
            with store.session() as session:
                # Another import may add the same at the same time: what it was quicker with is looked at once more.
                while unseen:
                    unseen = _add(session, _compared(session, unseen, report, correct), report)
            store.give_way(began)
            done(len(batch))


def _compared(session: Session, batch: Sequence[Prompt], report: ImportReport, correct: bool) -> list[Prompt]:
    """The prompts that are not in the store; the others are corrected there or skipped."""
    ids = {name for prompt in batch for name in (prompt.id, _corrected_id(prompt))}
    query = select(Prompt.id, Prompt.messages).where(Prompt.id.in_(ids))
    stored = {row.id: row.messages for row in session.execute(query)}
    absent = []
    for prompt in batch:
        present = next((name for name in (_corrected_id(prompt), prompt.id) if name in stored), None)
        if present is None:
            absent.append(prompt)
        elif stored[present] == prompt.messages:
            report.skipped[STORED] += 1
        elif correct:
            _correct(session, session.get_one(Prompt, present), prompt)
            report.corrected += 1
        else:
            report.skipped[OTHER_TEXT_STORED] += 1
    return absent


def _add(session: Session, prompts: Sequence[Prompt], report: ImportReport) -> list[Prompt]:
    """Add the prompts, and return those whose id somebody else has added meanwhile."""
    if not prompts:
        return []
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(TABLE).on_conflict_do_nothing(index_elements=[TABLE.c.id]).returning(TABLE.c.id)
    rows = [
        {
            "id": prompt.id,
            "messages": prompt.messages,
            "prompt_user": prompt.user,
            "use_case": prompt.use_case,
            "source": prompt.source,
            "meta": prompt.meta,
        }
        for prompt in prompts
    ]
    added = set(session.execute(statement, rows).scalars())
    report.imported += len(added)
    return [prompt for prompt in prompts if prompt.id not in added]


def _correct(session: Session, stored: Prompt, prompt: Prompt) -> None:
    """Replace a stored prompt. What labelers were given stays beside their answers, out of use."""
    if session.scalar(select(Task.id).where(Task.prompt_id == stored.id).limit(1)) is not None:
        retire(session, stored.id, "corrected")
        prompt.id = _corrected_id(prompt)
        session.add(prompt)
    else:
        stored.messages, stored.user, stored.use_case = prompt.messages, prompt.user, prompt.use_case
        stored.meta, stored.retired = prompt.meta, None
        forget_refusals(session, [stored.id])  # they were about the text before
    session.flush()


def _corrected_id(prompt: Prompt) -> str:
    """The id of a correction beside the prompt that it corrects: the same text always gets the same."""
    return f"{prompt.id[: LONGEST - 9]}-{_digest(prompt.messages)[:8]}"


def _digest(messages: Sequence[Mapping[str, str]]) -> str:
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:32]


def typed_prompt(session: Session, messages: Sequence[Mapping[str, Any]], user: str) -> Prompt:
    """Store the prompt that a labeler typed. Nobody else is given it.

    Args:
        user: the labeler's pseudonym.

    Raises:
        UserError: not a conversation that ends with the user.
    """
    turns = check_prompt(messages)
    key = typed_id(turns, user)
    prompt = session.get(Prompt, key)
    if prompt is None:
        prompt = Prompt(id=key, messages=turns, user=user, source="typed")
        session.add(prompt)
        session.flush()
    return prompt


def typed_id(turns: Sequence[Mapping[str, str]], user: str) -> str:
    """The id of what a labeler typed: the same text of the same person has the same one."""
    key = hashlib.sha256(f"{user}\0{json.dumps(turns, sort_keys=True)}".encode()).hexdigest()[:32]
    return f"typed-{key}"


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
