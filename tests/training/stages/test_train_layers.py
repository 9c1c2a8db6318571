"""Training of the last layers alone, in every stage and with adapters: what changes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
)

from tests.training.conftest import Toy
from tests.training.stages.test_lora import train
from training.artifacts.errors import UserError
from training.models import forward, layers, lora

pytestmark = pytest.mark.unit
SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, intermediate_size=64),
    "gpt-2": GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=2),
    "opt": OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32),
    "neox": GPTNeoXConfig(**SIZES, intermediate_size=64),
    "bloom": BloomConfig(vocab_size=50, hidden_size=32, n_layer=3, n_head=2),
    "gemma-3": Gemma3Config(  # with as many layers that read pictures
        text_config={**SIZES, "intermediate_size": 64, "head_dim": 16, "num_key_value_heads": 2},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    ),
}
AFTER = {  # parameters outside the layers that are trained
    "llama": {"model.norm.weight", "lm_head.weight"},
    "gpt-2": {"transformer.ln_f.weight", "transformer.ln_f.bias"},
    "opt": {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"},
    "neox": {"gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias", "lm_head.weight"},
    "bloom": {"transformer.ln_f.weight", "transformer.ln_f.bias"},
    "gemma-3": {"model.language_model.norm.weight"},
}


@pytest.fixture(scope="module")
def policy(toy_chain: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of three layers with the toy's tokenizer."""
    source, folder = toy_chain.policy.path, tmp_path_factory.mktemp("deep")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(source, num_hidden_layers=3)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_only_the_last_layer_changes(toy_chain: Toy, policy: Path, stage: str, rank: int) -> None:
    checkpoint = train(stage, toy_chain, model=str(policy), lora_rank=rank, train_layers=1)
    start, after = (load_file(folder / "model.safetensors") for folder in (policy, checkpoint.path))
    last = "layers.2."
    changes = {n for n, tensor in after.items() if n != "score.weight" and not torch.equal(tensor, start[n])}
    free = {"model.norm.weight", "lm_head.weight"}
    assert {name for name in changes if last not in name} <= (set() if rank else free)
    assert {name for name in start if last in name and "proj" in name} <= changes
    if rank:
        names = load_file(checkpoint.path / lora.FOLDER / lora.WEIGHTS)
        assert all(last in name or "score" in name for name in names)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_a_whole_model(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    rows, learned = [[3, 4, 5, 6], [7, 8]], [[1, 1, 1, 1], [1, 1]]
    forward.cross_entropy(model, rows, learned).backward()
    whole = {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    layers.freeze_below(model, 1)
    forward.cross_entropy(model, rows, learned).backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert any(".2." in n for n in trained)
    assert {n for n in trained if ".2." not in n} == AFTER[name]
    for n, gradient in trained.items():
        torch.testing.assert_close(gradient, whole[n])


def test_all_layers_with_adapters_are_what_is_trained_without_the_option(toy_chain: Toy, policy: Path) -> None:
    some, every = (train("dpo", toy_chain, model=str(policy), train_layers=number) for number in (3, None))
    one, two = (load_file(checkpoint.path / lora.FOLDER / lora.WEIGHTS) for checkpoint in (some, every))
    assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.parametrize(("count", "message"), [(0, "use at least 1"), (99, "the model has . layers: use fewer")])
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_numbers_of_layers_that_make_no_sense_are_refused(
    toy_chain: Toy, stage: str, rank: int, count: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(stage, toy_chain, lora_rank=rank, train_layers=count)
