"""Whether an engine that was ready still works: its server's own /health answers while the engine behind it hangs."""

from __future__ import annotations

import time
from enum import Enum

from service.engines.activity import Activity
from service.engines.process import Engine

FIRST_SECONDS = 0.5  # given to one token: enough for most engines that have nothing else to do
STOPPED_SECONDS = 0.5  # that a stopped process may yet be continued
PROBE_SECONDS = 1.5  # given to another token, while what the engine does is measured
WINDOW_SECONDS = 0.5  # the shortest time to measure in, where a question fails at once
LEAST_SHARE = 0.02  # of a processor: less is what a process does that waits
READING_SHARE = 0.1  # of a processor: less is what a server does that only takes requests


class Sign(Enum):
    """What an engine shows of itself."""

    ANSWERS = "it gives tokens"
    WORKS = "it gives none, but is busy: one step over long prompts takes its time on a CPU"
    SILENT = "neither"


def look(engine: Engine) -> Sign:
    """Ask for one token. An engine with a full queue gives it late: then what counts is whether it gives others, or
    computes at all."""
    if engine.ready(FIRST_SECONDS):
        return Sign.ANSWERS
    before = engine.activity()
    if before is not None and before.stopped:
        time.sleep(STOPPED_SECONDS)
        before = engine.activity()
        if before is not None and before.stopped:
            return Sign.SILENT
    began, tokens = time.monotonic(), engine.tokens()
    if engine.ready(PROBE_SECONDS):
        return Sign.ANSWERS
    time.sleep(max(0.0, WINDOW_SECONDS - (time.monotonic() - began)))
    if tokens is not None and engine.tokens() not in (None, tokens):
        return Sign.ANSWERS
    after, seconds = engine.activity(), time.monotonic() - began
    if before is None or after is None:
        # Elsewhere: where its server answers, more is not to be seen from here.
        return Sign.SILENT if tokens is None else Sign.WORKS
    return Sign.WORKS if works(before, after, seconds, server_answers=tokens is not None) else Sign.SILENT


def works(before: Activity, after: Activity, seconds: float, *, server_answers: bool) -> bool:
    """Whether work explains that no token came: of the processes that compute, or of the server.

    That of a server which answers other questions explains it only where it is much, as when it reads long texts:
    clients who try again keep the server of an engine that hangs a little busy. Nothing explains it where the processes
    that compute are gone.
    """
    if after.cores == 0:
        return False
    if before.runs or after.runs:
        return True
    least = READING_SHARE if server_answers else LEAST_SHARE
    return after.core - before.core > LEAST_SHARE * seconds or after.server - before.server > least * seconds
