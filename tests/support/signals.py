"""Signals of processes that tests start."""

from __future__ import annotations

import signal


def take_ctrl_c() -> None:
    """As `preexec_fn`: also where the tests themselves run in the background, with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
