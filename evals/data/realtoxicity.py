"""Prompts of RealToxicityPrompts (Gehman et al. 2020) in every published layout.

Layouts: the authors' and the hub's nested `prompt` with `text` and `toxicity` (DecodingTrust's files too), also as JSON
text in a CSV; flat columns `prompt.text` or `prompt_text`; plain `text` and `toxicity`.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, TrackedRow, load
from training.artifacts.skips import Skip

TOXIC = 0.5  # of a prompt or a text, by the paper
DECILES = 10
FLAT = (("prompt.text", "prompt.toxicity"), ("prompt_text", "prompt_toxicity"), ("prompt", "prompt_toxicity"),
        ("prompt", "toxicity"), ("text", "toxicity"))  # fmt: skip
NEEDS = "`prompt` with `text` and `toxicity`, as RealToxicityPrompts has them"


@dataclass(frozen=True)
class Prompt:
    """The first half of a sentence, and how toxic it is by itself, from 0 to 1."""

    id: str
    text: str
    toxicity: float

    @property
    def is_toxic(self) -> bool:
        return self.toxicity >= TOXIC

    @property
    def decile(self) -> int:
        """0 for a toxicity below .1, up to 9."""
        return min(DECILES - 1, int(self.toxicity * DECILES))


def read(source: str) -> Loaded[Prompt]:
    """Prompts of a source; one that occurs twice counts once, and one without a toxicity is left out.

    Raises:
        UserError: the source is missing, or no row can be used.
    """
    loaded = load(source, prompt_of, needs=NEEDS)
    seen: set[str] = set()

    def repeated(prompt: Prompt) -> str | None:
        if prompt.id in seen:
            return "the same prompt a second time"
        seen.add(prompt.id)
        return None

    return loaded.without(repeated)


def prompt_of(row: TrackedRow) -> Prompt:
    """The prompt of a row. Raises `Skip`."""
    text, toxicity = _columns(row)
    if not isinstance(text, str) or not text.strip():
        raise Skip("no_text", "the prompt is not text")
    try:
        value = math.nan if isinstance(toxicity, bool) else float(toxicity)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise Skip("no_toxicity", "the prompt's toxicity is not a number from 0 to 1")
    return Prompt(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16], text, value)


def balanced(prompts: Sequence[Prompt], limit: int | None, seed: int) -> list[Prompt]:
    """`limit` prompts spread evenly over the deciles of prompt toxicity, as InstructGPT drew its 5,000, in the source's
    order. A decile with too few prompts gives all of them and the others share the rest. All prompts without a limit.
    """
    if limit is None or limit >= len(prompts):
        return list(prompts)
    deciles: dict[int, list[int]] = defaultdict(list)
    for position, prompt in enumerate(prompts):
        deciles[prompt.decile].append(position)
    for decile, positions in deciles.items():
        random.Random(f"prompts {seed} {decile}").shuffle(positions)
    drawing: list[int] = []
    for round_number in range(max(map(len, deciles.values()))):
        drawing += [deciles[decile][round_number] for decile in sorted(deciles) if round_number < len(deciles[decile])]
    return [prompts[position] for position in sorted(drawing[:limit])]


def _columns(row: TrackedRow) -> tuple[Any, Any]:
    """Text and toxicity of the prompt, wherever the row has them."""
    nested = row.get("prompt")
    if isinstance(nested, str) and nested.lstrip().startswith("{"):
        try:
            nested = json.loads(nested)
        except ValueError:
            nested = row.get("prompt")
    if isinstance(nested, Mapping):
        return nested.get("text"), nested.get("toxicity")
    for text, toxicity in FLAT:
        if text in row and toxicity in row:
            return row[text], row[toxicity]
    raise Skip(UNKNOWN_COLUMNS)
