"""Responses for a labeler: a prompt is chosen, its policies are asked, and what they refuse is set aside for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import metrics
from service.endpoints import Endpoint, Endpoints
from service.errors import ApiError
from service.preferences import pool, tasks
from service.preferences.sampling import Sampled, current_policies, distinct, policies, sample
from service.settings import Settings
from service.store.database import Store
from service.store.models import Prompt, Task
from training.artifacts.comparisons import Response

log = logging.getLogger(__name__)
TRIES = 20  # prompts whose responses all read alike, before the labeler is told
REFUSAL_SECONDS = 30.0  # spent on prompts that every policy refuses, before the labeler is told


@dataclass(frozen=True)
class Wish:
    """What a labeler asks for: tasks of one kind with K responses."""

    labeler_id: str
    kind: str
    k: int


@dataclass(frozen=True)
class Prepared:
    """Responses to a prompt, ready to be given to a labeler.

    Attributes:
        prompt_id: the stored prompt.
        text: its messages when the responses were sampled.
        responses: at least two that differ.
        propensity: the probability with which their checkpoints were chosen.
        compared: the checkpoints that people compared when they were sampled.
        identical: prompts passed over before this one, as all their responses read alike.
    """

    prompt_id: str
    text: Sequence[dict[str, str]]
    responses: Sequence[Response]
    propensity: float
    compared: frozenset[str]
    identical: int = 0


@dataclass(frozen=True)
class Desk:
    """What it takes to give out tasks.

    Attributes:
        being_sampled: prompts whose responses are being sampled now, with how often.
    """

    store: Store
    settings: Settings
    endpoints: Endpoints
    http: aiohttp.ClientSession
    being_sampled: Counter[str] = field(default_factory=Counter)

    @property
    def compared(self) -> frozenset[str]:
        """The checkpoints that people compare now."""
        return current_policies(self.endpoints, self.settings.collect_policies)

    @contextmanager
    def sampling(self, prompt_id: str) -> Iterator[None]:
        """Keep a prompt from others while its responses are sampled."""
        self.being_sampled[prompt_id] += 1
        try:
            yield
        finally:
            self.being_sampled[prompt_id] -= 1
            if not self.being_sampled[prompt_id]:
                del self.being_sampled[prompt_id]


async def prepare(desk: Desk, wish: Wish, own: Collection[str] = (), others: Collection[str] = ()) -> Prepared | int:
    """Sample responses to a stored prompt that the labeler has not had.

    A policy that refuses the prompt does not get it again; one that every policy refuses is passed over, and so is one
    whose responses all read alike.

    Args:
        own: prompts that are prepared for this labeler.
        others: prompts that are prepared for others, taken only when there is no other prompt.

    Returns:
        The responses, or, when no prompt is left, the number of prompts passed over because of identical responses.

    Raises:
        ApiError: 503 when no policy takes any of the prompts tried, or their responses are all identical; and what
            `policies` and `sample` raise.
    """
    identical, refused, tried = 0, 0, set(own)
    reason = ""
    began = time.monotonic()
    while identical < TRIES and (not refused or time.monotonic() - began < REFUSAL_SECONDS):
        compared = desk.compared
        writers = policies(desk.endpoints, desk.settings.collect_policies)
        reserved = {*others, *desk.being_sampled}
        choice = await asyncio.to_thread(_choose, desk, wish, tried, writers, reserved)
        if choice is None:
            return identical
        prompt, able = choice
        if prompt.id in desk.being_sampled and prompt.id not in reserved:
            continue  # somebody chose it at the same time
        with desk.sampling(prompt.id):
            sampled = await sample_from(desk, able, prompt.messages, wish.k)
            if sampled.refusals:
                await asyncio.to_thread(_set_aside, desk, prompt.id, sampled)
            responses = distinct(sampled.responses)
            if len(responses) >= 2:
                return Prepared(prompt.id, prompt.messages, responses, sampled.propensity, compared, identical)
            tried.add(prompt.id)
            if not sampled.responses:
                refused, reason = refused + 1, next(iter(sampled.refusals.values())).message
                continue
            identical += 1
            await asyncio.to_thread(_pass_over, desk, wish, prompt.id, sampled)
    if identical >= TRIES:
        message = f"all responses to each of {identical} prompts were identical: raise collect_temperature"
        raise ApiError(503, message, code="identical_responses")
    message = (
        f"no policy takes any of the {refused} prompts tried ({reason}): they are set aside, "
        "see `python -m service pool list`; import others, or serve another policy"
    )
    raise ApiError(503, message, code="no_usable_prompt")


async def sample_from(desk: Desk, writers: Sequence[Endpoint], messages: Sequence[dict[str, str]], k: int) -> Sampled:
    """`sample` with the settings of collecting."""
    settings = desk.settings
    return await sample(
        desk.http, desk.endpoints, writers, messages, k, settings.collect_temperature, settings.max_concurrent
    )


def _choose(
    desk: Desk, wish: Wish, tried: Collection[str], writers: Sequence[Endpoint], reserved: Collection[str]
) -> tuple[Prompt, list[Endpoint]] | None:
    """A prompt, and the policies that have not refused it."""
    names = [endpoint.checkpoint for endpoint in writers]
    with desk.store.session() as session:
        prompt = pool.choose_prompt(session, wish.labeler_id, tried, checkpoints=names, reserved=reserved)
        if prompt is None:
            return None
        refused = pool.refused_by(session, prompt.id)
        return prompt, [endpoint for endpoint in writers if endpoint.checkpoint not in refused]


def _set_aside(desk: Desk, prompt_id: str, sampled: Sampled) -> None:
    reasons = {checkpoint: refusal.message for checkpoint, refusal in sampled.refusals.items()}
    for checkpoint, reason in reasons.items():
        log.warning("prompt %s is set aside for %s: %s", prompt_id, checkpoint, reason)
    with desk.store.session() as session:
        pool.set_aside(session, prompt_id, reasons)


def _pass_over(desk: Desk, wish: Wish, prompt_id: str, sampled: Sampled) -> None:
    metrics.identical.inc()
    # The labeler may have got this prompt in another request meanwhile.
    with suppress(IntegrityError), desk.store.session() as session:
        open_task(session, desk, wish, prompt_id, sampled.responses, sampled.propensity, "identical")


def open_task(
    session: Session,
    desk: Desk,
    wish: Wish,
    prompt_id: str,
    responses: Sequence[Response],
    propensity: float | None,
    state: str = "open",
) -> tuple[Task, str]:
    """`tasks.open_task` with the settings of collecting."""
    return tasks.open_task(
        session,
        wish.labeler_id,
        wish.kind,
        prompt_id,
        responses,
        guideline=desk.settings.guideline,
        propensity=propensity,
        minutes=desk.settings.task_minutes,
        state=state,
    )
