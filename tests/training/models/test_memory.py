"""What a run takes is known before its first step, and memory that runs out changes no number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.models import forward, loading, memory
from training.stages import sft

unit = pytest.mark.unit
GB = 10**9
EXAMPLES = [
    sft.Example(np.array([0, 3, *range(261, 261 + n), 0]), np.array([0, 0] + [1] * (n + 1)))
    for n in (2, 3, 4, 5, 6, 9, 12)
]


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


@unit
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:123] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
@pytest.mark.parametrize("failures", [1, 2])
def test_memory_that_runs_out_halves_the_passes_and_changes_no_gradient(
    toy_chain: Toy, monkeypatch: pytest.MonkeyPatch, error: Exception, failures: int
) -> None:
    """In the middle of a step, after passes that left gradients behind."""
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    expected = sft.add_gradients(model, EXAMPLES, 64)
    whole = gradient(model)
    model.zero_grad(set_to_none=True)
    body, calls = forward.hidden_states, [0]

    def fails(*arguments: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] in (2, 5)[:failures]:
            raise error
        return body(*arguments)

    monkeypatch.setattr(forward, "hidden_states", fails)
    budget = memory.Budget(64)
    loss = budget.run([model], lambda tokens: sft.add_gradients(model, EXAMPLES, tokens))
    assert budget.tokens == 64 // 2**failures
    assert loss == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient(model), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.integration
def test_a_limit_of_addresses_halves_the_passes_and_changes_no_gradient() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.address_limit", "250"],
        capture_output=True, text=True, env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert 128 <= found["tokens"] < 4096
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-6)
    assert found["difference"] < 1e-6


@unit
def test_other_errors_pass_and_one_row_that_does_not_fit_is_said() -> None:
    def broken(tokens: int) -> None:
        raise RuntimeError("shapes do not match")

    def too_large(tokens: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    budget = memory.Budget(64)
    with pytest.raises(RuntimeError, match="shapes"):
        budget.run([], broken)
    assert budget.tokens == 64
    with pytest.raises(UserError, match="one row at a time: use a smaller --context"):
        budget.run([], too_large)


@unit
def test_a_budget_is_part_of_a_runs_state() -> None:
    budget = memory.Budget(8192)
    budget.load_state_dict(memory.Budget(512).state_dict())
    assert budget == memory.Budget(512)


NEEDS = [memory.Need("gradients and moments", 2 * GB), memory.Need("logits", 0)]
ACTIVATIONS = memory.Activations(GB // 2, 10**6)  # a megabyte per token


@unit
@pytest.mark.parametrize(("width", "tokens"), [(32, 4096), (128, 4096), (192, 1820), (256, 1024), (4096, 1024)])
def test_narrow_models_take_more_tokens_at_once(width: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.hardware, "device", lambda: torch.device("cpu"))
    config = LlamaConfig(hidden_size=width)
    assert memory.usual_tokens(SimpleNamespace(config=config)) == tokens


@unit
def test_a_plan_takes_as_many_tokens_as_fit() -> None:
    def tokens(available: int, longest: int = 500, given: int | None = None) -> int:
        budget, sentence = memory.plan(
            NEEDS, ACTIVATIONS, longest=longest, most=10**6, tokens=given, usual=1024, available=available
        )
        assert f"of {memory.gigabytes(available)} free (2.00 GB gradients and moments, " in sentence
        assert "logits" not in sentence
        return budget.tokens

    assert tokens(100 * GB) == 1024
    assert tokens(6 * GB) == 1024
    assert tokens(100 * GB, given=300) == 300
    assert tokens(int(3.4 * GB)) == 512


@unit
@pytest.mark.parametrize(
    "available, longest, given, fix",
    [
        (3 * GB, 2000, None, "use --context 200, --checkpoint-activations, a smaller model"),
        (2 * GB, 2000, None, ": use --checkpoint-activations, a smaller model"),
        (4 * GB, 500, 4000, "use --tokens-per-pass 1100 or less, or leave it out"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(available: int, longest: int, given: int | None, fix: str) -> None:
    with pytest.raises(UserError, match="does not fit into memory: ") as refused:
        memory.plan(NEEDS, ACTIVATIONS, longest=longest, most=10**6, tokens=given, usual=1024, available=available)
    assert fix in str(refused.value)


@unit
def test_measured_bytes_follow_the_model(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    whole = memory.activations_of(model)
    config = model.config
    # Of a Llama's layer at least: input, normed input, q, k, v, attention, its output, two of width, three inside.
    least = config.num_hidden_layers * (8 * config.hidden_size + 3 * config.intermediate_size) * 4
    assert least < whole.per_token < 4 * least
    memory.checkpoint_activations(model)
    checkpointed = memory.activations_of(model)
    assert checkpointed.per_token < whole.per_token / config.num_hidden_layers + 3 * 4 * config.hidden_size * (
        1 + config.num_hidden_layers
    )
    heads = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    assert memory.cache_per_token(model) == 2 * config.num_hidden_layers * heads * 4


@unit
def test_checkpointed_activations_change_no_gradient(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    sft.add_gradients(model, EXAMPLES, 64)
    plain = gradient(model)
    model.zero_grad()
    memory.checkpoint_activations(model)
    sft.add_gradients(model, EXAMPLES, 64)
    torch.testing.assert_close(gradient(model), plain, atol=1e-7, rtol=1e-5)
