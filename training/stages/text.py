"""Pretraining text beside other data: in fine-tuning's steps, and in those of PPO-ptx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.artifacts.rendering import Renderer
from training.data import reading, rendering, splits
from training.data.documents import document_marks
from training.data.ragged import Ragged
from training.data.usage import Usage
from training.runtime import runs
from training.stages import limits


def load(
    home: Path, sources: Sequence[str], renderer: Renderer, context: int, needed: int, seed: int
) -> tuple[Ragged, list[Usage]]:
    """As many documents as a run uses, drawn at random, those longer than the context split; says what is used.

    Args:
        needed: rows that the run uses; none for 0, whatever the sources, which is said.
    """
    if not needed:
        if sources:
            names = " and ".join(sources)
            runs.CONSOLE.print(
                f"pretraining: {names} is not used: its share of the steps is 0", markup=False, highlight=False
            )
        return Ragged(np.empty(0, np.int32), np.empty(0, np.int32)), []
    selection = reading.select(reading.DOCUMENTS, sources, limit=needed, seed=seed)
    marks = document_marks(renderer.tokenizer, renderer.stop_ids)
    rows = rendering.documents(home, selection, renderer.tokenizer, marks, renderer.size)
    rows = splits.split_documents(splits.weighted(rows, selection.weights, seed), context)
    limits.report(rows.usage)
    return rows.items, [rows.usage]
