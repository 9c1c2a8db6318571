"""`python -m service labelers ...`."""

from __future__ import annotations

import argparse

from service.administration import labelers
from service.console import actor, minute, open_store, print_table, say
from service.settings import Settings


def add_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the sign-in token, and nothing else, on standard output."""
    with open_store(settings).session() as session:
        row, token = labelers.add(session, actor(), parsed.name, parsed.group)
    say(f"sign-in token of {row['name']} ({row['pseudonym']}); it is not shown again:")
    print(token)


def reissue_token(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the new sign-in token, and nothing else, on standard output."""
    with open_store(settings).session() as session:
        row, token = labelers.reissue(session, actor(), parsed.labeler)
    say(f"new sign-in token of {row['name']} ({row['pseudonym']}); the old one does not work any more:")
    print(token)


def list_labelers(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        rows = [
            (
                row["name"], row["pseudonym"], row["group"] or "", minute(row["created"]), minute(row["disabled"]),
                minute(row["excluded"]), str(row["answered"]), str(row["revised"]), str(row["withdrawn"]),
            )
            for row in labelers.listed(session)
        ]  # fmt: skip
    columns = ("name", "pseudonym", "group", "added", "disabled", "excluded", "answered", "changed", "withdrawn")
    print_table(columns, rows)


def disable_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        row = labelers.disable(session, actor(), parsed.labeler)
    say(f"{row['name']} cannot sign in any more")


def enable_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        row = labelers.enable(session, actor(), parsed.labeler)
    say(f"{row['name']} can sign in again")


def exclude_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        row = labelers.exclude(session, actor(), parsed.labeler)
    say(f"the answers of {row['name']} ({row['pseudonym']}) are left out of results and exports")


def include_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        row = labelers.include(session, actor(), parsed.labeler)
    say(f"the answers of {row['name']} ({row['pseudonym']}) count again")
