"""Our engines draw the tokens that vLLM's own sampler draws."""

from __future__ import annotations

import collections
import types

import pytest
import torch

pytestmark = pytest.mark.integration  # importing vLLM takes seconds
VOCABULARY = 20_000


@pytest.fixture
def drawn_by(monkeypatch):
    """Functions (logits, k, p, seed) -> the token of each row: vLLM's own and ours. `p` is a number or one per row."""
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.sample.ops import topk_topp_sampler

    from service.engines import server

    CpuPlatform.import_kernels()  # what draws, for this CPU's instructions: others end the process
    sampler = topk_topp_sampler.TopKTopPSampler
    theirs = sampler.forward_cpu
    monkeypatch.setattr(sampler, "forward_cpu", theirs)
    server.top_p_by_refusal()
    ours = sampler.forward_cpu

    def run(function, logits, k, p, seed):
        """Every second row has a generator of its own, as a request with a seed has."""
        torch.manual_seed(seed)
        generators = {row: torch.Generator().manual_seed(seed + row) for row in range(0, len(logits), 2)}
        settings = types.SimpleNamespace(use_fp64_gumbel=False, logprobs_mode="raw_logprobs")
        p = p.clone() if isinstance(p, torch.Tensor) else torch.full((len(logits),), p)
        tokens, nothing = function(settings, logits.clone(), generators, None if k is None else k.clone(), p)
        assert nothing is None
        return tokens.view(-1)

    return lambda *a: run(theirs, *a), lambda *a: run(ours, *a)


def rows(scale: float, batch: int = 24) -> torch.Tensor:
    return torch.randn(batch, VOCABULARY, generator=torch.Generator().manual_seed(int(scale * 10))) * scale


def ahead(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """How much of each row's probability is more likely than its token."""
    return (logits.softmax(1) * (logits > logits.gather(1, tokens.view(-1, 1)))).sum(1)


# From nearly uniform, where a nucleus holds most of the vocabulary, to a single likely token.
@pytest.mark.parametrize("scale", (0.1, 1.0, 3.0, 8.0, 40.0))
@pytest.mark.parametrize("p", (0.01, 0.5, 0.9, 0.999))
def test_the_same_tokens_are_drawn(drawn_by, scale, p):
    theirs, ours = drawn_by
    logits = rows(scale)
    for seed in range(3):
        expected, tokens = theirs(logits, None, p, seed), ours(logits, None, p, seed)
        # Sums of thousands of probabilities differ in their last digits: a token at the border may fall on either side.
        for row in (expected != tokens).nonzero():
            outermost = torch.stack([ahead(logits[row], one[row]) for one in (expected, tokens)]).max()
            assert outermost == pytest.approx(p, abs=1e-4)
        first = logits.argmax(1) == tokens
        assert ((ahead(logits, tokens) < p + 1e-4) | first).all()


def test_requests_of_one_batch_keep_their_own_settings(drawn_by):
    theirs, ours = drawn_by
    logits = rows(3.0, batch=6)
    p = torch.tensor([1.0, 0.9, 0.3, 1.0, 0.0, 0.95])
    k = torch.tensor([VOCABULARY, VOCABULARY, 3, 50, VOCABULARY, 700], dtype=torch.int32)
    tokens = [ours(logits, k, p, seed) for seed in range(30)]
    assert torch.equal(torch.stack(tokens), torch.stack([theirs(logits, k, p, seed) for seed in range(30)]))
    drawn = [len(set(column.tolist())) for column in torch.stack(tokens, dim=1)]
    assert drawn[0] > 5  # the whole vocabulary
    assert drawn[2] <= 3
    assert drawn[4] == 1


def test_without_top_p_nothing_changes(drawn_by):
    theirs, ours = drawn_by
    logits = rows(1.0)
    assert torch.equal(theirs(logits, None, 1.0, 7), ours(logits, None, 1.0, 7))


def test_equal_logits_and_tokens_that_cannot_be_drawn(drawn_by):
    _, ours = drawn_by
    flat = torch.zeros(400, VOCABULARY)
    tokens = ours(flat, None, torch.tensor([0.25, 0.5]).repeat(200), 1).view(200, 2)
    # Of equal logits the lower ids are the nucleus: a quarter and half of the vocabulary, drawn evenly.
    assert (tokens.max(dim=0).values < torch.tensor([VOCABULARY / 4 + 2, VOCABULARY / 2 + 2])).all()
    assert tokens.double().mean(dim=0).tolist() == pytest.approx([VOCABULARY / 8, VOCABULARY / 4], rel=0.15)
    few = torch.full((200, VOCABULARY), -torch.inf)
    few[:, [5, 9, 12]] = torch.tensor([1.0, 0.5, -3.0])
    counts = collections.Counter(ours(few, None, 0.95, 2).tolist())
    assert set(counts) == {5, 9}
    assert counts[5] / 200 == pytest.approx(0.622, abs=0.12)
