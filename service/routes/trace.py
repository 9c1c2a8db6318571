"""What a checkpoint was made from, as a page and as JSON; and what a vote went into."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.administration import lineage
from service.administration.lineage import Ahead, Behind
from service.auth import Admin
from service.errors import error_answers
from service.routes.pages import Labeler, render
from service.state import gateway_of

router = APIRouter(tags=["admin"])

# Plain functions: FastAPI runs them in threads, where database and files may block.


@router.get("/admin/trace/checkpoints/{name:path}", responses=error_answers(404))
def trace_checkpoint(request: Request, name: str, caller: Admin) -> Behind:
    """All that a checkpoint was made from, with every vote; `name` is its id, its stage or an alias."""
    return _behind(request, name)


@router.get("/admin/trace/votes/{vote}", responses=error_answers(404))
def trace_vote(request: Request, vote: str, caller: Admin) -> Ahead:
    """Every checkpoint that learned from a vote; `vote` is the id of an answer or of its task."""
    state = gateway_of(request)
    with state.store.session() as session:
        return lineage.ahead(session, state.settings.checkpoints, vote)


@router.get("/trace/{name:path}", include_in_schema=False)
def trace_page(request: Request, name: str, labeler: Labeler) -> HTMLResponse:
    """The same for people, votes counted by labeler."""
    return render(request, "trace.html", labeler, behind=_behind(request, name), states=lineage.STATES)


def _behind(request: Request, name: str) -> Behind:
    state = gateway_of(request)
    with state.store.session() as session:
        return lineage.behind_name(session, state.settings.checkpoints, name)
