"""A program that trains one step with all addresses it wants, and again under a limit of them: JSON with tokens per
pass, losses, and the greatest difference of the gradients relative to the largest one.

MALLOC_ARENA_MAX=1 python -m tests.support.address_limit MEGABYTES
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.data.items import Example
from training.models import hardware, memory
from training.stages import sft

TOKENS = 4096  # in one pass, of which each keeps about 130 kB for its gradient


def main(megabytes: str) -> None:
    hardware.set_dtype("float32")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=600, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=256,
        )
    )  # fmt: skip
    row = np.arange(128) % 600
    rows = [Example(np.roll(row, shift), np.arange(128) > 0) for shift in range(TOKENS // len(row))]
    sft.add_gradients(model, rows[:1], TOKENS)  # threads, and what they hold, are there now
    model.zero_grad(set_to_none=True)

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(megabytes) * 10**6, most))
    budget = memory.Budget(TOKENS)
    limited = budget.run([model], lambda tokens: sft.add_gradients(model, rows, tokens))
    gradient = gradient_of(model)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    model.zero_grad(set_to_none=True)
    free = sft.add_gradients(model, rows, TOKENS)
    difference = (gradient - gradient_of(model)).abs().max() / gradient.abs().max()
    print(json.dumps({"tokens": budget.tokens, "losses": [limited, free], "difference": float(difference)}))


def gradient_of(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


if __name__ == "__main__":
    main(*sys.argv[1:])
