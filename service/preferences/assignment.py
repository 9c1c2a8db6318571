"""Tasks for a labeler: open ones resumed, repeats, responses sampled for a stored or a typed prompt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from service.errors import ApiError
from service.preferences import tasks
from service.preferences.ahead import Ahead
from service.preferences.preparation import TRIES, Desk, Prepared, Wish, open_task, prepare, sample_from
from service.preferences.prompts import typed_id, typed_prompt
from service.preferences.sampling import distinct, policies
from service.store.models import Prompt, Task
from training.artifacts.comparisons import Response


@dataclass(frozen=True)
class Assigned:
    """A task, its token, and how many prompts were passed over for it. Without a task none is left."""

    task: Task | None
    token: str = ""
    identical: int = 0


async def next_task(desk: Desk, ahead: Ahead, wish: Wish, *, resumed: bool = False) -> Assigned:
    """The labeler's next task on a stored prompt.

    Two identical responses are never shown: a task on the others has fewer, and a prompt without two different ones is
    passed over and counted.

    Args:
        resumed: the oldest open task comes first, as after a reload of the page.

    Raises:
        ApiError: what `prepare` raises.
    """
    ahead.keep_for(wish)
    if resumed and (opened := await asyncio.to_thread(resume, desk, wish)):
        return opened
    if again := await asyncio.to_thread(repeat, desk, wish):
        return again
    for _ in range(TRIES):
        prepared = await ahead.take(wish) or await prepare(desk, wish, ahead.prompts_of(wish), ahead.prompts())
        if isinstance(prepared, int):
            return Assigned(None, identical=prepared + ahead.passed_over(wish))
        with ahead.giving(wish, prepared.prompt_id):
            opened = await asyncio.to_thread(give, desk, wish, prepared)
        if opened is not None:
            return opened
    raise ApiError(
        503, "the prompts changed meanwhile: try again", code="no_usable_prompt", headers={"Retry-After": "1"}
    )


def resume(desk: Desk, wish: Wish) -> Assigned | None:
    """The labeler's oldest open task of this kind, if there is one."""
    with desk.store.session() as session:
        opened = tasks.resume(session, wish.labeler_id, wish.kind, wish.k, desk.settings.task_minutes)
        return None if opened is None else Assigned(*opened)


def repeat(desk: Desk, wish: Wish) -> Assigned | None:
    """Now and then, and if there is one, the responses that another labeler was given."""
    with desk.store.session() as session:
        tasks.expire_stale(session)
    if random.random() >= desk.settings.collect_overlap:
        return None
    # A transaction of its own: the search goes through all answered tasks, and would keep SQLite's other writers out.
    try:
        with desk.store.session() as session:
            earlier = tasks.choose_repeat(session, wish.labeler_id, wish.kind, wish.k, desk.compared)
            if earlier is None:
                return None
            responses = [Response(r.text, r.checkpoint, r.sampling, r.finish_reason) for r in earlier.responses]
            # No savepoint: SQLite would begin to read with it, and refuse the write at once if anybody wrote meanwhile.
            return Assigned(*open_task(session, desk, wish, earlier.prompt_id, responses, earlier.propensity))
    except IntegrityError:
        return None  # the same labeler asked twice at once


def give(desk: Desk, wish: Wish, prepared: Prepared) -> Assigned | None:
    """The prepared responses as an open task; None when the prompt is not this labeler's to have any more."""
    try:
        with desk.store.session() as session:
            prompt = session.get(Prompt, prepared.prompt_id)
            if prompt is None or prompt.retired is not None or prompt.messages != prepared.text:
                return None
            opened = open_task(session, desk, wish, prompt.id, prepared.responses, prepared.propensity)
            return Assigned(*opened, identical=prepared.identical)
    except IntegrityError:
        return None  # the same labeler asked twice at once and got this prompt both times


async def typed_task(desk: Desk, wish: Wish, messages: Sequence[dict[str, str]], pseudonym: str) -> Assigned:
    """A task on a prompt that the labeler typed.

    Raises:
        ApiError: 409 when the labeler has had this prompt, or all responses are identical; 400 when no policy takes
            it; and what `policies` and `sample` raise.
    """
    used = ApiError(409, "you have had this prompt already: change it", param="text", code="prompt_used")
    if await asyncio.to_thread(_had, desk, wish, typed_id(messages, pseudonym)):
        raise used
    writers = policies(desk.endpoints, desk.settings.collect_policies)
    sampled = await sample_from(desk, writers, messages, wish.k)
    if not sampled.responses:
        raise next(iter(sampled.refusals.values()))
    responses = distinct(sampled.responses)
    if len(responses) < 2:
        message = f"all {wish.k} responses to this prompt are identical: there is nothing to compare, type another"
        raise ApiError(409, message, param="text", code="identical_responses")

    def store() -> Assigned:
        with desk.store.session() as session:
            prompt = typed_prompt(session, messages, pseudonym)
            return Assigned(*open_task(session, desk, wish, prompt.id, responses, sampled.propensity))

    try:
        return await asyncio.to_thread(store)
    except IntegrityError:
        raise used from None


def _had(desk: Desk, wish: Wish, prompt_id: str) -> bool:
    with desk.store.session() as session:
        return tasks.has_task(session, wish.labeler_id, prompt_id)
