"""Tasks over HTTP: the next one, one on a typed prompt, answer, undo, skip. Checkpoints are named only afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr
from typing_extensions import TypedDict

from service.auth import labeler_session
from service.disconnects import unless_gone
from service.errors import STORE_UNAVAILABLE, ApiError, error_answers
from service.labelers import SignedIn
from service.preferences import answers, assignment, tasks
from service.preferences.answers import Judgement
from service.preferences.guidelines import guideline
from service.preferences.pool import Progress, progress
from service.preferences.preparation import Wish
from service.preferences.prompts import check_prompt
from service.schemas import Body
from service.state import Gateway, gateway_of
from service.store.models import Task

router = APIRouter(prefix="/api/tasks", tags=["tasks"])
log = logging.getLogger(__name__)
Labeler = Annotated[SignedIn, Depends(labeler_session)]


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


class ShownMessage(TypedDict):
    role: str
    content: str


class ShownResponse(TypedDict):
    """A response by its place on screen; `truncated` where it met the limit of its length."""

    position: int
    text: str
    truncated: bool


class Guideline(TypedDict):
    version: str
    text: list[str]


class ShownTask(TypedDict):
    """A task as the labeler sees it: texts by position, and nothing that reveals who wrote them."""

    id: str
    token: str
    kind: str
    k: int
    prompt_id: str
    messages: list[ShownMessage]
    responses: list[ShownResponse]
    guideline: Guideline
    expires: str


class NextTask(TypedDict):
    """A task, or null when no prompt is left, and how many were passed over for identical responses."""

    task: ShownTask | None
    progress: Progress | None
    identical: int


class GivenTask(TypedDict):
    task: ShownTask
    progress: Progress | None


class StoredAnswer(TypedDict):
    id: str
    task: str
    created: str


class Revealed(TypedDict):
    """Who wrote the response of a position."""

    position: int
    checkpoint: str
    aliases: list[str]


class Judged(TypedDict):
    answer: StoredAnswer
    reveal: list[Revealed]
    progress: Progress | None


class Skipped(TypedDict):
    skipped: str
    progress: Progress | None


@router.post("/next", responses=error_answers(404, 409, 429, 502, 504))
async def next_task(body: TaskRequest, request: Request, labeler: Labeler) -> NextTask:
    """The labeler's next task on a stored prompt; `task` is null when there is none left.

    Two identical responses are never shown: a task on the others has fewer, and a prompt without two different ones is
    passed over and counted in `identical`. A prompt that a policy refuses is set aside for this policy.
    """
    tasks.check_kind(body.kind, body.k)
    state = gateway_of(request)
    wish = Wish(labeler.labeler_id, body.kind, body.k)
    work = assignment.next_task(state.desk, state.ahead, wish, resumed=body.resume)
    assigned = await unless_gone(request, work)
    shown = None if assigned.task is None else _shown(assigned.task, assigned.token)
    return {"task": shown, "progress": await _progress(state, labeler), "identical": assigned.identical}


@router.post("/prompt", responses=error_answers(404, 409, 429, 502, 504))
async def typed_task(typed: Typed, request: Request, labeler: Labeler) -> GivenTask:
    """A task on a prompt of the labeler's own."""
    tasks.check_kind(typed.kind, typed.k)
    if (typed.text is None) == (typed.messages is None):
        raise ApiError(400, "give either `text` or `messages`", param="text")
    messages = check_prompt(typed.messages or [{"role": "user", "content": typed.text}])
    state = gateway_of(request)
    wish = Wish(labeler.labeler_id, typed.kind, typed.k)
    work = assignment.typed_task(state.desk, wish, messages, labeler.pseudonym)
    assigned = await unless_gone(request, work)
    assert assigned.task is not None
    return {"task": _shown(assigned.task, assigned.token), "progress": await _progress(state, labeler)}


@router.post("/{task_id}/answer", responses=error_answers(404, 409, 410))
async def answer_task(task_id: str, body: JudgementBody, request: Request, labeler: Labeler) -> Judged:
    """Store what the labeler said, then name the checkpoints."""
    state = gateway_of(request)
    judgement = Judgement(**body.model_dump(exclude={"token"}))

    def store() -> tuple[StoredAnswer, list[Revealed]]:
        with state.store.session() as session:
            row = answers.answer(session, task_id, labeler.labeler_id, body.token, judgement)
            task = tasks.own_task(session, task_id, labeler.labeler_id)
            stored: StoredAnswer = {"id": row.id, "task": task.id, "created": row.created.isoformat()}
            return stored, _reveal(task, state.endpoints.view.aliases)

    stored, reveal = await asyncio.to_thread(store)
    return {"answer": stored, "reveal": reveal, "progress": await _progress(state, labeler)}


@router.post("/{task_id}/undo", responses=error_answers(404, 409))
async def undo_task(task_id: str, request: Request, labeler: Labeler) -> GivenTask:
    """Withdraw one's own answer or skip. The task opens again under a new token."""
    state = gateway_of(request)

    def undo() -> ShownTask:
        with state.store.session() as session:
            return _shown(*answers.undo(session, task_id, labeler.labeler_id, state.settings.task_minutes))

    return {"task": await asyncio.to_thread(undo), "progress": await _progress(state, labeler)}


@router.post("/{task_id}/skip", responses=error_answers(404, 409, 410))
async def skip_task(task_id: str, body: Token, request: Request, labeler: Labeler) -> Skipped:
    """Close a task without an answer. The labeler does not get its prompt again."""
    state = gateway_of(request)

    def skip() -> str:
        with state.store.session() as session:
            return answers.skip(session, task_id, labeler.labeler_id, body.token).id

    return {"skipped": await asyncio.to_thread(skip), "progress": await _progress(state, labeler)}


def _shown(task: Task, token: str) -> ShownTask:
    return {
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
        "guideline": {"version": task.guideline, "text": list(guideline(task.guideline))},
        "expires": task.expires.isoformat(),
    }


def _reveal(task: Task, aliases: Mapping[str, str]) -> list[Revealed]:
    revealed: list[Revealed] = []
    for position, index in enumerate(task.shown):
        checkpoint = task.responses[index].checkpoint
        names = sorted(name for name, target in aliases.items() if target == checkpoint)
        revealed.append({"position": position, "checkpoint": checkpoint, "aliases": names})
    return revealed


async def _progress(state: Gateway, labeler: SignedIn) -> Progress | None:
    """None while the store does not answer: what was asked for is done, and must not look as if it were not."""

    def count() -> Progress:
        with state.store.session() as session:
            return progress(session, labeler.labeler_id, state.desk.compared)

    try:
        return await asyncio.to_thread(count)
    except STORE_UNAVAILABLE as error:
        log.warning("progress is not counted: %s", error)
        return None
