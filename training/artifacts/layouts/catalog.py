"""All layouts that are recognised, in the order in which rows are tried."""

from __future__ import annotations

from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.layouts.columns import Layout

LAYOUTS: tuple[Layout, ...] = (
    *demonstrations.LAYOUTS,
    *comparisons.LAYOUTS,
    *prompts.LAYOUTS,
    *pretraining.LAYOUTS,
)
