"""Systems under test: a checkpoint and the way it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.client import Answer, Client, Refused, Sampling, each
from evals.results import Ask, prompt_hash
from evals.seeds import answer_seed
from training.artifacts import checkpoints
from training.artifacts.checkpoints import Manifest
from training.artifacts.errors import UserError
from training.miniature import few_shot_prompt, plain_prompt

WAYS = ("chat", "plain", "few-shot")
STAGE_LABELS = {"pretrain": "base"}


@dataclass(frozen=True)
class System:
    """What is measured.

    Attributes:
        checkpoint: immutable id, the model name in requests.
        ask: `chat` through its template, `plain` as text to continue, `few-shot` after a list of answered questions.
        label: for people; unique within a run.
        manifest: of the checkpoint where the local store has it.
    """

    checkpoint: str
    ask: Ask
    label: str
    manifest: Manifest | None = None

    @property
    def name(self) -> str:
        """Name of the system's files."""
        return f"{self.checkpoint}.{self.ask}".replace("/", "_")


def systems_of(references: Sequence[str], store: Path, served: Mapping[str, str]) -> list[System]:
    """Resolve `ID`, `ID:plain`, `ID:few-shot` or `ID:chat`, a stage's name standing for its newest checkpoint.

    Without a way of asking, a checkpoint of stage pretrain is asked plain, any other through its chat template.

    Args:
        served: name that the service answers to -> checkpoint id (`Client.models`).

    Raises:
        UserError: an unknown way of asking, or a model that the service does not serve.
    """
    systems = [_system(reference, store, served) for reference in references]
    labels = [system.label for system in systems]
    return [
        replace(s, label=f"{s.label} {s.checkpoint[-4:]} {s.ask}") if labels.count(s.label) > 1 else s for s in systems
    ]


def reward_of(reference: str, store: Path, served: Mapping[str, str]) -> System:
    """The reward model of a reference."""
    manifest = _manifest(reference, store, served)
    checkpoint = _served(manifest.id if manifest else reference, served)
    return System(checkpoint, "score", manifest.stage if manifest else "reward model", manifest)


def _system(reference: str, store: Path, served: Mapping[str, str]) -> System:
    name, _, ask = reference.rpartition(":") if ":" in reference else (reference, "", "")
    if name == "latest":
        name, ask = reference, ""
    if ask and ask not in WAYS:
        raise UserError(f"{reference!r}: a checkpoint is asked by one of {', '.join(WAYS)}")
    manifest = _manifest(name, store, served)
    identity = _served(manifest.id if manifest else name, served)
    stage = manifest.stage if manifest else name
    default: Ask = "plain" if stage == "pretrain" else "chat"
    way: Ask = ask or default  # type: ignore[assignment]  # checked against WAYS above
    label = STAGE_LABELS.get(stage, stage)
    return System(identity, way, f"{label} few-shot" if way == "few-shot" else label, manifest)


def _manifest(name: str, store: Path, served: Mapping[str, str]) -> Manifest | None:
    """Manifest of a checkpoint or alias; None for one that the service serves but this store does not have."""
    try:
        return checkpoints.resolve(served.get(name, name), store).manifest
    except UserError:
        if name not in served:
            raise
        return None


def _served(name: str, served: Mapping[str, str]) -> str:
    if name not in served:
        known = ", ".join(sorted(set(served.values()))) or "nothing"
        raise UserError(f"the service does not serve {name} (it serves {known}): start an engine for it")
    return served[name]


async def answer_rows(
    client: Client,
    system: System,
    rows: Sequence[Mapping[str, Any]],
    sampling: Sampling,
    run_seed: int,
    suite: str,
    label: str,
    as_text: Callable[[Mapping[str, Any]], str] | None = None,
) -> list[Answer | Refused]:
    """The system's answer to the `messages` of every row, each sampled with a seed of its own (`seeds.py`).

    Args:
        suite: that the rows belong to; with `run_seed`, a row's `id` and its messages it gives the seed.
        as_text: how a model without a chat template is asked; the miniature world's ways by default, where `mode`
            chooses the few-shot examples.
    """
    if system.ask == "few-shot" and as_text is None:
        sampling = replace(sampling, stop=("question :",))
    text_of = as_text or (_plain_text if system.ask == "plain" else _few_shot_text)

    async def one(row: Mapping[str, Any]) -> Answer:
        seed = answer_seed(run_seed, suite, str(row["id"]), prompt_hash(row["messages"]))
        if system.ask == "chat":
            return await client.chat(system.checkpoint, row["messages"], sampling, seed)
        answer = await client.complete(system.checkpoint, text_of(row), sampling, seed)
        return replace(answer, text=answer.text.strip())

    return await each(rows, one, f"{system.label}: {label}", client.concurrency)


def _plain_text(row: Mapping[str, Any]) -> str:
    return plain_prompt(row["messages"])


def _few_shot_text(row: Mapping[str, Any]) -> str:
    return few_shot_prompt(row["messages"], row.get("mode", "plain"))
