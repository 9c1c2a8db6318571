"""The release gate's verdict, read from the file that `python -m evals gate --out` or `evals run` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError

FILE = "gate.json"  # of a run's folder: a verdict per candidate


def require_pass(path: Path, checkpoint: str) -> str:
    """The baseline that the gate found `checkpoint` good enough to replace.

    Args:
        path: a verdict, a run's gate.json, or the run's folder.

    Raises:
        UserError: there is no PASS of exactly this checkpoint.
    """
    file = path / FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: run `python -m evals gate CANDIDATE BASELINE --out FILE`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a verdict of the gate ({error}): run `python -m evals gate` again") from None
    verdicts = list(_verdicts(content))
    if not verdicts:
        raise UserError(f"{file} holds no verdict of the gate: give what `python -m evals gate --out` wrote")
    own = [verdict for verdict in verdicts if verdict["checkpoints"][0] == checkpoint]
    if not own:
        others = ", ".join(sorted({str(verdict["checkpoints"][0]) for verdict in verdicts}))
        raise UserError(f"{file} is about {others}, not about {checkpoint}: measure it, then run the gate")
    outcomes = {str(verdict["outcome"]) for verdict in own}
    if outcomes != {"PASS"}:
        raise UserError(f"the gate says {' and '.join(sorted(outcomes))} of {checkpoint}, not PASS ({file})")
    return str(own[0]["checkpoints"][1])


def _verdicts(content: object) -> Iterator[Mapping[str, Any]]:
    """Every verdict of a file: the file is one, or names several by candidate. One that was refused names no
    checkpoints, and is left out."""
    parts = [content, *content.values()] if isinstance(content, dict) else []
    for part in parts:
        if isinstance(part, dict) and "outcome" in part:
            checkpoints = part.get("checkpoints")
            if isinstance(checkpoints, list) and len(checkpoints) == 2:
                yield part
