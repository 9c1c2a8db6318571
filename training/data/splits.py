"""Which rows train and which are held out: by user, never the same content in both; and how often a source is used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from training.artifacts.errors import UserError
from training.data.items import Rows
from training.data.ragged import Ragged
from training.runtime.runs import rng_for


class Split(NamedTuple):
    """Training and held-out rows, and what the split went by: `user`, `prompt`, `document` or `file`."""

    training: Rows[Any]
    held_out: Rows[Any]
    by: str


def hold_out(rows: Rows[Any], share: float) -> Split:
    """Hold out a share of the users, so that no user is on both sides.

    Users are assigned by a hash, so a user is on the same side in every run and every file. Where fewer than 1 / share
    users are known (or all would land on one side), a share of the prompts is held out instead, at least one.

    Raises:
        UserError: there is only one prompt.
    """
    known = ~np.isnan(rows.users)
    held_out = np.where(known, rows.users, rows.prompts) < share
    few_users = known.any() and len(np.unique(rows.users[known])) < 1 / share
    if not few_users and held_out.any() and not held_out.all():
        return _split(rows, held_out, "user" if known.any() else "prompt")
    prompts = np.unique(rows.prompts)
    if len(prompts) < 2:
        raise UserError(f"{rows.usage.names} has a single usable prompt, which cannot be split: give --validation FILE")
    first_of_training = prompts[min(len(prompts) - 1, max(1, round(share * len(prompts))))]
    return _split(rows, rows.prompts < first_of_training, "prompt")


def hold_out_documents(rows: Rows[Any], every: int) -> Split:
    """Hold out one document in `every`, beginning with the second.

    Raises:
        UserError: there is only one document.
    """
    if len(rows) < 2:
        raise UserError(f"{rows.usage.names} has a single document, which cannot be split: give --validation FILE")
    return _split(rows, np.arange(len(rows)) % every == 1, "document")


def against(training: Rows[Any], held_out: Rows[Any]) -> Split:
    """Training rows and the held-out rows of another source; those that are training rows too are left out.

    Equality is that of the rendered rows, whatever their files, formats and order. It costs 8 bytes per row and a
    sort of both sides.

    Raises:
        UserError: nothing is left.
    """
    rest = held_out.without(np.isin(held_out.contents, training.contents), "it is in the training data too")
    if not len(rest):
        raise UserError(
            f"every usable row of {held_out.usage.names} is in the training data too, so nothing is held out: "
            "give other rows with --validation, or leave it out to hold some of the data out"
        )
    return Split(training, rest, "file")


def weighted(rows: Rows[Any], weights: tuple[float, ...], seed: int) -> Rows[Any]:
    """Each source's rows as often as its weight says: 2 takes each row twice, 0.5 a random half, at least one."""
    if all(weight == 1 for weight in weights):
        return rows
    numbers: list[int] = []
    for source, weight in enumerate(weights):
        own = np.flatnonzero(rows.sources == source).tolist()
        whole, rest = divmod(weight, 1)
        part = round(rest * len(own)) or int(not whole and bool(own))
        numbers += own * int(whole) + rng_for(seed, "weight", source).sample(own, part)
    return rows.take(np.array(sorted(numbers), dtype=np.int64))


def split_documents(rows: Rows[Ragged], context: int) -> Rows[Ragged]:
    """Documents cut into rows of at most `context` tokens, which is noted."""
    long = int((rows.items.lengths > context).sum())
    noted = Counter({f"split, as it is longer than the context of {context:,} tokens": long}) if long else Counter()
    return replace(rows, items=rows.items.cut(context), usage=rows.usage.noting(noted))


def _split(rows: Rows[Any], held_out: np.ndarray, by: str) -> Split:
    return Split(rows.take(np.flatnonzero(~held_out)), rows.take(np.flatnonzero(held_out)), by)
