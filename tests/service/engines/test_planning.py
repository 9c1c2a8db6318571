"""Engines share the machine's memory and cores by what their models need; what cannot fit is said with its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import (
    DeepseekV3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from service.engines import planning
from service.engines.planning import GIB, SERVER_BYTES, EngineNeeds, plan, plans_for
from service.settings import Settings
from tests.support import tiny_models
from training.artifacts import machine
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit

# 30 layers x (keys and values) x 3 heads x 64 wide x 4 bytes, as config.json of SmolLM2-135M says
SMOLLM2 = EngineNeeds(
    id="smollm2",
    context=8192,
    shortest=512,
    weight_bytes=134_515_008 * 4,
    cache_bytes=30 * 2 * 3 * 64 * 4,
    work_bytes=4 * (10 * 576 + 3 * 1536),
    logit_bytes=8 * 49152,
)
TINY = EngineNeeds("tiny", 256, 256, 4 * 150_000, 2 * 2 * 32 * 4, 4 * (10 * 64 + 3 * 128), 8 * 600)
# 8.03 billion parameters in float32; 32 layers, 8 heads of 128
LLAMA_8B = EngineNeeds(
    "llama-8b", 131_072, 512, 8_030_261_248 * 4, 32 * 2 * 8 * 128 * 4, 4 * (10 * 4096 + 3 * 14336), 8 * 128_256
)


def holds(needs: EngineNeeds, one: planning.EnginePlan) -> bool:
    """Whether vLLM starts: one request of the context, and the block that it holds back."""
    assert one.cache_bytes is not None
    return one.cache_bytes >= (-(-one.context // 32) + 1) * 32 * needs.cache_bytes


def test_smollm2_gets_its_whole_context_on_a_laptop() -> None:
    (one,) = plan([SMOLLM2], 8 * GIB, cores=2)
    assert (one.context, one.threads) == (8192, 2)
    assert holds(SMOLLM2, one)
    assert one.cache_bytes is not None
    assert one.cache_bytes > 8192 * SMOLLM2.cache_bytes
    assert one.total_bytes <= 0.9 * 8 * GIB


def test_five_tiny_engines_fit_on_24_gib_and_take_no_more_than_they_use() -> None:
    plans = plan([replace(TINY, id=f"tiny-{i}") for i in range(5)], 24 * GIB, cores=2)
    assert [one.id for one in plans] == [f"tiny-{i}" for i in range(5)]
    assert {(one.context, one.threads) for one in plans} == {(256, 1)}
    assert all(holds(TINY, one) for one in plans)
    assert sum(one.total_bytes for one in plans) < 5 * (SERVER_BYTES + 32 * 2**20)


def test_the_context_shrinks_before_an_engine_is_refused() -> None:
    """A context of 131,072 tokens would take 32 GiB of cache alone."""
    (one,) = plan([LLAMA_8B], 48 * GIB, cores=8)
    assert 2048 < one.context < 131_072
    assert one.context % 32 == 0
    assert holds(LLAMA_8B, one)
    assert one.total_bytes <= 0.9 * 48 * GIB
    contexts = [plan([LLAMA_8B], memory * GIB, 8)[0].context for memory in (38, 40, 44, 64, 96, 400)]
    assert contexts == sorted(contexts)
    assert contexts[-1] == 131_072


def test_unlike_engines_share_what_is_left_by_what_they_could_use() -> None:
    plans = plan([SMOLLM2, TINY, replace(SMOLLM2, id="other")], 10 * GIB, cores=16)
    assert [one.threads for one in plans] == [5, 5, 5]
    assert plans[0].cache_bytes == plans[2].cache_bytes
    assert all(holds(needs, one) for needs, one in zip((SMOLLM2, TINY, SMOLLM2), plans, strict=True))
    assert sum(one.total_bytes for one in plans) <= 0.9 * 10 * GIB


@pytest.mark.parametrize("memory", [3, 4, 6, 9, 12, 30, 100])
@pytest.mark.parametrize("engines", [[SMOLLM2], [SMOLLM2, TINY], [TINY] * 4, [SMOLLM2] * 3, [LLAMA_8B, SMOLLM2]])
def test_every_plan_starts_and_stays_within_the_memory(engines: list[EngineNeeds], memory: int) -> None:
    try:
        plans = plan(engines, memory * GIB, cores=4)
    except UserError:
        least = sum(SERVER_BYTES + e.weight_bytes + e.request_bytes(min(512, e.context)) for e in engines)
        assert least > 0.9 * memory * GIB
        return
    assert sum(one.total_bytes for one in plans) <= 0.9 * memory * GIB
    for needs, one in zip(engines, plans, strict=True):
        assert holds(needs, one)
        assert min(512, needs.context) <= one.context <= needs.context


def test_what_does_not_fit_names_numbers_and_the_setting() -> None:
    with pytest.raises(UserError) as error:
        plan([LLAMA_8B, TINY], 24 * GIB, cores=2)
    message = str(error.value)
    assert "llama-8b 31.7 GiB (weights 29.9)" in message
    assert "21.6 of 24.0 GiB free" in message
    assert "ALIGNLOOP_DTYPE=bfloat16" in message


@pytest.mark.parametrize(
    "config, expected",
    [
        (LlamaConfig(num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, hidden_size=64), 3 * 2 * 2 * 8),
        (LlamaConfig(num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, head_dim=32), 3 * 2 * 2 * 32),
        (GPT2Config(n_layer=4, n_head=4, n_embd=64), 4 * 2 * 4 * 16),
        (GPTNeoXConfig(num_hidden_layers=4, num_attention_heads=4, hidden_size=64), 4 * 2 * 4 * 16),
        (MistralConfig(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, hidden_size=64), 2 * 2 * 16),
        # 10 layers with a window and 2 without: vLLM makes groups of 2, so 12; 11 and 2 would be 14
        (Gemma3TextConfig(num_hidden_layers=12, num_key_value_heads=1, head_dim=16), 12 * 2 * 16),
        (Gemma3TextConfig(num_hidden_layers=13, num_key_value_heads=1, head_dim=16), 14 * 2 * 16),
        (DeepseekV3Config(num_hidden_layers=2, kv_lora_rank=32, qk_rope_head_dim=8), 2 * (32 + 8)),
    ],
)  # fmt: skip
def test_cache_bytes_come_from_the_configuration(config: PreTrainedConfig, expected: int) -> None:
    assert planning.cache_bytes_per_token(config, 1) == expected
    assert planning.cache_bytes_per_token(config, 4) == 4 * expected


@pytest.fixture
def policy(tiny_policy: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr(machine, "memory", lambda: 8 * GIB)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    return tiny_policy


def test_needs_are_read_from_the_checkpoint(policy: Checkpoint) -> None:
    needs = planning.needs_of(policy, Settings())
    assert (needs.context, needs.shortest) == (tiny_models.CONTEXT, tiny_models.CONTEXT)
    assert needs.cache_bytes == 2 * 2 * 1 * 32 * 4
    size = (policy.path / "model.safetensors").stat().st_size
    assert needs.weight_bytes == size
    assert planning.needs_of(policy, Settings(dtype="bfloat16")).weight_bytes == size // 2
    assert planning.needs_of(policy, Settings(max_model_len=64)).context == 64


def test_settings_stand_above_the_plan(policy: Checkpoint) -> None:
    (one,) = plans_for([policy], Settings(), on_cpu=True)
    assert (one.context, one.threads) == (256, 6)
    assert plans_for([policy], Settings(), on_cpu=True, among=3)[0].threads == 2
    (one,) = plans_for([policy], Settings(engine_threads=5, max_model_len=128, kv_cache_mib=7), on_cpu=True)
    assert (one.context, one.threads, one.cache_bytes) == (128, 5, 7 * 2**20)
    (one,) = plans_for([policy], Settings(engine_threads=5), on_cpu=False)
    assert (one.context, one.cache_bytes, one.threads) == (256, None, None)


def test_settings_that_cannot_hold_are_refused(policy: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = replace(SMOLLM2, id=policy.id)
    monkeypatch.setattr(planning, "needs_of", lambda checkpoint, settings: needs)
    with pytest.raises(UserError, match="ALIGNLOOP_KV_CACHE_MIB=20 holds less than a request of 512 tokens: set 26"):
        plans_for([policy], Settings(kv_cache_mib=20), on_cpu=True)
    # 256 MiB, which was the fixed size once: the context shrinks to what it holds, 180 of 182
    # blocks
    (one,) = plans_for([policy], Settings(kv_cache_mib=256), on_cpu=True)
    assert one.context == (256 * 2**20 // (32 * needs.cache_bytes) - 2) * 32 == 5760
    assert holds(needs, one)
    with pytest.raises(UserError, match="context of 5760 tokens, less than ALIGNLOOP_MAX_MODEL_LEN=8192"):
        plans_for([policy], Settings(kv_cache_mib=256, max_model_len=8192), on_cpu=True)


def test_memory_that_starting_engines_will_take_is_not_given_twice(policy: Checkpoint) -> None:
    with pytest.raises(UserError, match=f"memory does not hold these engines: .*{policy.id}"):
        plans_for([policy], Settings(), on_cpu=True, taken=int(6.5 * GIB))


def test_a_damaged_configuration_is_one_sentence(policy: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json cannot be used"):
        planning.needs_of(replace(policy, path=tmp_path), Settings())
