"""Our engines' top-p keeps the tokens that vLLM's own keeps."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.integration  # importing vLLM takes seconds
VOCABULARY = 20_000


@pytest.fixture
def kept_by(monkeypatch):
    """Functions (logits, k, p) -> which tokens stay: vLLM's own and ours."""
    from vllm.v1.sample.ops import topk_topp_sampler

    from service.engines import server

    by_sorting = topk_topp_sampler.apply_top_k_top_p_pytorch
    monkeypatch.setattr(topk_topp_sampler, "apply_top_k_top_p_pytorch", by_sorting)
    server.top_p_by_selection()

    def run(function, logits, k, p):
        k, p = (None if values is None else values.clone() for values in (k, p))
        return function(logits.clone(), k, p, allow_cpu_sync=True)

    return lambda *a: run(by_sorting, *a), lambda *a: run(topk_topp_sampler.apply_top_k_top_p_pytorch, *a)


def rows(scale: float, batch: int = 24) -> torch.Tensor:
    return torch.randn(batch, VOCABULARY, generator=torch.Generator().manual_seed(int(scale * 10))) * scale


# From nearly uniform, where a nucleus holds most of the vocabulary, to a single likely token.
@pytest.mark.parametrize("scale", (0.1, 1.0, 3.0, 8.0, 40.0))
@pytest.mark.parametrize("p", (0.01, 0.5, 0.9, 0.999))
def test_the_same_tokens_stay(kept_by, scale, p):
    theirs, ours = kept_by
    logits = rows(scale)
    expected, result = theirs(logits, None, torch.full((24,), p)), ours(logits, None, torch.full((24,), p))
    # Sums of thousands of probabilities differ in their last digits: a token at the border may fall on either side.
    assert ((expected > -torch.inf) ^ (result > -torch.inf)).sum(dim=1).max() <= 1
    both = (expected > -torch.inf) & (result > -torch.inf)
    assert torch.equal(expected[both], result[both])
    assert both.any(dim=1).all()


def test_requests_of_one_batch_keep_their_own_settings(kept_by):
    theirs, ours = kept_by
    logits = rows(3.0, batch=6)
    p = torch.tensor([1.0, 0.9, 0.3, 1.0, 0.0, 0.95])
    k = torch.tensor([VOCABULARY, VOCABULARY, 3, 50, VOCABULARY, 700], dtype=torch.int32)
    assert torch.equal(theirs(logits, k, p) > -torch.inf, ours(logits, k, p) > -torch.inf)
    assert (ours(logits, k, p) > -torch.inf).sum(dim=1).tolist()[0] == VOCABULARY


def test_equal_logits_and_tokens_that_cannot_be_drawn(kept_by):
    theirs, ours = kept_by
    flat = torch.zeros(2, VOCABULARY)
    p = torch.tensor([0.25, 0.5])
    counts = (ours(flat, None, p) > -torch.inf).sum(dim=1)
    assert (counts - (theirs(flat, None, p) > -torch.inf).sum(dim=1)).abs().max() <= 1
    few = torch.full((1, VOCABULARY), -torch.inf)
    few[0, [5, 9]] = torch.tensor([1.0, 0.5])
    assert (ours(few, None, torch.tensor([0.99])) > -torch.inf).nonzero()[:, 1].tolist() == [5, 9]
