"""The chat templates that the tests know, by what the renderer sees in them."""

from __future__ import annotations

from docs.tables import table
from tests.support.families import FAMILIES, Family, generation_eos, tokenizer_of
from training.artifacts.conversations import DROPS, Refusal
from training.artifacts.rendering import Renderer

TALK = [
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Still a cat."},
]


def families() -> str:
    rows = [(name, *_seen(family), family.source.partition(",")[0]) for name, family in FAMILIES.items()]
    return table(("family", "a turn ends with", "system turns", "learned of a talk", "checked against"), rows)


def _seen(family: Family) -> tuple[str, str, str]:
    """How the turns of a family end, what becomes of system turns, and which answers are learned."""
    tokenizer = tokenizer_of(family)
    renderer = Renderer(tokenizer, stop_ids=generation_eos(family, tokenizer))
    ending = renderer.template.ending
    end = "nothing" if ending.id is None else f"`{tokenizer.convert_ids_to_tokens(ending.id)}`"
    refusal = renderer.template.system_role
    system = (
        "taken" if refusal is None else "left out in silence, so refused here" if refusal.detail == DROPS else "refused"
    )
    (row,) = renderer.render([TALK], learn=True)
    learned = "nothing" if isinstance(row, Refusal) else "the last answer" if row.context_turns else "every answer"
    return end + ("" if ending.written else ", added by us"), system, learned
