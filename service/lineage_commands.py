"""`python -m service trace ID`: what is behind an answer, and what a vote went into."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping

from service.administration import lineage
from service.administration.lineage import STATES, Ahead, Behind, CheckpointRow, DataRow
from service.console import minute, open_store
from service.settings import Settings

SHOWN = 8  # characters of a hash


def trace(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the way back from a checkpoint, or forward from a vote."""
    with open_store(settings).session() as session:
        id = lineage.checkpoint_of(session, settings.checkpoints, parsed.name)
        if id is None:  # so it is looked for among votes
            ahead = lineage.ahead(session, settings.checkpoints, parsed.name)
            as_json, votes, lines = json.dumps(ahead, indent=2), _own_id(ahead), _of_vote(ahead)
        else:
            behind = lineage.behind(session, settings.checkpoints, id)
            as_json, votes, lines = json.dumps(behind, indent=2), _ids(behind), _of_checkpoint(behind)
    print(as_json if parsed.json else "\n".join(votes if parsed.votes else lines))


def _ids(traced: Behind) -> list[str]:
    """Ids of the votes behind a checkpoint, each once."""
    votes = (data["votes"] for step in traced["steps"] for data in step["data"])
    return list(dict.fromkeys(id for vote in votes if vote for id in vote["ids"]))


def _own_id(traced: Ahead) -> list[str]:
    return [traced["vote"]["id"]] if traced["vote"] else []


def _of_checkpoint(traced: Behind) -> Iterator[str]:
    for step in traced["steps"]:
        yield _title(step, traced["aliases"] if step["id"] == traced["checkpoint"] else [])
        if step["children"]:
            yield f"    made     {', '.join(step['children'])}"
        if step["base_model"]:
            yield f"    from     {step['base_model']}"
        for promotion in step["promotions"]:
            gate = promotion["gate"]
            verdict = f"gate {gate['outcome']} against {gate['baseline']}" if gate else "without the gate"
            when = f"{minute(promotion['time'])} by {promotion['actor']}"
            yield f"    {promotion['action']:8} {promotion['alias']} {when}, {verdict}"
        for data in step["data"]:
            yield from _of_data(data)


def _title(step: CheckpointRow, aliases: list[str]) -> str:
    if step["stage"] is None:
        return f"{step['id']}: no longer in the store, so what it was made from is not known"
    answers = f", answers {', '.join(aliases)}" if aliases else ""
    return f"{step['id']}: {step['kind']} of {step['stage']}, {minute(step['created'])}{answers}"


def _of_data(data: DataRow) -> Iterator[str]:
    used = f"{data['rows'] - data['left_out']:,} of {data['rows']:,} rows"
    content = f"sha256 {data['sha256'][:SHOWN]}, {STATES[data['state']]}"
    yield f"    data     {data['role']}: {data['path']}, {used}, {content}"
    votes = data["votes"]
    if votes is None:
        return
    simulated = f", {votes['simulated']:,} of them simulated" if votes["simulated"] else ""
    yield f"    votes    {votes['count']:,}{simulated}"
    yield f"             by {_counted(votes['labelers'])}; guideline {_counted(votes['guidelines'])}"


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in numbers.items())


def _of_vote(traced: Ahead) -> Iterator[str]:
    vote = traced["vote"]
    if vote is None:
        yield "a vote of another store"
    else:
        state = "stands" if vote["stands"] else "withdrawn, corrected, or of an excluded labeler"
        when = f"{minute(vote['created'])}, guideline {vote['guideline']}"
        yield f"{vote['id']}: vote of {vote['labeler']}, {when}, {state}"
        yield f"    prompt   {vote['prompt_id']}, task {vote['task']}"
        yield f"    compared {', '.join(name or 'unknown' for name in vote['compared'])}"
    for one in traced["learned"]:
        how = f"trained on {one['file']}" if one["file"] else f"through {', '.join(one['through'])}"
        answers = f", answers {', '.join(one['aliases'])}" if one["aliases"] else ""
        yield f"{one['id']}: {how}{answers}"
    if not traced["learned"]:
        yield "no checkpoint of the store learned from it"
    for file in traced["not_read"]:
        yield f"not looked into: {file} is changed or missing since a checkpoint was trained on it"
