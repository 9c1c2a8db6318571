"""The stages of training, one per file, in the order of the paper.

`tokenizer`, `pretrain`, `sft`, `sample`, `reward`, `ppo`; `adopt` gives a model from elsewhere a manifest.
Each has a `Config`, the loop, and `main` for `python -m training STAGE`.
"""
