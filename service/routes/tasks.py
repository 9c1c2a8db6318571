"""Tasks over HTTP: the next one, one on a typed prompt, answer, undo, skip. Checkpoints are named only afterwards."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.datastructures import State

from service import metrics
from service.auth import SignedIn, labeler_session
from service.errors import ApiError
from service.preferences import answers, tasks
from service.preferences.answers import Judgement
from service.preferences.guidelines import guideline
from service.preferences.prompts import check_prompt, typed_prompt
from service.preferences.sampling import UnusablePrompt, distinct, policies, sample
from service.schemas import Body
from service.store.models import Prompt, Task
from training.artifacts.comparisons import Response

router = APIRouter(prefix="/api/tasks", tags=["tasks"])
log = logging.getLogger(__name__)
Labeler = Annotated[SignedIn, Depends(labeler_session)]
TRIES = 20  # prompts tried when the first ones cannot be given to a policy


class TaskRequest(Body):
    """Which kind of task. `resume` gives the oldest open one first, as after a reload of the page."""

    kind: Literal["compare", "rank"] = "compare"
    k: StrictInt = 2
    resume: StrictBool = False


class Typed(Body):
    """A task on a prompt that the labeler typed: `text`, or `messages` that end with the user."""

    kind: Literal["compare", "rank"] = "compare"
    k: StrictInt = 2
    text: StrictStr | None = None
    messages: list[dict[str, Any]] | None = None


class Token(Body):
    token: StrictStr


class JudgementBody(Token):
    """A judgement by position on screen; see `answers.Judgement`."""

    ranks: list[StrictInt] | None = Field(None, max_length=tasks.MAX_K)
    ratings: list[StrictInt | None] | None = Field(None, max_length=tasks.MAX_K)
    flags: list[list[StrictStr]] | None = Field(None, max_length=tasks.MAX_K)
    all_bad: StrictBool = False
    note: StrictStr | None = None
    seconds: StrictFloat | StrictInt | None = None


@router.post("/next")
async def next_task(body: TaskRequest, request: Request, labeler: Labeler) -> dict[str, Any]:
    """The labeler's next task on a stored prompt; `task` is null when there is none left.

    Two identical responses are never shown: a task on the others has fewer, and a prompt without two different ones is
    passed over and counted in `identical`. A prompt that no policy can take is retired.
    """
    state = request.app.state
    tasks.check_kind(body.kind, body.k)
    if body.resume:
        resumed = await asyncio.to_thread(_resume, state, labeler, body)
        if resumed is not None:
            return resumed | {"identical": 0}
    writers = policies(state.endpoints, state.settings.collect_policies)
    checkpoints = {endpoint.checkpoint for endpoint in writers}
    refused: dict[str, UnusablePrompt] = {}
    identical = 0
    for _ in range(TRIES):
        plan = await asyncio.to_thread(_choose, state, labeler, body, checkpoints, refused)
        if isinstance(plan, dict):
            await asyncio.to_thread(_retire, state, refused)
            return plan | {"identical": identical}
        try:
            responses, propensity = await _sample(state, writers, plan.messages, body.k)
        except UnusablePrompt as error:
            refused[plan.id] = error
            continue
        await asyncio.to_thread(_retire, state, refused)  # another prompt was taken: the fault is theirs
        refused = {}
        try:
            opened = await asyncio.to_thread(_give, state, labeler, body, plan, responses, propensity)
        except IntegrityError:
            continue  # the same labeler asked twice at once and got this prompt both times
        if opened is not None:
            return opened | {"identical": identical}
        identical += 1
    if refused:
        reason = next(iter(refused.values())).message
        message = f"no policy takes any of the {len(refused)} prompts tried ({reason}): import others, or serve another"
        raise ApiError(503, message, code="no_usable_prompt")
    message = f"all responses to each of {identical} prompts were identical: raise collect_temperature"
    raise ApiError(503, message, code="identical_responses")


@router.post("/prompt")
async def typed_task(typed: Typed, request: Request, labeler: Labeler) -> dict[str, Any]:
    """A task on a prompt of the labeler's own."""
    state = request.app.state
    tasks.check_kind(typed.kind, typed.k)
    if (typed.text is None) == (typed.messages is None):
        raise ApiError(400, "give either `text` or `messages`", param="text")
    messages = check_prompt(typed.messages or [{"role": "user", "content": typed.text}])
    writers = policies(state.endpoints, state.settings.collect_policies)
    sampled, propensity = await _sample(state, writers, messages, typed.k)
    responses = distinct(sampled)
    if len(responses) < 2:
        message = f"all {typed.k} responses to this prompt are identical: there is nothing to compare, type another"
        raise ApiError(409, message, param="text", code="identical_responses")

    def give() -> dict[str, Any]:
        with state.store.session() as session:
            prompt = typed_prompt(session, messages, labeler.pseudonym)
            return _open(session, state, labeler, typed, prompt, responses, propensity)

    try:
        return await asyncio.to_thread(give)
    except IntegrityError:
        raise ApiError(409, "you have had this prompt already: change it", param="text", code="prompt_used") from None


@router.post("/{task_id}/answer")
async def answer_task(task_id: str, body: JudgementBody, request: Request, labeler: Labeler) -> dict[str, Any]:
    """Store what the labeler said, then name the checkpoints."""
    state = request.app.state
    judgement = Judgement(**body.model_dump(exclude={"token"}))

    def store() -> dict[str, Any]:
        with state.store.session() as session:
            row = answers.answer(session, task_id, labeler.labeler_id, body.token, judgement)
            task = tasks.own_task(session, task_id, labeler.labeler_id)
            return {
                "answer": {"id": row.id, "task": task.id, "created": row.created.isoformat()},
                "reveal": _reveal(task, state.endpoints.view.aliases),
                "progress": _progress(session, labeler),
            }

    return await asyncio.to_thread(store)


@router.post("/{task_id}/undo")
async def undo_task(task_id: str, request: Request, labeler: Labeler) -> dict[str, Any]:
    """Withdraw one's own answer or skip. The task opens again under a new token."""
    state = request.app.state

    def undo() -> dict[str, Any]:
        with state.store.session() as session:
            task, token = answers.undo(session, task_id, labeler.labeler_id, state.settings.task_minutes)
            return _shown(session, labeler, task, token)

    return await asyncio.to_thread(undo)


@router.post("/{task_id}/skip")
async def skip_task(task_id: str, body: Token, request: Request, labeler: Labeler) -> dict[str, Any]:
    """Close a task without an answer. The labeler does not get its prompt again."""
    state = request.app.state

    def skip() -> dict[str, Any]:
        with state.store.session() as session:
            task = answers.skip(session, task_id, labeler.labeler_id, body.token)
            return {"skipped": task.id, "progress": _progress(session, labeler)}

    return await asyncio.to_thread(skip)


def _resume(state: State, labeler: SignedIn, body: TaskRequest) -> dict[str, Any] | None:
    with state.store.session() as session:
        task_and_token = tasks.resume(session, labeler.labeler_id, body.kind, body.k, state.settings.task_minutes)
        return None if task_and_token is None else _shown(session, labeler, *task_and_token)


def _choose(
    state: State, labeler: SignedIn, body: TaskRequest, checkpoints: set[str], refused: Collection[str]
) -> Prompt | dict[str, Any]:
    """A prompt to sample responses for, or the finished answer: a repeated set of responses, or nothing left."""
    with state.store.session() as session:
        tasks.expire_stale(session, labeler.labeler_id)
        if random.random() < state.settings.collect_overlap:
            earlier = tasks.choose_repeat(session, labeler.labeler_id, body.kind, body.k, checkpoints)
            if earlier is not None:
                responses = [Response(r.text, r.checkpoint, r.sampling, r.finish_reason) for r in earlier.responses]
                try:
                    with session.begin_nested():
                        return _open(session, state, labeler, body, earlier.prompt, responses, earlier.propensity)
                except IntegrityError:
                    pass  # the same labeler asked twice at once
        prompt = tasks.choose_prompt(session, labeler.labeler_id, refused)
        return prompt or {"task": None, "progress": _progress(session, labeler)}


async def _sample(
    state: State, writers: list[Any], messages: list[dict[str, str]], k: int
) -> tuple[list[Response], float]:
    settings = state.settings
    return await sample(
        state.http, state.endpoints, writers, messages, k, settings.collect_temperature, settings.max_concurrent
    )


def _give(
    state: State, labeler: SignedIn, body: TaskRequest, prompt: Prompt, responses: list[Response], propensity: float
) -> dict[str, Any] | None:
    """The task as it is shown; None where all responses read alike, which is stored and counted."""
    different = distinct(responses)
    with state.store.session() as session:
        if len(different) >= 2:
            return _open(session, state, labeler, body, prompt, different, propensity)
        _store(session, state, labeler, body, prompt, responses, propensity, "identical")
        metrics.identical.inc()
        return None


def _retire(state: State, refused: Mapping[str, UnusablePrompt]) -> None:
    for prompt, error in refused.items():
        log.warning("prompt %s is retired: %s", prompt, error.message)
        with state.store.session() as session:
            tasks.retire(session, prompt, error.message)


def _open(
    session: Session,
    state: State,
    labeler: SignedIn,
    body: TaskRequest | Typed,
    prompt: Prompt,
    responses: list[Response],
    propensity: float | None,
) -> dict[str, Any]:
    return _shown(session, labeler, *_store(session, state, labeler, body, prompt, responses, propensity, "open"))


def _store(
    session: Session,
    state: State,
    labeler: SignedIn,
    body: TaskRequest | Typed,
    prompt: Prompt,
    responses: list[Response],
    propensity: float | None,
    task_state: str,
) -> tuple[Task, str]:
    return tasks.open_task(
        session,
        labeler.labeler_id,
        body.kind,
        prompt.id,
        responses,
        guideline=state.settings.guideline,
        propensity=propensity,
        minutes=state.settings.task_minutes,
        state=task_state,
    )


def _shown(session: Session, labeler: SignedIn, task: Task, token: str) -> dict[str, Any]:
    """A task as the labeler sees it: texts by position, and nothing that reveals who wrote them."""
    return {
        "task": {
            "id": task.id,
            "token": token,
            "kind": task.kind,
            "k": len(task.shown),
            "prompt_id": task.prompt_id,
            "messages": task.prompt.messages,
            "responses": [
                {
                    "position": position,
                    "text": task.responses[index].text,
                    "truncated": task.responses[index].finish_reason == "length",
                }
                for position, index in enumerate(task.shown)
            ],
            "guideline": {"version": task.guideline, "text": guideline(task.guideline)},
            "expires": task.expires.isoformat(),
        },
        "progress": _progress(session, labeler),
    }


def _reveal(task: Task, aliases: dict[str, str]) -> list[dict[str, Any]]:
    revealed = []
    for position, index in enumerate(task.shown):
        checkpoint = task.responses[index].checkpoint
        names = sorted(name for name, target in aliases.items() if target == checkpoint)
        revealed.append({"position": position, "checkpoint": checkpoint, "aliases": names})
    return revealed


def _progress(session: Session, labeler: SignedIn) -> dict[str, int]:
    done = tasks.progress(session, labeler.labeler_id)
    return {"answered": done.answered, "left": done.left}
