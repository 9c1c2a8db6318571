"""Where a reward model's score is read: one rule for training, probes and serving."""

from __future__ import annotations

from collections.abc import Sequence


def scored_part(ids: Sequence[int], pad_id: int | None) -> list[int]:
    """The token ids up to the one whose score is the row's: the last that is not padding, as transformers' classifiers
    take it. A causal model sees nothing behind it.

    This matters where a reward model's padding token also ends a turn (pad = eos): its score is then read before the
    end. Engines read the score at the last token that they are given, so they are given this part.
    """
    end = len(ids)
    while pad_id is not None and end > 1 and ids[end - 1] == pad_id:
        end -= 1
    return list(ids[:end])
