"""`python -m service pool ...`."""

from __future__ import annotations

import argparse

from service.administration import pool
from service.console import actor, minute, open_store, print_table, say
from service.settings import Settings


def list_pool(settings: Settings, parsed: argparse.Namespace) -> None:
    """Numbers on standard error, prompts out of use on standard output."""
    with open_store(settings).session() as session:
        summary = pool.summary(session)
        data = pool.out_of_use(session, parsed.checkpoint, parsed.limit)
    say(f"{summary['in_use']} prompts in use, {summary['answered']} of them answered; {summary['retired']} retired")
    for checkpoint, count in summary["set_aside"].items():
        say(f"{count} set aside for {checkpoint}")
    rows = [(row.prompt, row.checkpoint or "everybody", minute(row.time), row.reason, row.text) for row in data]
    print_table(("prompt", "out of use for", "since", "reason", "text"), rows)


def restore(settings: Settings, parsed: argparse.Namespace) -> None:
    count = pool.restore(open_store(settings), actor(), parsed.prompts or None, parsed.checkpoint)
    say(f"{count} prompts are given out again")


def retire(settings: Settings, parsed: argparse.Namespace) -> None:
    count = pool.retire(open_store(settings), actor(), parsed.prompts, parsed.reason)
    say(f"{count} prompts are retired")
