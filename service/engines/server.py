"""vLLM's server on a CPU, started in half the time: the process that computes is a copy of the one that answers.

vLLM starts that process anew on a CPU, for the sake of processes that bind their threads to cores of their own; it
imports everything a second time, twenty seconds on a slow core. Engines here have one process that computes, and it
binds to no core (`environment.own`). For the sake of GPUs, which the first process must not touch, vLLM also looks
at a model's class in a third one, the first time; here that is done in place.

What log-probabilities of a prompt are not needed for is not computed either: see `score_from`. Nor is a vocabulary
sorted to cut its tail off: see `top_p_by_refusal`.

A script, run with `python -P`: modules of this folder must not stand in for others of the same name.
"""

from __future__ import annotations

import os
import runpy
from typing import Any

import torch
from vllm.config.model import PROCESSED_LOGPROBS_MODES
from vllm.model_executor.models import registry
from vllm.platforms.cpu import CpuPlatform
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.ops import topk_topp_sampler
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

SCORE_FROM = "score_from"  # as in `service.likelihoods`, which this script cannot import
SERVER = "vllm.entrypoints.openai.api_server"


def fork() -> None:
    """Let vLLM fork, as it does by default beside an untouched GPU."""
    check = CpuPlatform.check_and_update_config

    def check_and_fork(cls: type, config: Any) -> None:
        check(config)  # sets the variable to `spawn`
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(check_and_fork)
    registry._run_in_subprocess = lambda inspect: inspect()


def score_from() -> None:
    """Leave out a prompt's log-probabilities before the position `score_from` of a request's `extra_args`.

    vLLM computes the logits of every position of a prompt whose log-probabilities are requested; for a small model they
    are a fifth of the work. Here a prompt that was taken in whole looks to vLLM as if it had begun at the position
    before. What is left out, or was read from the cache, has the id -1 and rank 0 instead of whatever was in memory.
    """
    compute = CPUModelRunner._get_prompt_logprobs_dict

    def compute_later(self: Any, hidden_states: torch.Tensor, scheduled: dict[str, int]) -> Any:
        scheduled = dict(scheduled)
        moved: list[tuple[Any, int, int]] = []
        for name in self.num_prompt_logprobs:
            request = self.requests[name]
            first = ((request.sampling_params and request.sampling_params.extra_args) or {}).get(SCORE_FROM, 0)
            # The last position of a prompt stays: without it vLLM would wait for more of the prompt.
            begin = min(int(first) - 1, request.num_prompt_tokens - 1)
            distance = begin - request.num_computed_tokens
            if name in scheduled and 0 < distance < scheduled[name]:
                moved.append((request, self.input_batch.req_id_to_index[name], distance))
                scheduled[name] -= distance
        try:
            for request, place, distance in moved:
                request.num_computed_tokens += distance
                self.query_start_loc.np[place] += distance
            return compute(self, hidden_states, scheduled)
        finally:
            for request, place, distance in moved:
                request.num_computed_tokens -= distance
                self.query_start_loc.np[place] -= distance

    def unwritten(positions: int, per_position: int) -> LogprobsTensors:
        return LogprobsTensors(
            logprob_token_ids=torch.full((positions, per_position), -1, dtype=torch.int32),
            logprobs=torch.zeros((positions, per_position)),
            selected_token_ranks=torch.zeros(positions, dtype=torch.int32),
        )

    CPUModelRunner._get_prompt_logprobs_dict = compute_later
    LogprobsTensors.empty_cpu = staticmethod(unwritten)


def top_p_by_refusal() -> None:
    """Sample from a nucleus (top-p) without finding it: draw from all tokens, refuse what lies outside, draw again.

    For a small model on a CPU, sorting the vocabulary takes longer than the forward pass: 64 rows of 49,152 tokens in
    180 ms on one core. Whether one token lies in the nucleus takes a sum: it does if all that is more likely has less
    than `p` of the probability. vLLM's noise belongs to a token, so what wins among all tokens wins in the nucleus too,
    if it is inside. If not, only what is more likely can be, and the row is drawn again from that: one in ten at 0.9.
    The tokens drawn are those that vLLM draws; of equal logits, lower ids come first.
    """
    by_sorting = topk_topp_sampler.TopKTopPSampler.forward_cpu

    def forward(
        self: Any,
        logits: torch.Tensor,
        generators: dict[int, torch.Generator],
        k: torch.Tensor | None,
        p: torch.Tensor | None,
    ) -> Any:
        """Token ids [batch] drawn from logits [batch, vocabulary] at each row's `k` and `p`, and nothing else."""
        if p is None or self.use_fp64_gumbel or self.logprobs_mode in PROCESSED_LOGPROBS_MODES:
            return by_sorting(self, logits, generators, k, p)
        if k is not None:
            logits = topk_topp_sampler.apply_top_k_only(logits, k)
        logits = logits.float()
        seeds = torch.randint(0, 2**31, (len(logits),))
        for row, generator in generators.items():
            seeds[row] = torch.randint(0, 2**31, (1,), generator=generator)
        ids = torch.arange(logits.shape[1])
        probabilities = logits.softmax(dim=1)
        tokens = torch.empty(len(logits), dtype=torch.int64)
        rows = torch.arange(len(logits))  # not yet drawn
        while len(rows):
            token = torch.ops._C.fused_gumbel_argmax(logits, seeds[rows]).view(-1, 1)
            tokens[rows] = token[:, 0]
            logit = logits.gather(1, token)
            ahead = (logits > logit) | ((logits == logit) & (ids < token))
            # At p = 1 nothing is refused, whatever rounding makes of the sum. Nothing is ahead of the likeliest token.
            refused = (p[rows] < 1) & ((probabilities * ahead).sum(dim=1) >= p[rows]) & ahead.any(dim=1)
            rows, probabilities = rows[refused], probabilities[refused]
            logits = logits[refused].masked_fill(~ahead[refused], -float("inf"))
        return tokens, None

    topk_topp_sampler.TopKTopPSampler.forward_cpu = forward


if __name__ == "__main__":
    fork()
    score_from()
    top_p_by_refusal()
    runpy.run_module(SERVER, run_name="__main__", alter_sys=True)
