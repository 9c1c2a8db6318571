"""Models under test: a checkpoint and the way it is prompted."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evals.results import Ask
from training.artifacts import checkpoints
from training.artifacts.checkpoints import Manifest
from training.artifacts.errors import UserError
from training.artifacts.files import file_name
from training.artifacts.text import STEERING

WAYS = ("chat", "plain", "few-shot")
STAGE_LABELS = {"pretrain": "base"}


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        checkpoint: immutable id, the model name in requests.
        ask: `chat` through its template, `plain` as text to continue, `few-shot` after a list of answered questions;
            `score` for a reward model.
        label: for people; unique within a run.
        manifest: of the checkpoint where the local store has it.
        apart: part of the files' names that keeps them apart from another subject's, whose names would be the same.
    """

    checkpoint: str
    ask: Ask
    label: str
    manifest: Manifest | None = None
    apart: str = ""

    @property
    def name(self) -> str:
        """Name of the subject's files."""
        return f"{file_name(self.checkpoint)}{self.apart}.{self.ask}"


def subjects_of(references: Sequence[str], store: Path, served: Mapping[str, str]) -> list[Subject]:
    """Resolve `ID`, `ID:plain`, `ID:few-shot` or `ID:chat`, a stage's name standing for its newest checkpoint.

    Without a way of asking, a checkpoint of stage pretrain is asked plain, any other through its chat template.

    Args:
        served: name that the service answers to -> checkpoint id (`Client.models`).

    Raises:
        UserError: an unknown way of asking, a model that the service does not serve, or one that is named twice.
    """
    for reference in references:
        if re.search(STEERING, reference):
            raise UserError(f"the name {reference!r} holds control characters: serve the model by another name")
    subjects = [_subject(reference, store, served) for reference in references]
    repeated = [s for s, count in Counter((s.checkpoint, s.ask) for s in subjects).items() if count > 1]
    if repeated:
        raise UserError(f"{':'.join(repeated[0])} is named twice: name each checkpoint and way of asking once")
    files = Counter(subject.name.casefold() for subject in subjects)
    subjects = [replace(s, apart=_digest(s.checkpoint)) if files[s.name.casefold()] > 1 else s for s in subjects]
    labels = [subject.label for subject in subjects]
    return [
        replace(s, label=f"{s.label} {s.checkpoint[-4:]} {s.ask}") if labels.count(s.label) > 1 else s for s in subjects
    ]


def reward_of(reference: str, store: Path, served: Mapping[str, str]) -> Subject:
    """The reward model of a reference."""
    manifest = _manifest(reference, store, served)
    checkpoint = _served(manifest.id if manifest else reference, served)
    return Subject(checkpoint, "score", manifest.stage if manifest else "reward model", manifest)


def checkpoint_ids(references: Sequence[str], store: Path) -> list[str]:
    """The ids of the local checkpoints of these references, each once. Raises `UserError` for one that is not there."""
    ids = [checkpoints.resolve(split_way(reference)[0], store).manifest.id for reference in references]
    return list(dict.fromkeys(ids))


def split_way(reference: str) -> tuple[str, str]:
    """Name and way of asking of a reference; the way is empty where it names none.

    Raises:
        UserError: an unknown way of asking.
    """
    name, _, way = reference.rpartition(":") if ":" in reference else (reference, "", "")
    if name == "latest":
        return reference, ""
    if way and way not in WAYS:
        raise UserError(f"{reference!r}: a checkpoint is asked by one of {', '.join(WAYS)}")
    return name, way


def _digest(checkpoint: str) -> str:
    """Of two names such as a/b and a_b, or A and a where files know no case, tells the files apart."""
    return f"-{hashlib.sha256(checkpoint.encode()).hexdigest()[:8]}"


def _subject(reference: str, store: Path, served: Mapping[str, str]) -> Subject:
    name, way = split_way(reference) if reference not in served else (reference, "")
    manifest = _manifest(name, store, served)
    identity = _served(manifest.id if manifest else name, served)
    stage = manifest.stage if manifest else name
    default: Ask = "plain" if stage == "pretrain" else "chat"
    ask: Ask = way or default  # type: ignore[assignment]  # `split_way` checks it
    label = STAGE_LABELS.get(stage, stage)
    return Subject(identity, ask, f"{label} few-shot" if ask == "few-shot" else label, manifest)


def _manifest(name: str, store: Path, served: Mapping[str, str]) -> Manifest | None:
    """Manifest of a checkpoint or alias; None for one that the service serves but this store does not have."""
    try:
        return checkpoints.resolve(served.get(name, name), store).manifest
    except UserError as error:
        if name not in served:
            raise UserError(f"{error}; the server has {', '.join(sorted(served)) or 'no model'}") from None
        return None


def _served(name: str, served: Mapping[str, str]) -> str:
    if name not in served:
        known = ", ".join(sorted(set(served.values()))) or "nothing"
        raise UserError(f"the service does not serve {name} (it serves {known}): start an engine for it")
    return served[name]
