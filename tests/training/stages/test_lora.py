"""LoRA in every stage: what is trained, shared and published, and that peft reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.training.conftest import Toy
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.models import building, forward, head, loading, lora, memory
from training.stages import adapters, dpo, four_models, ppo, reward, sft

pytestmark = pytest.mark.unit
ROWS = [[0, 3, 264, 265, 4, 261, 262, 0], [0, 3, 266, 4, 263, 0]]
RANK = 4


def home_of(toy: Toy) -> Path:
    """Apart from the toy's, whose newest checkpoints other tests read."""
    return toy.home.parent / "lora"


def options(toy: Toy, **changes: Any) -> dict[str, Any]:
    return {"model": str(toy.policy.path), "home": home_of(toy), "lora_rank": RANK, "learning_rate": 1e-2} | changes


def train(stage: str, toy: Toy, **changes: Any) -> Checkpoint:
    """A short run of a stage with adapters."""
    comparisons = {"data": (str(toy.home / "rankings.jsonl"),), "batch": 8}
    match stage:
        case "sft":
            demonstrations = (str(toy.home / "demonstrations.jsonl"),)
            return sft.train(sft.Config(data=demonstrations, epochs=1, batch=16, **options(toy, **changes)))
        case "reward":
            return reward.train(reward.Config(**comparisons, **options(toy, **changes)))
        case "dpo":
            return dpo.train(dpo.Config(**comparisons, **options(toy, **changes)))
    return ppo.train(ppo_config(toy, **changes))


def ppo_config(toy: Toy, **changes: Any) -> ppo.Config:
    more = {"value_learning_rate": 1e-2, "reward": (str(toy.reward.path),), "warmup_iterations": 0}
    prompts = (str(toy.home / "prompts.jsonl"),)
    return ppo.Config(
        prompts=prompts, iterations=2, batch=16, minibatch=8, max_tokens=9, **options(toy, **(more | changes))
    )


def outputs(model: Any, kind: str) -> torch.Tensor:
    with torch.no_grad():
        return forward.scores_of(model, ROWS) if kind == "reward" else forward.logits_of(model, ROWS)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_what_is_published_is_the_start_with_the_adapter_that_peft_reads(toy_chain: Toy, stage: str) -> None:
    checkpoint = train(stage, toy_chain)
    kind = checkpoint.manifest.kind
    adapter = checkpoint.path / lora.FOLDER
    assert lora.base_of(checkpoint.path) == toy_chain.policy.id == checkpoint.manifest.parents[0]
    assert f"{lora.FOLDER}/{lora.WEIGHTS}" in checkpoint.manifest.weights
    start = loading.load(str(toy_chain.policy.path), toy_chain.home).model
    if kind == "reward":
        start = building.new_scalar_head(str(toy_chain.policy.path), 1, checkpoint.manifest.seed or 0)
    before = outputs(start, kind)
    after = outputs(loading.load(checkpoint.id, home_of(toy_chain), kind).model, kind)
    assert (after - before).abs().max() > 1e-3
    by_peft = PeftModel.from_pretrained(start, adapter).eval()
    torch.testing.assert_close(outputs(by_peft.get_base_model(), kind), after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_only_matrices_inside_the_layers_change(toy_chain: Toy, stage: str) -> None:
    checkpoint = train(stage, toy_chain, seed=1)
    start = load_file(toy_chain.policy.path / "model.safetensors")
    for name, tensor in load_file(checkpoint.path / "model.safetensors").items():
        if name != "score.weight":
            adapted = name.endswith("proj.weight")
            assert torch.equal(tensor, start[name]) is not adapted, name


def test_two_runs_of_a_seed_are_alike_and_another_seed_differs(toy_chain: Toy) -> None:
    one, two, three = (
        load_file(train("dpo", toy_chain, seed=seed).path / lora.FOLDER / lora.WEIGHTS) for seed in (2, 2, 3)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)


def storages(*models: Any) -> set[int]:
    return {p.untyped_storage().data_ptr() for model in models for p in model.parameters()}


@pytest.mark.parametrize("adapted", [True, False])
def test_ppos_models_hold_common_weights_once(toy_chain: Toy, adapted: bool) -> None:
    scorer = train("reward", toy_chain, seed=4).id if adapted else str(toy_chain.reward.path)
    loaded = four_models.load(ppo_config(toy_chain, reward=(scorer,)))
    policy, value, reward_model = loaded.source.model, loaded.value, loaded.scorers[0].source.model
    body = len(storages(loaded.reference.base_model))
    assert storages(loaded.reference) <= storages(policy)
    assert len(storages(policy, loaded.reference, value, reward_model)) < (2 + (not adapted)) * body + 200
    assert (storages(loaded.reference.base_model) <= storages(value)) is adapted
    trained = [(m, {n for n, p in m.named_parameters() if p.requires_grad}) for m in (policy, value)]
    assert all(names and all("lora_" in n or n == "score.weight" for n in names) for _, names in trained)
    assert not any(p.requires_grad for m in (loaded.reference, reward_model) for p in m.parameters())
    ids = {id(p) for m in (loaded.reference, reward_model) for p in m.parameters()}
    assert not any(id(p) in ids for m, _ in trained for p in m.parameters() if p.requires_grad)
    torch.testing.assert_close(outputs(value, "reward"), outputs(reward_model, "reward"))
    whole = loading.load(scorer, home_of(toy_chain), "reward").model
    torch.testing.assert_close(outputs(value, "reward"), outputs(whole, "reward"), rtol=1e-4, atol=1e-4)


def test_gradients_and_moments_are_of_the_adapters_alone(toy_chain: Toy) -> None:
    model = loading.load(str(toy_chain.policy.path), toy_chain.home).model
    whole = memory.of_training(model)
    lora.add(model, RANK, 2.0 * RANK, 0)
    assert memory.of_training(model) < 0.2 * whole


def test_frozen_models_keep_their_head(toy_chain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded weights do not multiply in full precision, in which the head is tried out: it must have been before."""
    monkeypatch.setattr(building, "multiplies_in_bf16", lambda: True)
    loaded = four_models.load(ppo_config(toy_chain, lora_rank=0))
    shared = four_models.load(ppo_config(toy_chain))
    for model in (loaded.reference, shared.reference, shared.source.model):
        assert any(p.dtype == torch.bfloat16 for p in model.parameters())
        assert head.head_of(model) is not None
    own = [p for n, p in shared.source.model.named_parameters() if "lora_" in n]
    assert own
    assert all(p.dtype == torch.float32 for p in own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": -1}, "use a rank such as 16"),
        ({"lora_rank": 0, "lora_alpha": 8.0}, "--lora-alpha needs a --lora-rank"),
        ({"lora_alpha": 0.0}, "a number above 0"),
    ],
)
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_contradictions_are_refused(toy_chain: Toy, stage: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(stage, toy_chain, **changes)


def test_an_adapter_of_another_model_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    checkpoint = train("reward", toy_chain, seed=5)
    folder = tmp_path / "copy"
    (folder / lora.FOLDER).mkdir(parents=True)
    for file in (checkpoint.path / lora.FOLDER).iterdir():
        (folder / lora.FOLDER / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / lora.FOLDER / lora.WEIGHTS)
    tensors.pop(min(tensors))
    save_file(tensors, folder / lora.FOLDER / lora.WEIGHTS)
    base = loading.load(str(toy_chain.policy.path), toy_chain.home).model
    config = loading.load(checkpoint.id, home_of(toy_chain), "reward").model.config
    with pytest.raises(UserError, match="does not fit its model"):
        lora.load_over(base, folder, config)


def test_experts_without_adapters_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Experts that are one tensor for all of them are no matrices to peft."""
    sizes: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    }  # fmt: skip
    mixture = GptOssForCausalLM(GptOssConfig(num_local_experts=4, num_experts_per_tok=2, **sizes))
    dense = LlamaForCausalLM(LlamaConfig(**sizes))
    config = sft.Config(data=("x",), lora_rank=RANK)
    adapters.add(config, dense, "policy")
    assert lora.not_adapted(dense) == ([], 0.0)
    assert capsys.readouterr().err == ""
    adapters.add(config, mixture, "policy")
    names, share = lora.not_adapted(mixture)
    assert {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"} <= set(names)
    assert 0.5 < share < 1
    assert "mlp.experts.gate_up_proj" in capsys.readouterr().err
