"""API keys in the store."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.names import clean_text
from service.settings import SCOPES
from service.store.models import Key, now
from training.artifacts.errors import UserError

MOST_DAYS = 36_500


def digest(secret: str) -> str:
    """What the store keeps of a secret. Secrets are 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def add_key(session: Session, name: str, scopes: Iterable[str], days: float | None = None) -> tuple[Key, str]:
    """Add an API key. Returns the row and the key itself, which cannot be read again.

    Raises:
        UserError: an unknown scope, or none; a name that is not a line of text; days that no calendar holds.
    """
    name = clean_text(name, "the key's name", 200)
    if days is not None and not 0 < days <= MOST_DAYS:
        raise UserError(f"a key lives more than 0 and at most {MOST_DAYS} days: leave them out for one without an end")
    names = sorted(set(scopes))
    unknown = [scope for scope in names if scope not in SCOPES]
    if unknown or not names:
        raise UserError(f"unknown scope {unknown[0] if unknown else ''!r}: use {', '.join(SCOPES)}")
    secret = f"al-{secrets.token_urlsafe(32)}"
    expires = None if days is None else now() + timedelta(days=days)
    key = Key(name=name, secret_hash=digest(secret), prefix=secret[:9], scopes=names, expires=expires)
    session.add(key)
    session.flush()
    return key, secret


def has_keys(session: Session) -> bool:
    """Whether any key works now."""
    current = session.scalars(select(Key).where(Key.revoked.is_(None)))
    return any(key.expires is None or key.expires > now() for key in current)
