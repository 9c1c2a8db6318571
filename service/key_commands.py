"""`python -m service keys ...`."""

from __future__ import annotations

import argparse

from service.administration import keys
from service.console import actor, minute, open_store, print_table, say
from service.settings import Settings


def add_key(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the key, and nothing else, on standard output."""
    with open_store(settings).session() as session:
        row, secret = keys.add(session, actor(), parsed.name, parsed.scopes, parsed.days)
    say(f"key of {row['name']} ({', '.join(row['scopes'])}); it is not shown again:")
    print(secret)


def list_keys(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        rows = [
            (
                k["id"],
                k["name"],
                f"{k['prefix']}…",
                " ".join(k["scopes"]),
                *(minute(k[n]) for n in ("expires", "revoked")),
            )
            for k in keys.listed(session)
        ]
    print_table(("id", "name", "key", "scopes", "expires", "revoked"), rows)


def revoke_key(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        row = keys.revoke(session, actor(), parsed.key)
    say(f"the key of {row['name']} ({row['prefix']}…) is revoked")
