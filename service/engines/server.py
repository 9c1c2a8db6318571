"""vLLM's server on a CPU, started in half the time: the process that computes is a copy of the one that answers.

vLLM starts that process anew on a CPU, for the sake of processes that bind their threads to cores of their own; it
imports everything a second time, twenty seconds on a slow core. Engines here have one process that computes, and it
binds to no core (`environment.own`). For the sake of GPUs, which the first process must not touch, vLLM also looks
at a model's class in a third one, the first time; here that is done in place.

What log-probabilities of a prompt are not needed for is not computed either: see `score_from`. Nor is a vocabulary
sorted to cut its tail off: see `top_p_by_selection`.

A script, run with `python -P`: modules of this folder must not stand in for others of the same name.
"""

from __future__ import annotations

import os
import runpy
from typing import Any

import torch
from vllm.model_executor.models import registry
from vllm.platforms.cpu import CpuPlatform
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.ops import topk_topp_sampler
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

SCORE_FROM = "score_from"  # as in `service.likelihoods`, which this script cannot import
SERVER = "vllm.entrypoints.openai.api_server"
NUCLEUS = 4096  # tokens selected; a larger nucleus takes vLLM's way, which sorts. SmolLM2's at top-p 0.9: one in 160


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


def top_p_by_selection() -> None:
    """Find the tokens of a nucleus (top-p) by selecting the likeliest, not by sorting the whole vocabulary.

    For a small model on a CPU the sort takes longer than the forward pass: 64 rows of 49,152 tokens in 300 ms on one
    core, their 4,096 likeliest in 55 ms. The tokens that stay are the same; among equal logits at the border either
    choice is right.
    """
    by_sorting = topk_topp_sampler.apply_top_k_top_p_pytorch

    def apply(
        logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None, allow_cpu_sync: bool = False
    ) -> torch.Tensor:
        """Logits [batch, vocabulary] with minus infinity for each token outside the top-k and top-p of its row."""
        if p is None or logits.shape[1] <= NUCLEUS:
            sorted_out: torch.Tensor = by_sorting(logits, k, p, allow_cpu_sync)
            return sorted_out
        if k is not None:
            logits = topk_topp_sampler.apply_top_k_only(logits, k)
        cut = p < 1  # a row of another request, that has no top-p, keeps all its tokens
        likeliest, ids = logits.topk(NUCLEUS, dim=1)
        total = logits.logsumexp(dim=1, keepdim=True)
        probabilities = (likeliest - total).exp()
        before = probabilities.cumsum(dim=1) - probabilities
        inside = likeliest.masked_fill(before >= p.unsqueeze(1), -float("inf"))
        inside[:, 0] = likeliest[:, 0]  # at least one
        result = torch.full_like(logits, -float("inf")).scatter_(1, ids, inside)
        result[~cut] = logits[~cut]
        wide = cut & (before[:, -1] + probabilities[:, -1] < p)
        if wide.any():
            result[wide] = by_sorting(logits[wide], None, p[wide], allow_cpu_sync)
        return result

    topk_topp_sampler.apply_top_k_top_p_pytorch = apply


if __name__ == "__main__":
    fork()
    score_from()
    top_p_by_selection()
    runpy.run_module(SERVER, run_name="__main__", alter_sys=True)
