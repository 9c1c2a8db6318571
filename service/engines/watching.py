"""Whether an engine that was ready still works: its server's own /health answers while the engine behind it hangs."""

from __future__ import annotations

import time
from enum import Enum

from service.engines.process import Engine

PROBE_SECONDS = 2.0  # given to one token of an engine that has nothing else to do
WINDOW_SECONDS = 0.5  # between two looks at what it has done
LEAST_SHARE = 0.02  # of a processor: less is what a server does that waits


class Sign(Enum):
    """What an engine shows of itself."""

    ANSWERS = "it gives tokens"
    WORKS = "it gives none, but is busy: one step over long prompts takes its time on a CPU"
    SILENT = "neither"


def look(engine: Engine) -> Sign:
    """Ask for one token. An engine with a full queue gives it late: then what counts is whether it gives others, or
    computes at all."""
    if engine.ready(PROBE_SECONDS):
        return Sign.ANSWERS
    tokens, used = engine.tokens(), engine.cpu_seconds()
    if tokens is None and used is None:
        return Sign.SILENT  # a server elsewhere that does not answer
    time.sleep(WINDOW_SECONDS)
    if tokens is not None and engine.tokens() not in (None, tokens):
        return Sign.ANSWERS
    if used is None:
        return Sign.WORKS  # elsewhere: its server answers, and more is not to be seen from here
    share = ((engine.cpu_seconds() or 0.0) - used) / max(WINDOW_SECONDS, 1e-3)
    return Sign.WORKS if share > LEAST_SHARE else Sign.SILENT
