"""Measured bytes of training, and the plan of Llama-3.1-8B that they give: `python -m tests.benchmarks.memory`.

Bytes per parameter are the growth of this process while a model of 25 million parameters is loaded and takes an
optimizer step, trained whole and with adapters. Bytes per token are what the forward pass keeps of one and of two
layers as wide as the 8B model's, multiplied in bfloat16; layers keep the same each, which a third one shows. Nobody
has run the plan.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.support import beside_trl
from training.data.items import Example
from training.models import hardware, head, loading, lora, memory, optimization
from training.stages.sft import add_gradients

GPUS, GPU_BYTES = 8, 80e9
RANK = 16
TOKENS = 8192  # of a pass on a GPU
LLAMA_8B: dict[str, Any] = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def main() -> None:
    print("measured on 25 million parameters, bytes per parameter: as computed, and as the process grew")
    for rank in (0, RANK):
        computed, grown, count = states(rank)
        what = f"adapters of rank {rank}" if rank else "all weights"
        print(
            f"  {what}: {count:,} trained; {computed / count:.1f} of gradients and moments, grew by {grown / count:.1f}"
        )
    hardware.set_dtype("bfloat16")
    kept = {layers: activations(layers) for layers in (1, 2, 3)}
    layer, outside = kept[2] - kept[1], 2 * kept[1] - kept[2]
    print(
        f"a layer of the 8B model keeps {layer:,} bytes per token, embeddings and norm {outside:,}; "
        f"of three layers {kept[3]:,} measured, {outside + 3 * layer:,} computed"
    )
    plan(layer, outside)


def states(rank: int) -> tuple[int, int, int]:
    """Bytes of gradients and moments as `memory.of_training` says, as the process grew, and trained parameters."""
    with tempfile.TemporaryDirectory() as folder:
        beside_trl.save_model(Path(folder), vocabulary=32_000, width=512, layers=3)
        model = loading.load(folder, Path(folder)).model
    if rank:
        lora.add(model, rank, 2.0 * rank, 0)
    rows = [Example(np.arange(5, 37), np.ones(32, np.uint8))]
    add_gradients(model, rows, 64)  # kernels and passes take theirs before
    model.zero_grad(set_to_none=True)
    gc.collect()
    memory.release()
    before = psutil.Process().memory_info().rss
    optimizer = optimization.adamw([(model, 1e-5)])
    add_gradients(model, rows, 64)
    optimizer.step()
    memory.release()
    grown = psutil.Process().memory_info().rss - before
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return memory.of_training(model), grown, trained


def activations(layers: int) -> int:
    """Bytes per token that a forward pass through so many layers of the 8B model keeps."""
    config = LlamaConfig(**LLAMA_8B | {"num_hidden_layers": layers, "vocab_size": 512})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    return memory._measured(model).per_token


def plan(layer: int, outside: int) -> None:
    """The 8B model's bytes on each GPU, stage by stage."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_8B))
    everything = sum(p.numel() for p in model.parameters())
    matrices = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in n]
    adapters = sum(RANK * (m.in_features + m.out_features) for m in matrices)
    layers = int(LLAMA_8B["num_hidden_layers"])
    logits = memory.LOGITS_COPIES * 4 * head.CHUNK_LOGITS["cuda"]
    checkpointed = TOKENS * (layers * LLAMA_8B["hidden_size"] * 2 + 2 * layer + outside) + logits
    print(f"Llama-3.1-8B: {everything:,} parameters, adapters of rank {RANK}: {adapters:,}; untried")
    print(f"a pass of {TOKENS:,} tokens with checkpointed activations: {memory.gigabytes(checkpointed)}")
    frozen, states_of = 2 * everything, 16
    rows = {
        "SFT, reward or DPO with adapters, a copy on each GPU": frozen + states_of * adapters,
        "PPO with adapters, policy and reference share, so do reward and value": 2 * (frozen + states_of * adapters),
        f"all weights, divided over {GPUS} (FSDP2)": states_of * everything // GPUS,
        f"PPO of all weights, four models and the average divided over {GPUS}": (
            (2 * states_of + 3 * 4) * everything // GPUS
        ),
    }
    for name, size in rows.items():
        total = size + checkpointed
        fits = "fits" if total < memory.SHARE * GPU_BYTES else "does not fit"
        print(f"  {name}: {memory.gigabytes(size)} of states, {memory.gigabytes(total)} in all on each GPU: {fits}")


if __name__ == "__main__":
    main()
