"""The mathematics of RLHF.

`losses` (pure functions of tensors), `rollouts`, `episodes`, `updates`, `scalars`, `ema`, and which rows make a batch
(`batches`).
"""
