"""Where promotions and rollbacks take effect: a proven target serves, one that nobody can serve is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy.orm import Session

from service import aliases
from service.engines import table
from service.engines.slots import Slot
from service.engines.wanted import Target

SETTLE_SECONDS = 5.0  # within these every living supervisor has a row of a new target


def settle(
    session: Session, supervisor: str, targets: Iterable[Target], slots: Iterable[Slot], ages: Mapping[Target, float]
) -> list[str]:
    """Let each pending target serve whose engine is ready here, and take back those that no supervisor can serve.

    A slot is ready only after its conformance check. Every supervisor does this for its own engines; compare-and-swap
    lets one of them win.

    Args:
        ages: seconds since this supervisor first saw the target.

    Returns:
        A sentence per change.
    """
    sentences = []
    own = list(slots)
    for target in targets:
        if not target.pending:
            continue
        mine = [slot for slot in own if slot.id == target.checkpoint]
        if any(slot.state == "ready" and not slot.leaving for slot in mine):
            if aliases.serve(session, target.alias, target.version, supervisor):
                sentences.append(f"{target.alias} is answered by {target.checkpoint}")
        elif mine and all(slot.given_up for slot in mine) and ages[target] >= SETTLE_SECONDS:
            if not _hopeless_elsewhere(session, supervisor, mine[0]):
                continue
            reason = mine[0].detail or "its engine failed"
            sentence = aliases.take_back(session, target.alias, target.version, reason, supervisor)
            sentences += [sentence] if sentence else []
    return sentences


def _hopeless_elsewhere(session: Session, supervisor: str, slot: Slot) -> bool:
    """Whether every other living supervisor has given the slot's checkpoint up too. Those that serve nothing but the
    other kind of models may be for that kind alone (`engine_kind`): nobody waits for them."""
    rows = table.others(session, supervisor)
    gave_up = {row.supervisor for row in rows if row.checkpoint == slot.id and row.given_up}
    tries = {row.supervisor for row in rows if row.checkpoint == slot.id and not row.given_up}
    may_try = {row.supervisor for row in rows if not slot.kind or row.kind in ("", slot.kind)}
    return not tries and gave_up == may_try
