"""PPO by the paper: counts, first ratio, accumulation, pretraining gradients, rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support import tiny_models
from tests.training.conftest import Toy
from training.artifacts import checkpoints
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.models import forward, loading, templates
from training.models.memory import Budget
from training.rl import losses
from training.rl.episodes import Episodes, PolicyModels, evaluate, own_passes, shuffle_into_minibatches, values_of
from training.rl.rollouts import Rollouts, Sampling, generate
from training.rl.updates import ppo_gradients
from training.stages import ppo, text

pytestmark = pytest.mark.unit
WHOLE = 10_000  # tokens per pass: a whole minibatch
UPDATE = {"temperature": 0.7, "clip": 0.2, "value_coefficient": 0.1}


def config_of(toy: Toy, **changes: Any) -> ppo.Config:
    settings: dict[str, Any] = {
        "prompts": str(toy.home / "prompts.jsonl"),
        "iterations": 2,
        "batch": 16,
        "minibatch": 4,
        "learning_rate": 1e-3,
        "value_learning_rate": 1e-3,
        "warmup_iterations": 0,
        "pretraining_data": str(toy.home / "text.jsonl"),
        "ptx_documents": 5,
        "home": toy.home,
    }
    return ppo.Config(**(settings | changes))


@pytest.fixture
def start(toy_chain: Toy) -> tuple[ppo.Setup, Episodes, list[list[int]]]:
    """The four models and 16 episodes of the first policy, in minibatches of 4."""
    config = config_of(toy_chain)
    setup = ppo.prepare(config)
    prompts = [row.tolist() for row in setup.prompts[:16]]
    rollouts = generate(setup.models.policy, prompts, 1, Sampling(0.7, 9, setup.stops, seed=5))
    minibatches = shuffle_into_minibatches(16, 4, 0)
    return setup, evaluate(setup.models, prompts, rollouts, minibatches, 0.7, Budget(WHOLE)), minibatches


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


def test_before_any_step_policy_and_reference_agree_and_values_are_scores(start: Any) -> None:
    setup, episodes, _ = start
    assert torch.equal(episodes.old_logprobs, episodes.reference_logprobs)
    assert episodes.sampler_gap < 1e-5
    rows = [p + r[:1] for p, r in zip(episodes.prompts, episodes.responses, strict=True)]
    states = [row[:-1] for row in rows]
    raw = forward.scores_of(setup.models.rewards[0].model, states) - setup.models.offset
    torch.testing.assert_close(episodes.old_values[:, 0], raw.detach(), atol=1e-5, rtol=1e-5)


def test_unfinished_responses_rank_below_finished_ones(start: Any) -> None:
    _, episodes, _ = start
    assert 0 < episodes.finished.sum() < 16
    assert episodes.scores[~episodes.finished].max() <= episodes.scores[episodes.finished].min() - 1


def test_first_ratio_is_one_and_steps_are_counted(toy_chain: Toy) -> None:
    made = ppo.train(config_of(toy_chain, temperature=0.7, epochs=2, tokens_per_pass=30))
    metrics = made.manifest.metrics
    assert made.manifest.stage == "ppo"
    assert metrics["optimizer_steps"] == 2 * 2 * 16 // 4
    assert metrics["episodes"] == 32
    assert metrics["raw/first_ratio_error"] < 1e-5
    assert metrics["raw/sampler_gap"] < 1e-5
    assert set(made.manifest.parents) == {toy_chain.policy.id, toy_chain.reward.id}


def test_figures_name_the_weights_that_they_are_of(toy_chain: Toy) -> None:
    """The raw policy's last iteration, and the published average on one more batch."""
    averaged = ppo.train(config_of(toy_chain, learning_rate=3e-2, iterations=3, ema=0.9, seed=5))
    metrics = averaged.manifest.metrics
    assert metrics["weights"] == "ema"
    assert not [name for name in metrics if name.startswith("last/")]
    assert {"published/score", "published/kl", "published/finished", "raw/score", "raw/kl", "raw/policy_loss"} <= set(
        metrics
    )
    assert "published/policy_loss" not in metrics
    # Measured anew from the files: the published weights' own rollouts against the reference.
    config = config_of(toy_chain, learning_rate=3e-2, iterations=3, ema=0.9, seed=5)
    setup = ppo.prepare(config)
    setup = setup._replace(models=setup.models._replace(policy=loading.load(averaged.id, toy_chain.home).model))
    assert ppo.measure(setup, config, Budget(WHOLE), Budget(WHOLE))["kl"] == pytest.approx(
        metrics["published/kl"], rel=1e-4, abs=1e-6
    )
    assert metrics["published/kl"] != pytest.approx(metrics["raw/kl"], rel=1e-3)


def test_the_state_survives_a_save(toy_chain: Toy) -> None:
    state = ppo.State(0.02, 7, {"score": 1.5})
    other = ppo.State(0.5)
    other.load_state_dict(state.state_dict())
    assert other == state


def test_frozen_embeddings_stay_as_they_are(toy_chain: Toy) -> None:
    made = ppo.train(config_of(toy_chain, freeze_embeddings=True, ptx_coefficient=0.3))
    before, after = (loading.load(c.id, toy_chain.home).model.state_dict() for c in (toy_chain.policy, made))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}


def test_512_episodes_in_minibatches_of_64_are_8_steps(toy_chain: Toy) -> None:
    assert config_of(toy_chain, batch=512, minibatch=64).steps_per_iteration == 8


@pytest.mark.parametrize("tokens_per_pass", [1, 30])
def test_micro_batches_give_the_gradient_of_the_minibatch(start: Any, tokens_per_pass: int) -> None:
    setup, episodes, minibatches = start
    models = setup.models
    advantages = torch.randn(episodes.mask.shape, generator=torch.Generator().manual_seed(0)) * episodes.mask
    returns = episodes.old_values + advantages
    parts = own_passes(episodes.prompts, episodes.responses, minibatches[0], tokens_per_pass)
    assert 1 < len(parts) <= 4

    def both(tokens: int) -> list[torch.Tensor]:
        models.policy.zero_grad()
        models.value.zero_grad()
        ppo_gradients(models, episodes, advantages, returns, minibatches[0], tokens_per_pass=tokens, **UPDATE)
        return [gradient(models.policy), gradient(models.value)]

    for found, expected in zip(both(tokens_per_pass), both(WHOLE), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)


def test_a_step_raises_what_was_good_and_lowers_what_was_bad(start: Any) -> None:
    """A sign error in the objective would turn this round."""
    setup, episodes, minibatches = start
    good = torch.tensor([1.0, -1.0] * 8)[:, None] * episodes.mask
    rows = minibatches[0]
    ppo_gradients(setup.models, episodes, good, episodes.old_values, rows, tokens_per_pass=WHOLE, **UPDATE)
    with torch.no_grad():
        for parameter in setup.models.policy.parameters():
            parameter -= 1e-3 * parameter.grad
    chosen = [episodes.prompts[i] for i in rows], [episodes.responses[i] for i in rows]
    after = forward.response_logprobs(setup.models.policy, *chosen, 0.7)
    width = after.shape[1]
    gain = ((after - episodes.old_logprobs[rows, :width]) * good[rows, :width]).sum()
    assert gain > 0


def test_the_value_loss_has_its_weight(start: Any) -> None:
    setup, episodes, minibatches = start
    returns = episodes.old_values + episodes.mask

    def of_values(weight: float) -> torch.Tensor:
        setup.models.value.zero_grad()
        options = UPDATE | {"value_coefficient": weight}
        ppo_gradients(setup.models, episodes, episodes.mask, returns, minibatches[0], tokens_per_pass=WHOLE, **options)
        return gradient(setup.models.value)

    one, three = of_values(0.1), of_values(0.3)
    assert one.abs().max() > 0
    torch.testing.assert_close(three, 3 * one, atol=1e-6, rtol=1e-4)


def test_advantages_are_whitened_and_returns_are_made_before(toy_chain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Episodes, torch.Tensor, torch.Tensor]] = []
    add = ppo.add_gradients

    def noting(models: Any, config: Any, episodes: Any, advantages: Any, returns: Any, *rest: Any) -> Any:
        given.append((episodes, advantages, returns))
        return add(models, config, episodes, advantages, returns, *rest)

    monkeypatch.setattr(ppo, "add_gradients", noting)
    config = config_of(toy_chain, iterations=1, seed=7)
    ppo.train(replace(config, home=toy_chain.home.parent / "whitened", model=str(toy_chain.policy.path),
                      reward=(str(toy_chain.reward.path),)))  # fmt: skip
    episodes, advantages, returns = given[0]
    tokens = advantages[episodes.mask.bool()]
    assert float(tokens.mean()) == pytest.approx(0, abs=1e-5)
    assert float(tokens.var(correction=0)) == pytest.approx(1, abs=1e-3)
    kl = losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs).k1
    rewards = losses.token_rewards(episodes.scores, kl, episodes.mask, config.kl_coefficient)
    raw, _ = losses.advantages_and_returns(rewards, episodes.old_values, episodes.mask, lam=config.gae_lambda)
    torch.testing.assert_close(returns, (raw + episodes.old_values) * episodes.mask)


@pytest.mark.parametrize("tokens_per_pass", [WHOLE, 10])
def test_pretraining_gradient_is_gamma_times_that_of_the_mean_cross_entropy(start: Any, tokens_per_pass: int) -> None:
    """27.8 and 0.3 differ by their ratio, both gradients add up, and the mean is over tokens, not documents."""
    policy = start[0].models.policy
    documents = [[0, 261, 262, 263, 0], [0, 264, 0], [0, 261, 265, 266, 267, 262, 0]]

    def ptx(gamma: float) -> torch.Tensor:
        ppo.ptx_gradients(policy, documents, gamma, tokens_per_pass)
        return gradient(policy)

    policy.zero_grad()
    one = ptx(1.0)
    twice = ptx(27.8)
    torch.testing.assert_close(twice, one * 28.8, atol=1e-5, rtol=1e-4)
    policy.zero_grad()
    nll = [-policy(torch.tensor([d])).logits[0, :-1].log_softmax(-1) for d in documents]
    picked = [n.gather(1, torch.tensor(d[1:])[:, None]) for n, d in zip(nll, documents, strict=True)]
    (torch.cat(picked).sum() / 12).backward()
    torch.testing.assert_close(one, gradient(policy), atol=1e-6, rtol=1e-4)


def test_ppo_ptx_publishes_under_its_own_stage_and_keeps_the_text_s_loss_lower(toy_chain: Toy) -> None:
    settings = {"iterations": 6, "learning_rate": 1e-2, "ema": 0.0, "seed": 1}
    plain = ppo.train(config_of(toy_chain, **settings))
    ptx = ppo.train(config_of(toy_chain, ptx_coefficient=2.0, **settings))
    assert (plain.manifest.stage, ptx.manifest.stage) == ("ppo", "ppo-ptx")
    assert "pretraining" in ptx.manifest.data
    documents = [[0, 261, 277, 262, 268, 263, 0]]

    def loss(checkpoint: checkpoints.Checkpoint) -> float:
        model = loading.load(checkpoint.id, toy_chain.home).model
        return float(
            -losses.token_logprobs(forward.logits_of(model, documents), torch.tensor([documents[0][1:]]))
            .mean()
            .detach()
        )

    assert loss(ptx) < loss(plain)


def test_what_the_template_puts_after_the_stop_token_is_scored_too() -> None:
    tokenizer = tiny_models.tokenizer()
    end = tokenizer.eos_token_id
    assert Renderer(tokenizer).extend([7, 8], [9, end]) == [7, 8, 9, end]
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|>\n")
    (newline,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert Renderer(tokenizer).extend([7, 8], [9, end]) == [7, 8, 9, end, newline]


def test_the_offset_moves_scores_and_values_alike(start: Any) -> None:
    setup, episodes, _ = start
    offset = setup.models.offset + 2.0
    moved = setup.models._replace(offset=offset, rewards=(setup.models.rewards[0]._replace(offset=offset),))
    prompts, responses = episodes.prompts, episodes.responses
    drawn = Rollouts(responses, [[0.0] * len(r) for r in responses], [True] * 16)
    rows = [list(range(16))]
    before, after = (evaluate(models, prompts, drawn, rows, 1.0, Budget(WHOLE)) for models in (setup.models, moved))
    torch.testing.assert_close(after.scores, before.scores - 2.0)
    torch.testing.assert_close(after.old_values, before.old_values - 2.0 * before.mask)


def test_minibatches_deal_every_episode_once() -> None:
    prompts, responses = [[0] * (1 + i % 5) for i in range(12)], [[0] * (1 + i % 3) for i in range(12)]
    dealt = shuffle_into_minibatches(12, 4, 0)
    assert [len(minibatch) for minibatch in dealt] == [4] * 3
    parts = [part for rows in dealt for part, _ in own_passes(prompts, responses, rows, 12)]
    assert sorted(i for part in parts for i in part) == list(range(12))
    assert max(len(part) * max(len(prompts[i]) + len(responses[i]) for i in part) for part in parts) <= 12


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ptx_coefficient": 1.0, "pretraining_data": ()}, "needs --pretraining-data"),
        ({"batch": 10}, "not a multiple of --minibatch"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"max_tokens": 32}, "leaves no prompt room"),
        ({"max_tokens": 31}, "24 x longer than 1 tokens"),
        ({"max_prompt_tokens": 3}, "24 x longer than 3 tokens"),
        ({"context": 64}, "beyond the 32 tokens that the model takes"),
        ({"reward": "sft"}, "not a reward one"),
        ({"prompts": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_contradictions_are_refused(toy_chain: Toy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ppo.train(config_of(toy_chain, **changes))


def test_values_move_with_the_value_model_only(start: Any) -> None:
    setup, episodes, _ = start
    models: PolicyModels = setup.models
    with torch.no_grad():
        models.value.score.weight += 1.0
    changed = values_of(models, episodes.prompts, episodes.responses)
    assert not torch.allclose(changed, episodes.old_values)
    raw = forward.scores_of(
        models.rewards[0].model, [p + r for p, r in zip(episodes.prompts, episodes.responses, strict=True)]
    )
    torch.testing.assert_close((raw - models.offset)[episodes.finished], episodes.scores[episodes.finished])


def test_an_adaptive_coefficient_moves(toy_chain: Toy) -> None:
    made = ppo.train(config_of(toy_chain, kl_target=5.0, kl_horizon=16, learning_rate=1e-5))
    assert made.manifest.metrics["raw/kl_coefficient"] == pytest.approx(0.02 * 0.8, rel=1e-6)
    same = replace(config_of(toy_chain), learning_rate=1e-5, seed=3)
    assert ppo.train(same).manifest.metrics["raw/kl_coefficient"] == 0.02


def test_text_without_a_coefficient_is_said_to_be_unused(toy_chain: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    renderer = templates.renderer_for(loading.load(toy_chain.policy.id, toy_chain.home))
    documents, usages = text.load(toy_chain.home, ("a.txt", "b.txt=2"), renderer, 64, 0, seed=0)
    assert (len(documents), usages) == (0, [])
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "pretraining: a.txt and b.txt=2 is not used: its share of the steps is 0" in printed
