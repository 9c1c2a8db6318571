"""Logs of vLLM's servers: one file per start, the newest few of each checkpoint, and what they say of a failure."""

from __future__ import annotations

import glob
import re
import secrets
from pathlib import Path

from training.artifacts.files import make_folder

FILES_PER_CHECKPOINT = 5  # files per checkpoint
END_BYTES = 2**18  # of a log, where the cause of a failure stands
# How a log names the cause of a failure, and what only repeats that there was one.
# pydantic says on the line below what is wrong.
CAUSE = re.compile(r"^(?!.*(?:WARNING|INFO)).*?\b(\w*(?:Error|Exception): .+(?:\n.*\bValue error, .+)?)$", re.M)
PREFIX = re.compile(r"\(\w+ pid=\d+\)")  # of vLLM's processes
REPEATS = ("EngineDeadError", "Engine core initialization failed")


def new(folder: Path, checkpoint: str) -> Path:
    """A file for the log of one start; of earlier starts of the checkpoint the newest are left."""
    make_folder(folder)
    earlier = sorted(folder.glob(f"engine-{glob.escape(checkpoint)}-????.log"), key=_changed)
    for file in earlier[: max(0, len(earlier) - FILES_PER_CHECKPOINT + 1)]:
        file.unlink(missing_ok=True)
    return folder / f"engine-{checkpoint}-{secrets.token_hex(2)}.log"


def cause(log: Path) -> str:
    """The most telling line of a log."""
    text = _end(log)
    causes = [cause for cause in CAUSE.findall(text) if not any(word in cause for word in REPEATS)]
    if causes:
        return " ".join(PREFIX.sub("", causes[-1]).split())[:300]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it wrote nothing"


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another supervisor has just deleted it
        return 0.0


def _end(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - END_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
