"""Answers as comparisons, in the frozen format that training reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy.orm import Session, joinedload

from service.preferences import answers
from service.store.models import Answer, Labeler, Task
from training.artifacts.comparisons import AFTER_REVEAL, Comparison, Response, to_json
from training.artifacts.files import replacing
from training.artifacts.text import mend, text_fault

BLOCK = 500
MENDED = "half_characters_replaced"


def comparisons(session: Session, since: datetime | None = None, *, blind: bool = False) -> Iterator[Comparison]:
    """Every answer that stands, ordered by id. Labelers who were excluded are left out.

    Withdrawn and superseded answers are left out, so a frozen file is always a whole export: one made with
    `since` cannot say that an earlier answer was withdrawn.

    Args:
        since: only answers given at or after this time.
        blind: the first answer to each task instead, given before any name was shown, whatever came later.
    """
    query = (
        (answers.blind() if blind else answers.standing())
        .add_columns(Task, Labeler)
        .join(Task, Task.id == Answer.task_id)
        .join(Labeler, Labeler.id == Answer.labeler_id)
        .where(Labeler.excluded.is_(None))
        .options(joinedload(Task.prompt))
        .order_by(Answer.id)
    )
    if since is not None:
        query = query.where(Answer.created >= since)
    for answer, task, labeler in session.execute(query.execution_options(yield_per=BLOCK)):
        yield _comparison(session, answer, task, labeler)


@dataclass(frozen=True)
class Exported:
    """What was written: sha256 of the bytes, number of rows, and of those in which `?` stands for half a character."""

    sha256: str
    rows: int
    mended: int


def write(session: Session, file: IO[bytes], since: datetime | None = None) -> Exported:
    """Write comparisons as JSONL. The same data gives the same bytes, which `comparisons.freeze` would give too.

    Half a character, which stores of early versions may hold and UTF-8 cannot, becomes `?`, and the row's `meta` says
    so.
    """
    digest, rows, mended = hashlib.sha256(), 0, 0
    for comparison in comparisons(session, since):
        line = (to_json(comparison) + "\n").encode()
        mended += MENDED in comparison.meta
        digest.update(line)
        file.write(line)
        rows += 1
    return Exported(digest.hexdigest(), rows, mended)


def export_file(session: Session, path: Path, since: datetime | None = None) -> Exported:
    """`write` to a file, which is there whole or not at all. Raises as `files.replacing` does."""
    with replacing(path) as file:
        return write(session, file, since)


def _comparison(session: Session, answer: Answer, task: Task, labeler: Labeler) -> Comparison:
    prompt = task.prompt
    corrected = _corrected(session, answer)
    meta: dict[str, Any] = {**prompt.meta, "task": task.id, "kind": task.kind, "source": prompt.source}
    extra = {"use_case": prompt.use_case, "seconds": answer.seconds, "note": answer.note}
    meta |= {name: value for name, value in extra.items() if value is not None}
    if answer.supersedes is not None:
        # The names of the checkpoints were on screen before this answer, so it was not given blind.
        meta[AFTER_REVEAL] = True
    messages, texts = prompt.messages, [response.text for response in task.responses]
    user, prompt_id = prompt.user, prompt.id
    if text_fault([messages, texts, user, prompt_id, meta]) == "half_character":
        messages, texts, user, prompt_id, meta = mend([messages, texts, user, prompt_id, meta])
        meta[MENDED] = True
    return Comparison(
        id=answer.id,
        messages=tuple(messages),
        responses=tuple(
            Response(text, r.checkpoint, r.sampling, r.finish_reason)
            for text, r in zip(texts, task.responses, strict=True)
        ),
        ranks=tuple(answer.ranks or ()),
        ratings=None if answer.ratings is None else tuple(answer.ratings),
        flags=None if answer.flags is None else tuple(tuple(names) for names in answer.flags),
        all_bad=answer.all_bad,
        shown=tuple(task.shown),
        labeler=labeler.pseudonym,
        labeler_group=labeler.group,
        guideline=task.guideline,
        user=user,
        prompt_id=prompt_id,
        propensity=task.propensity,
        supersedes=corrected,
        created=answer.created.isoformat(timespec="milliseconds"),
        meta=meta,
    )


def _corrected(session: Session, answer: Answer) -> str | None:
    """The ranking that this one replaces: withdrawals between the two are not exported."""
    previous = answer.supersedes
    while previous is not None:
        row = session.get_one(Answer, previous)
        if not row.withdrawn:
            return row.id
        previous = row.supersedes
    return None
