"""How an engine of rollouts is started, on a CPU, on a GPU that it shares, and on GPUs of its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from training.rl import engine_settings
from training.rl.engine_settings import EnginePlan

pytestmark = pytest.mark.unit
MODEL = Path("/model")
CPU = EnginePlan("cpu", torch.float32, 100, 8, 10_000_000, 4_000_000)
SHARED = EnginePlan("cuda", torch.bfloat16, 2048, 256, 10 * 10**9, 2 * 10**9, gpu_bytes=80 * 10**9)
APART = EnginePlan("cuda", torch.bfloat16, 2048, 256, 10 * 10**9, 2 * 10**9, gpus=(1, 3))


def test_a_cache_holds_whole_blocks_of_every_sequence() -> None:
    # 100 tokens take four blocks of 32; three sequences and two spare blocks are 14 blocks.
    assert engine_settings.cache_bytes(100, 3, 1000) == 14 * 32 * 1000


@pytest.mark.parametrize("plan", [CPU, SHARED, APART])
def test_every_engine_samples_from_the_policys_own_distribution(plan: EnginePlan) -> None:
    arguments = engine_settings.arguments(plan, MODEL)
    assert arguments["logprobs_mode"] == "processed_logprobs"  # temperature included
    assert arguments["generation_config"] == "vllm"  # not the folder's top-p and the like
    assert arguments["load_format"] == "dummy"  # random until the first sync
    assert arguments["kv_cache_memory_bytes"] == plan.cache_bytes
    assert (arguments["max_model_len"], arguments["max_num_seqs"]) == (plan.context, plan.sequences)


def test_on_a_cpu_prompts_are_taken_in_whole_and_nothing_sleeps() -> None:
    arguments = engine_settings.arguments(CPU, MODEL)
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["max_num_batched_tokens"] >= CPU.context
    assert arguments["dtype"] == "float32"
    assert not CPU.sleeps
    assert "enable_sleep_mode" not in arguments
    variables = engine_settings.environment(CPU, 3)
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "CUDA_VISIBLE_DEVICES" not in variables


def test_on_a_shared_gpu_it_sleeps_and_takes_its_share() -> None:
    arguments = engine_settings.arguments(SHARED, MODEL)
    assert SHARED.sleeps
    assert arguments["enable_sleep_mode"] is True
    assert arguments["gpu_memory_utilization"] == pytest.approx(14.5 / 80, abs=1e-3)
    assert arguments["dtype"] == "bfloat16"
    assert engine_settings.environment(SHARED, 1, {})["CUDA_VISIBLE_DEVICES"] == "0"
    assert engine_settings.environment(SHARED, 1, {"CUDA_VISIBLE_DEVICES": "5,6"})["CUDA_VISIBLE_DEVICES"] == "5"


def test_gpus_of_its_own_are_numbered_among_those_that_the_trainer_sees() -> None:
    arguments = engine_settings.arguments(APART, MODEL)
    assert not APART.sleeps
    assert arguments["tensor_parallel_size"] == 2
    assert "enable_sleep_mode" not in arguments
    assert engine_settings.environment(APART, 1, {})["CUDA_VISIBLE_DEVICES"] == "1,3"
    seen = {"CUDA_VISIBLE_DEVICES": "2,3,6,7"}
    assert engine_settings.environment(APART, 1, seen)["CUDA_VISIBLE_DEVICES"] == "3,7"


def test_the_printed_command_line_is_the_one_that_runs() -> None:
    line = shlex.split(engine_settings.command_line(APART, MODEL, 1, {}))
    module = line.index("-m") + 1
    assert line[module:] == engine_settings.command(APART, MODEL)
    assert json.loads(line[-1]) == engine_settings.arguments(APART, MODEL)
    assert "CUDA_VISIBLE_DEVICES=1,3" in line[1:module]
