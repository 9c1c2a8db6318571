"""The mathematics of RLHF.

`losses` (pure functions of tensors), `rollouts`, `episodes`, `ema`, and which rows make a batch (`batches`).
"""
