"""Responses that share their prompt's pass: only where that is less work, and where no layer has a shorter window."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from training.models import forward, shared_passes

pytestmark = pytest.mark.unit
SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128, "initializer_range": 0.5,
    "pad_token_id": 0, "num_labels": 1,
}  # fmt: skip
WINDOWS: dict[str, tuple[PreTrainedConfig, int | None]] = {
    "llama": (LlamaConfig(**SIZES), None),
    "mistral": (MistralConfig(**SIZES, sliding_window=12), 12),
    "qwen2 with windows": (
        Qwen2Config(**SIZES, sliding_window=12, use_sliding_window=True, max_window_layers=1), 12
    ),
    "qwen2 without": (Qwen2Config(**SIZES, sliding_window=12, use_sliding_window=False), None),
    "gemma2": (Gemma2Config(**SIZES, sliding_window=12), 12),
    "gemma3": (Gemma3TextConfig(**SIZES, sliding_window=12), 12),
}  # fmt: skip


def model_of(config: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        model.score.weight.normal_()
    return model


def rankings(prompt: int, k: int, response: int) -> list[list[list[int]]]:
    rng = random.Random(0)

    def words(count: int) -> list[int]:
        return [rng.randrange(1, 50) for _ in range(count)]

    return [[start + words(response) for _ in range(k)] for start in (words(prompt), words(prompt))]


def passes(model: Any, rows: list[list[list[int]]]) -> tuple[torch.Tensor, int]:
    """Scores, and the rows of the only pass through the body."""
    sizes = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        scores = shared_passes.ranking_scores(model, rows)
    hook.remove()
    (size,) = sizes
    return scores, size


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("prompt", [5, 30])
def test_windows_see_what_they_see_in_serving(name: str, prompt: int) -> None:
    config, window = WINDOWS[name]
    model = model_of(config)
    rows = rankings(prompt, 3, 4)
    scores, size = passes(model, rows)
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row])).logits[0] for one in rows for row in one])
    assert alone.std() > 0.1
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=1e-5)
    assert shared_passes.shortest_window(model) == window
    assert size == (6 if window is not None and prompt + 4 > window else 2)


def test_long_responses_to_short_prompts_go_alone() -> None:
    """A mask over prompt and nine responses of 100 tokens has fifty times the entries of nine rows' own."""
    model = model_of(LlamaConfig(**SIZES))
    assert passes(model, rankings(20, 9, 3))[1] == 2
    assert passes(model, rankings(4, 9, 100))[1] == 18
    same = rankings(4, 9, 100)
    flat = [row for rows in same for row in rows]
    torch.testing.assert_close(shared_passes.ranking_scores(model, same), forward.scores_of(model, flat))


@pytest.mark.parametrize("alibi", [True, False])
def test_positions_that_are_read_off_the_mask_of_tokens_need_that_mask(alibi: bool) -> None:
    config = FalconConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, alibi=alibi, pad_token_id=0,
        num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    model, rows = model_of(config), rankings(30, 3, 4)
    scores, size = passes(model, rows)
    assert size == (6 if alibi else 2)
    flat = [row for of in rows for row in of]
    torch.testing.assert_close(scores, forward.scores_of(model, flat).detach(), atol=1e-5, rtol=1e-5)


def test_the_mask_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(LlamaConfig(**SIZES))
    rows = rankings(20, 9, 3)
    monkeypatch.setattr(shared_passes, "SHARED_TOKENS", 46)
    assert passes(model, rows)[1] == 18
    monkeypatch.setattr(shared_passes, "SHARED_TOKENS", 47)
    assert passes(model, rows)[1] == 2


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gemma3"])
@pytest.mark.parametrize("lengths", [(4, 4, 4), (1, 7, 2), (1, 1, 9, 1)])
def test_log_probabilities_of_answers_and_their_gradients_are_those_of_rows_by_themselves(
    name: str, lengths: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(WINDOWS[name][0], attn_implementation="sdpa").eval()
    rng = random.Random(1)
    prompts = [[rng.randrange(1, 50) for _ in range(count)] for count in (30, 1)]
    # Answers that begin alike: the prompt is what the caller says it is.
    responses = [[[7] + [rng.randrange(1, 50) for _ in range(count - 1)] for count in lengths] for _ in prompts]
    apart = forward.response_logprobs(
        model, [p for p in prompts for _ in lengths], [one for of in responses for one in of]
    ).sum(dim=1)
    sums = shared_passes.ranking_logprobs(model, prompts, responses)
    torch.testing.assert_close(sums, apart, atol=1e-4, rtol=1e-5)
    weights = torch.arange(1.0, len(apart) + 1)
    one, two = (torch.autograd.grad((of * weights).sum(), list(model.parameters())) for of in (sums, apart))
    for gradient, expected in zip(one, two, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-4)
