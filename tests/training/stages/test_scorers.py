"""PPO with several reward models, with one that has another tokenizer, with another reference; DPO with that too."""

from __future__ import annotations

import shutil
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification

from tests.support import tiny_models
from tests.support import toy_world as toy
from tests.training.conftest import Toy
from tests.training.stages.test_ppo import config_of
from training.artifacts.errors import UserError
from training.artifacts.rendering import Rendered, Renderer
from training.models import forward, loading
from training.models.memory import Budget
from training.rl import losses
from training.rl.episodes import Episodes, Reward, evaluate, shuffle_into_minibatches
from training.rl.rollouts import Sampling, generate
from training.rl.scalars import scalars_of
from training.stages import dpo, ppo

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with a vocabulary and a chat template of its own."""
    folder, tokenizer = tmp_path_factory.mktemp("foreign") / "judge", tiny_models.tokenizer()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_labels=1, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        max_position_embeddings=512,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reference(toy_chain: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's policy with other weights."""
    source, folder = loading.load(str(toy_chain.policy.path), toy_chain.home), tmp_path_factory.mktemp("reference")
    with torch.no_grad():
        for parameter in source.model.parameters():
            parameter.mul_(0.9)
    source.model.save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    return folder


def episodes_of(setup: ppo.Setup, count: int = 8) -> Episodes:
    prompts = [row.tolist() for row in setup.prompts[:count]]
    rollouts = generate(setup.models.policy, prompts, 1, Sampling(0.7, 9, setup.stops, seed=5))
    return evaluate(setup.models, prompts, rollouts, shuffle_into_minibatches(count, 4, 0), 0.7, Budget(10_000))


def test_several_rewards_are_added_up_by_their_weights(toy_chain: Toy, foreign: Path) -> None:
    first = str(toy_chain.reward.path)
    setup = ppo.prepare(config_of(toy_chain, reward=(f"{first}=2", f"{foreign}=0.5")))
    episodes = episodes_of(setup)
    alone = episodes_of(ppo.prepare(config_of(toy_chain, reward=(first,))))
    one, other = episodes.parts[toy_chain.reward.id], episodes.parts["judge"]
    done = episodes.finished
    assert 0 < done.sum() < len(done)
    torch.testing.assert_close(episodes.scores[done], (2 * one + 0.5 * other)[done])
    torch.testing.assert_close(one[done], alone.scores[done])
    torch.testing.assert_close(episodes.old_values, alone.old_values)


def test_another_tokenizer_reads_the_text(toy_chain: Toy, foreign: Path) -> None:
    setup = ppo.prepare(config_of(toy_chain, reward=(str(foreign),)))
    episodes = episodes_of(setup)
    renderer, own = Renderer(setup.tokenizer), Renderer(tiny_models.tokenizer())
    model = loading.load(str(foreign), toy_chain.home, "reward").model
    names = {tuple(row.ids): messages for messages in questions(toy_chain) for row in rows(renderer, messages)}
    for prompt, response, score in zip(episodes.prompts, episodes.responses, episodes.parts["judge"], strict=True):
        answer = {"role": "assistant", "content": renderer.answer(response)}
        [row] = own.render([[*names[tuple(prompt)], answer]])
        assert isinstance(row, Rendered)
        torch.testing.assert_close(forward.scores_of(model, [row.ids])[0].detach(), score, atol=1e-5, rtol=1e-5)


def questions(chain: Toy) -> list[Any]:
    from training.artifacts.layouts import prompts

    return [record.messages for record in prompts.load(str(chain.home / "prompts.jsonl")).records]


def rows(renderer: Renderer, messages: Any) -> list[Rendered]:
    return [row for row in renderer.prompts([messages]) if isinstance(row, Rendered)]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_with_two_rewards_and_a_reference_reports_each(
    toy_chain: Toy, foreign: Path, reference: Path, tmp_path: Path, rank: int
) -> None:
    made = ppo.train(
        config_of(
            toy_chain, model=str(toy_chain.policy.path), reference=str(reference), home=tmp_path, lora_rank=rank,
            reward=(f"{foreign}=0.5", str(toy_chain.reward.path)),
        )
    )  # fmt: skip
    metrics = made.manifest.metrics
    assert {"raw/score/judge", f"raw/score/{toy_chain.reward.id}", "published/score/judge"} <= metrics.keys()
    assert metrics["raw/kl"] != 0
    assert toy_chain.reward.id in made.manifest.parents


def test_the_penalty_is_from_the_reference(toy_chain: Toy, reference: Path) -> None:
    setup = ppo.prepare(config_of(toy_chain, reference=str(reference)))
    episodes = episodes_of(setup)
    model = AutoModelForCausalLM.from_pretrained(reference).eval()
    expected = forward.response_logprobs(model, episodes.prompts, episodes.responses, 0.7)
    torch.testing.assert_close(episodes.reference_logprobs, expected.detach(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(episodes.reference_logprobs, episodes.old_logprobs)


def test_a_response_that_a_reward_model_cannot_read_counts_as_unfinished(toy_chain: Toy) -> None:
    setup = ppo.prepare(config_of(toy_chain))
    [reward] = setup.models.rewards
    readable = episodes_of(setup)
    refused = int(readable.finished.nonzero()[0])
    ids = (readable.prompts[refused], readable.responses[refused])
    picky = reward._replace(extend=lambda p, r: None if (p, r) == ids else reward.extend(p, r))
    episodes = episodes_of(setup._replace(models=setup.models._replace(rewards=(picky,))))
    assert not episodes.finished[refused]
    assert episodes.scores.isfinite().all()
    assert episodes.scores[refused] <= episodes.scores[episodes.finished].min() - 1


def test_a_folder_that_is_named_by_a_dot_has_a_name(
    toy_chain: Toy, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign)
    [reward] = ppo.prepare(config_of(toy_chain, reward=(".",))).models.rewards
    assert reward.name == "judge"


def test_what_no_reward_model_reads_is_a_share_and_no_mean(toy_chain: Toy) -> None:
    models = ppo.prepare(config_of(toy_chain)).models
    [reward] = models.rewards
    nothing = reward._replace(name="nothing", extend=lambda p, r: None)
    setup = ppo.prepare(config_of(toy_chain))
    episodes = episodes_of(setup._replace(models=models._replace(rewards=(reward, nothing))))
    scalars = scalars_of(episodes, losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs))
    assert all(map(isfinite, scalars.values()))
    assert scalars["unreadable/nothing"] == 1
    assert {f"score/{reward.name}"} == {name for name in scalars if name.startswith("score/")}


def test_an_unreadable_response_needs_no_ids_of_the_policy(foreign: Path, toy_chain: Toy) -> None:
    model = loading.load(str(foreign), toy_chain.home, "reward").model
    reward = Reward("judge", model, 1.0, 0.0, lambda p, r: None)
    assert reward.raw_scores([[10_000] * 600], [[10_000]]).isneginf().all()


def test_a_template_that_refuses_a_prompt_is_noticed_at_the_start(
    toy_chain: Toy, foreign: Path, tmp_path: Path
) -> None:
    folder, prompts = tmp_path / "strict", tmp_path / "prompts.jsonl"
    shutil.copytree(foreign, folder)
    own = tiny_models.tokenizer()
    own.chat_template = "{{ raise_exception('no system') if messages[0]['role'] == 'system' }}" + own.chat_template
    own.save_pretrained(folder)
    toy.write_jsonl(prompts, [{"messages": [{"role": "system", "content": "be red"}, *toy.turns(toy.question(0))]}])
    with pytest.raises(UserError, match=r"strict cannot read a prompt \(the chat template refuses the system role"):
        ppo.prepare(config_of(toy_chain, reward=(str(folder),), prompts=(str(prompts),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": ("REWARD", "COPY")}, "two reward models are named"),
        ({"reward": ("REWARD=0",)}, "no usable weight"),
        ({"reward": ("FOREIGN", "nothing")}, "no checkpoint 'nothing'"),
        ({"reference": "nothing"}, "no checkpoint 'nothing'"),
        ({"reference": "OTHER"}, "policy and reference have different tokenizers"),
    ],
)
def test_mistakes_are_refused(toy_chain: Toy, foreign: Path, tmp_path: Path, changes: Any, message: str) -> None:
    (tmp_path / "judge").symlink_to(foreign)
    other = tiny_models.publish_tiny(tmp_path / "store")
    names = {"REWARD": str(foreign), "COPY": str(tmp_path / "judge"), "FOREIGN": str(foreign), "OTHER": str(other.path)}

    def named(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(named, value))
        source, mark, weight = value.partition("=")
        return names.get(source, source) + mark + weight

    with pytest.raises(UserError, match=message):
        ppo.prepare(config_of(toy_chain, **{name: named(value) for name, value in changes.items()}))


def test_direct_preferences_have_a_reference_of_their_own(toy_chain: Toy, reference: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data": (str(toy_chain.home / "rankings.jsonl"),), "model": str(toy_chain.policy.path), "batch": 8,
        "home": tmp_path, "learning_rate": 1e-3,
    }  # fmt: skip
    made, usual = dpo.train(dpo.Config(**settings, reference=str(reference))), dpo.train(dpo.Config(**settings))
    assert made.manifest.metrics["held_out_loss"] != usual.manifest.metrics["held_out_loss"]
