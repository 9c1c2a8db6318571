"""Forward passes on ragged rows: padding changes nothing, and the numbers are transformers' own."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch

from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.models import building, forward, hardware, loading, optimization, shared_passes
from training.rl.losses import token_logprobs
from training.stages import sft

pytestmark = pytest.mark.unit
EXACT = {"atol": 1e-5, "rtol": 1e-5}
PROMPTS = [[0, 3, 264, 265, 4], [0, 3, 265, 266, 267, 268, 4], [0, 3, 4]]
RESPONSES = [[261, 262, 0], [263, 0], [264, 265, 266, 267, 0]]


def test_padding_changes_no_log_probability(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    together = forward.response_logprobs(model, PROMPTS, RESPONSES, temperature=0.7)
    assert together.shape == (3, 5)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        alone = token_logprobs(logits, torch.tensor(response), 0.7)
        torch.testing.assert_close(together[row, : len(response)], alone, **EXACT)
        assert not together[row, len(response) :].any()


def test_scores_equal_the_classifier_of_transformers_at_the_last_real_token(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    rows = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    padded = forward.pad_right(rows, model.config.pad_token_id)
    theirs = model(input_ids=padded, attention_mask=(padded != model.config.pad_token_id).long()).logits[:, 0]
    torch.testing.assert_close(forward.scores_of(model, rows), theirs, **EXACT)


def test_responses_that_share_their_prompt_s_pass_score_the_same(toy_chain: Toy) -> None:
    """The mask lets a response see its prompt and itself alone; gradients agree too."""
    model = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    rankings = [[prompt + response for response in RESPONSES] for prompt in PROMPTS]
    rankings[1] = [rankings[1][0], rankings[1][0], rankings[1][2][:-1]]  # the same twice, and a prefix of a row
    rows = [row for ranking in rankings for row in ranking]

    def gradient(scores: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        (scores * torch.arange(9)).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    shared, alone = shared_passes.ranking_scores(model, rankings), forward.scores_of(model, rows)
    torch.testing.assert_close(shared, alone, **EXACT)
    torch.testing.assert_close(gradient(shared), gradient(alone), atol=1e-5, rtol=1e-4)


def test_a_value_stands_before_its_token(toy_chain: Toy) -> None:
    """The value model starts from the reward model with its head: its value of a state is that state's score."""
    model = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    values = forward.response_values(model, PROMPTS, RESPONSES)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        states = [prompt + response[:t] for t in range(len(response))]
        torch.testing.assert_close(values[row, : len(response)], forward.scores_of(model, states), **EXACT)


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_micro_batches_give_the_gradient_of_the_whole_batch(toy_chain: Toy, micro: int) -> None:
    """8 x 1, 3 + 3 + 2 and 1 x 8 alike, although the rows differ in length."""
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    examples = [
        sft.Example(p + r, [0] * len(p) + [1] * len(r)) for p, r in zip(PROMPTS * 3, RESPONSES * 3, strict=True)
    ][:8]
    tokens = sum(sum(e.mask) for e in examples)

    def gradient(size: int) -> torch.Tensor:
        model.zero_grad()
        for start in range(0, 8, size):
            (sft.loss_of(model, examples[start : start + size]) / tokens).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    torch.testing.assert_close(gradient(micro), gradient(8), atol=1e-6, rtol=1e-4)


def test_a_new_head_has_the_paper_s_spread_and_serves_raw_scores(toy_chain: Toy) -> None:
    model = building.new_scalar_head(str(toy_chain.policy.path), pad_id=1, seed=0)
    width = model.config.hidden_size
    assert model.score.weight.shape == (1, width)
    assert model.config.problem_type == "regression"
    assert model.config.num_labels == 1
    many = [building.new_scalar_head(str(toy_chain.policy.path), 1, seed).score.weight for seed in range(12)]
    assert torch.cat(many).std().item() == pytest.approx(1 / math.sqrt(width + 1), rel=0.2)
    body, policy = model.base_model.state_dict(), loading.load(toy_chain.policy.id, toy_chain.home).model.model
    assert all(torch.equal(body[name], value) for name, value in policy.state_dict().items())


def test_the_published_probe_is_what_transformers_computes(toy_chain: Toy) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    probe = toy_chain.policy.manifest.probe
    for ids, expected in zip(probe["ids"], probe["logprobs"], strict=True):
        logprobs = policy(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        found = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        torch.testing.assert_close(found, torch.tensor(expected), **EXACT)
    scorer = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    probe = toy_chain.reward.manifest.probe
    for ids, reward in zip(probe["ids"], probe["rewards"], strict=True):
        assert scorer(input_ids=torch.tensor([ids])).logits.item() == pytest.approx(reward, abs=1e-5)


def test_dropout_is_off(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model.train()
    torch.testing.assert_close(*(forward.logits_of(model, PROMPTS) for _ in range(2)), atol=0, rtol=0)


def test_the_cosine_ends_at_a_tenth() -> None:
    assert optimization.cosine(0, 101) == 1.0
    assert optimization.cosine(50, 101) == pytest.approx(0.55)
    assert optimization.cosine(100, 101) == pytest.approx(0.1)


def test_unknown_models_and_models_of_the_other_kind_are_refused(toy_chain: Toy) -> None:
    with pytest.raises(UserError, match="no checkpoint 'nothing'"):
        loading.load("nothing", toy_chain.home)
    with pytest.raises(UserError, match="is a reward checkpoint, not a policy one"):
        loading.load("reward", toy_chain.home)


@pytest.fixture
def natively_bf16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on hardware that multiplies bfloat16; the other tests are exact."""
    monkeypatch.setattr(hardware, "_multiplies_bf16", lambda kind: True)
    token = hardware._full_precision.set(False)
    yield
    hardware._full_precision.reset(token)
    hardware.set_dtype("auto")


@pytest.mark.usefixtures("natively_bf16")
def test_a_frozen_model_computes_what_it_computed_in_half_the_memory(toy_chain: Toy) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    scorer = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    rows = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    logprobs, scores = forward.response_logprobs(policy, PROMPTS, RESPONSES), forward.scores_of(scorer, rows)
    frozen, frozen_scorer = building.freeze(copy.deepcopy(policy)), building.freeze(copy.deepcopy(scorer))
    torch.testing.assert_close(forward.response_logprobs(frozen, PROMPTS, RESPONSES), logprobs, rtol=1e-6, atol=1e-6)
    # Emulated bfloat16 sums in another order where gradients are kept.
    torch.testing.assert_close(forward.scores_of(frozen_scorer, rows), scores, rtol=1e-6, atol=1e-6)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert frozen.model.layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16
    assert {frozen_scorer.score.weight.dtype, frozen.get_input_embeddings().weight.dtype} == {torch.float32}


@pytest.mark.usefixtures("natively_bf16")
def test_the_dtype_is_chosen_or_the_hardwares(toy_chain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    native = forward.hidden_states(model, PROMPTS)
    hardware.set_dtype("float32")
    exact = forward.hidden_states(model, PROMPTS)
    assert not torch.equal(native, exact)
    assert {p.dtype for p in building.freeze(copy.deepcopy(model)).parameters()} == {torch.float32}
    monkeypatch.setattr(hardware, "_multiplies_bf16", lambda kind: False)
    hardware.set_dtype("auto")
    assert torch.equal(forward.hidden_states(model, PROMPTS), exact)
    hardware.set_dtype("bfloat16")
    assert torch.equal(forward.hidden_states(model, PROMPTS), native)
