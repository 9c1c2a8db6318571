"""Tiny random models of several architectures, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from tests.support import tiny_models

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**SIZE, "num_key_value_heads": 1, "head_dim": 16}
CONTEXT = {"max_position_embeddings": 128}
CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {**GROUPED, **CONTEXT, "tie_word_embeddings": False}),
    "llama-tied": (LlamaConfig, {**GROUPED, **CONTEXT, "tie_word_embeddings": True}),
    "gpt-neox": (GPTNeoXConfig, {**SIZE, **CONTEXT, "tie_word_embeddings": False}),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}),
    "qwen2-tied": (Qwen2Config, {**GROUPED, **CONTEXT, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, {**GROUPED, **CONTEXT, "sliding_window": 64}),
    "gemma-tied": (GemmaConfig, {**GROUPED, **CONTEXT}),
}
WEIGHTS = "model.safetensors"


def save(
    folder: Path, name: str, kind: str = "policy", dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any
) -> Path:
    """Save a random model of that architecture with the tiny tokenizer; `settings` go to its configuration."""
    tokenizer = tiny_models.tokenizer()
    cls, sizes = CONFIGS[name]
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    labels = {"num_labels": 1} if kind == "reward" else {}
    config = cls(**{"vocab_size": len(tokenizer), "initializer_range": 0.3, **sizes, **ids, **labels, **settings})
    torch.manual_seed(seed)
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    auto.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> Path:
    """Replace the tensors of a saved model by what `change` makes of them."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(dict(change(tensors)), folder / WEIGHTS, metadata={"format": "pt"})
    return folder
