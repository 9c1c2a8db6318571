"""New models: a small Llama, a scalar head on a policy's body; dropout and frozen parts."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

from training.artifacts.errors import UserError
from training.models.checks import LANGUAGE_HEADS, check_head, check_report
from training.models.hardware import device, multiplies_in_bf16
from training.models.head import head_of
from training.models.weights import stored_dtype

RANDOM = re.compile("drop|jitter")  # in names of numbers that change forward passes in training mode alone


def without_dropout(model: Any) -> Any:
    """Set every dropout to 0, and every noise of a router, so that training and evaluation give the same numbers.

    Some models have modules of dropout, others numbers that they hand to a function, such as OPT's `dropout`.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and RANDOM.search(name):
                setattr(module, name, 0.0)
    return model


def new_llama(
    tokenizer: Any, *, width: int, layers: int, heads: int, feed_forward: int, context: int, std: float, seed: int
) -> Any:
    """A fresh Llama in float32, started so that it soon copies from its context (`_start_near_copying`).

    The output head is untied, as vLLM's weight reload needs on CPU.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        initializer_range=std,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _start_near_copying(LlamaForCausalLM(config)).to(device())


def _start_near_copying(model: Any) -> Any:
    """Let heads attend to like tokens and write what they attend to: the output head starts as a copy of the
    embedding, keys as queries, and the output projection as the transposed value projection.

    Measured at a million parameters, on text whose second half repeats random words: after 300,000 tokens the loss
    is 5.2 instead of 6.4; from a plain start copying had not begun after 3 million (as mimetic initialisation,
    Trockman and Kolter 2023, arXiv 2305.09828, does with the same matrices).
    """
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
    return model


def new_scalar_head(policy_path: str, pad_id: int | None, seed: int) -> Any:
    """The policy's body under a fresh scalar head `score` ~ N(0, 1 / sqrt(width + 1)), dropout off, in float32.

    `problem_type="regression"` makes vLLM serve the raw score: one label gets a sigmoid otherwise. As in
    `loading.load`, `config.dtype` stays the dtype of the policy's files.

    Raises:
        UserError: the policy's body lacks weights, or its architecture has no form with a linear head named `score`.
    """
    config = AutoConfig.from_pretrained(policy_path, trust_remote_code=False)
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise UserError(
            f"{policy_path} is a {config.model_type} model, which has no form with a score: use another model"
        )
    model, report = AutoModelForSequenceClassification.from_pretrained(
        policy_path,
        num_labels=1,
        problem_type="regression",
        pad_token_id=pad_id,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report
    )
    language_head = {key for key in report["unexpected_keys"] if key.startswith(LANGUAGE_HEADS)}
    check_report(report, "policy", policy_path, new={"score.weight"}, unused=language_head)
    check_head(model, policy_path)
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1))
    model.config.dtype = stored_dtype(Path(policy_path), config)
    return without_dropout(model).to(device())


def freeze(model: Any) -> Any:
    """The model without gradients, and half as large where forward passes multiply in bfloat16 (`round_frozen`)."""
    model.requires_grad_(False)
    round_frozen(model)
    return model


def round_frozen(model: Any) -> None:
    """Keep frozen matrices in bfloat16 where forward passes multiply in it.

    There they are rounded once instead of in every pass, with the same results. What is not multiplied so (embeddings,
    norms, the scalar head) stays in float32.
    """
    if not multiplies_in_bf16():
        return
    embeddings = model.get_input_embeddings().weight
    if model.get_output_embeddings() is not None:
        head_of(model)  # it is tried out in full precision, and kept
    for name, module in model.named_modules():
        frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad
        if frozen and module.weight is not embeddings and name != "score":
            module.to(torch.bfloat16)


def freeze_embeddings(model: Any) -> None:
    """Freeze the input embeddings and a language model's output head.

    Fine-tuning on little data shifts only the words that it contains. With frozen embeddings, seen and unseen words
    stay comparable, and what is learned transfers.
    """
    model.get_input_embeddings().requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None:
        head.requires_grad_(False)
