"""Every weight of a loaded model comes from its files, and the model is of the kind that was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForTokenClassification,
    MambaConfig,
    MambaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.support import architectures, tiny_models
from tests.support.architectures import CONFIGS, edit_weights, save
from training.artifacts.errors import UserError
from training.models import building, forward, loading, probes, publishing, shared_passes
from training.rl.rollouts import Sampling, generate

pytestmark = pytest.mark.unit
Tensors = dict[str, torch.Tensor]


def row_of(text: str = "the water is hot") -> list[int]:
    ids: list[int] = tiny_models.tokenizer()(text)["input_ids"]
    return ids


@pytest.mark.parametrize("kind", ["policy", "reward"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_model_of_any_architecture_is_loaded_as_transformers_does(tmp_path: Path, name: str, kind: Any) -> None:
    folder = save(tmp_path / "m", name, kind)
    model = loading.load(str(folder), tmp_path, kind).model
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    theirs = auto.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([row_of()])
    torch.testing.assert_close(model(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-6, rtol=1e-6)


# Buffers that older versions saved, by architecture: computed anew by today's, so they are no fault.
OLD_BUFFERS = {
    "llama": ["model.layers.0.self_attn.rotary_emb.inv_freq"],
    "gpt-neox": [
        "gpt_neox.layers.0.attention.masked_bias",
        "gpt_neox.layers.0.attention.bias",
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq",
    ],
    "gpt2": ["transformer.h.0.attn.masked_bias", "transformer.h.1.attn.bias"],
    "mistral": ["model.layers.1.self_attn.rotary_emb.inv_freq", "model.norm.num_batches_tracked"],
}


@pytest.mark.parametrize("name", OLD_BUFFERS)
def test_buffers_of_older_versions_are_no_fault(tmp_path: Path, name: str) -> None:
    folder = edit_weights(save(tmp_path / "m", name), lambda t: t | {key: torch.zeros(1) for key in OLD_BUFFERS[name]})
    loading.load(str(folder), tmp_path)


@pytest.mark.parametrize("name", ["llama-tied", "qwen2-tied", "gemma-tied", "gpt2"])
@pytest.mark.parametrize("present", [False, True])
def test_a_tied_head_may_be_in_the_files_or_not(tmp_path: Path, name: str, present: bool) -> None:
    folder = save(tmp_path / "m", name)
    names = set(load_file(folder / architectures.WEIGHTS))
    assert "lm_head.weight" not in names
    (embedding,) = (key for key in names if key.endswith(("embed_tokens.weight", "wte.weight")))
    if present:
        edit_weights(folder, lambda t: t | {"lm_head.weight": t[embedding].clone()})
    loading.load(str(folder), tmp_path)


def drop(word: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if word not in key}


def rename(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


def add(key: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {key: torch.zeros(shape)}


@pytest.mark.parametrize(
    "name, kind, change, message",
    [
        ("llama", "policy", drop("lm_head"), "lacks 1 weight, such as `lm_head.weight`: give a whole policy"),
        ("llama", "policy", drop("layers.1."), "lacks 9 weights, such as `model.layers.1.input_layernorm.weight`"),
        ("gpt-neox", "policy", drop("final_layer_norm"), "lacks 2 weights, such as `gpt_neox.final_layer_norm.bias`"),
        ("gpt2", "policy", drop("wpe"), "lacks 1 weight, such as `transformer.wpe.weight`"),
        ("qwen2-tied", "policy", drop("embed_tokens"), "lacks .* such as `"),
        ("gemma-tied", "policy", add("model.layers.2.mlp.up_proj.weight", 4), "1 weight that its config.json does not"),
        ("mistral", "policy", add("v_head.summary.weight", 1, 32), "such as `v_head.summary.weight`: save it as"),
        ("llama", "policy", add("model.layers.0.mlp.up_proj.lora_A.weight", 2, 2), "does not describe"),
        ("mistral", "policy", add("model.norm.weight", 7), r"`model.norm.weight` has shape \(7,\), by its config.json"),
        ("llama", "policy", rename("lm_head", "output"), "no weights for its head `lm_head.weight` but has `out"),
        ("llama", "reward", rename("score", "v_head"), "no weights for its head `score.weight` but has `v_head"),
        ("gpt2", "reward", rename("score", "classifier"), "but has `classifier.weight`: save its head under that name"),
        ("qwen2-tied", "reward", rename("score", "regression_head"), "but has `regression_head.weight`"),
        ("gemma-tied", "reward", drop("score"), "lacks 1 weight, such as `score.weight`: give a whole reward"),
        ("llama", "reward", add("score.weight", 1, 7), r"`score.weight` has shape \(1, 7\)"),
        ("gpt-neox", "reward", add("embed_out.weight", 2, 2), "does not describe, such as `embed_out.weight`"),
    ],
)  # fmt: skip
def test_weights_that_are_missing_left_over_or_of_another_shape_are_refused(
    tmp_path: Path, name: str, kind: Any, change: Callable[[Tensors], Tensors], message: str
) -> None:
    folder = edit_weights(save(tmp_path / "m", name, kind), change)
    with pytest.raises(UserError, match=message):
        loading.load(str(folder), tmp_path, kind)


def other(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


BERT = {"vocab_size": 400, **architectures.SIZE}
T5 = {"vocab_size": 400, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
OTHERS: dict[str, tuple[Callable[[Path], Path], Any, str]] = {
    "a classifier as policy": (lambda p: save(p, "llama", "reward"), "policy", "is a reward model .*, not a policy"),
    "a policy as reward model": (lambda p: save(p, "gpt2"), "reward", "is a policy model .GPT2LMHeadModel., not a"),
    "two labels": (lambda p: save(p, "llama", "reward", num_labels=2), "reward", "has 2 labels .* --label-weights"),
    "an encoder's classifier": (
        lambda p: other(p, BertForSequenceClassification(BertConfig(num_labels=1, **BERT))),
        "reward",
        "is an encoder .BertForSequenceClassification.",
    ),
    "an encoder that writes": (lambda p: other(p, BertLMHeadModel(BertConfig(**BERT))), "policy", "is an encoder"),
    "an encoder-decoder": (
        lambda p: other(p, T5ForConditionalGeneration(T5Config(**T5))),
        "policy",
        "is an encoder-decoder .T5ForConditionalGeneration.",
    ),
    "a tagger": (
        lambda p: other(p, LlamaForTokenClassification(LlamaConfig(vocab_size=400, **architectures.SIZE))),
        "reward",
        "neither writes nor scores text .LlamaForTokenClassification.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, case: str) -> None:
    make, kind, message = OTHERS[case]
    folder = make(tmp_path / "m")
    with pytest.raises(UserError, match=message):
        loading.load(str(folder), tmp_path, kind)


def test_quantised_weights_and_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "llama")
    config = folder / "config.json"
    plain = config.read_text()
    config.write_text(json.dumps(json.loads(plain) | {"quantization_config": {"quant_method": "awq", "bits": 4}}))
    with pytest.raises(UserError, match=r"has quantised weights .awq.: train the unquantised model"):
        loading.load(str(folder), tmp_path)
    config.write_text(plain)
    weights = folder / architectures.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="cannot be loaded as a policy model"):
        loading.load(str(folder), tmp_path)
    config.write_text('{"model_type": "nothing that exists"}')
    with pytest.raises(UserError, match=r"the config.json of .* cannot be used"):
        loading.load(str(folder), tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_scalar_head_stands_on_a_whole_body(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "m", name)
    model = building.new_scalar_head(str(folder), 1, seed=0)
    assert model.score.weight.shape == (1, 32)
    edit_weights(folder, drop(".1."))
    with pytest.raises(UserError, match="lacks"):
        building.new_scalar_head(str(folder), 1, seed=0)


@pytest.mark.parametrize(
    "name, kind, dtype",
    [
        ("llama", "policy", torch.bfloat16),
        ("qwen2-tied", "policy", torch.bfloat16),
        ("llama", "reward", torch.bfloat16),
        ("qwen2-tied", "policy", torch.float16),
        ("llama", "policy", torch.float32),
    ],
)
def test_weights_are_published_in_the_dtype_they_came_in(
    tmp_path: Path, name: str, kind: Any, dtype: torch.dtype
) -> None:
    """After a step of training in float32; the probe is of the rounded weights that are in the files."""
    folder = save(tmp_path / "m", name, kind, dtype)
    source = loading.load(str(folder), tmp_path, kind)
    assert {p.dtype for p in source.model.parameters()} == {torch.float32}
    with torch.no_grad():
        for parameter in source.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-3)
    probe = (probes.policy_probe if kind == "policy" else probes.reward_probe)(source.model, [row_of()])
    facts = {"reward_offset": 0.0} if kind == "reward" else {}
    published = publishing.publish(source.model, source.tokenizer, tmp_path, stage="x", kind=kind, probe=probe, **facts)
    tensors = load_file(published.path / architectures.WEIGHTS)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert ("lm_head.weight" in tensors) == (name == "llama" and kind == "policy")
    assert json.loads((published.path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert published.manifest.probe["dtype"] == "float32"
    assert {p.dtype for p in source.model.parameters()} == {torch.float32}
    again = loading.load(published.id, tmp_path, kind).model
    if kind == "policy":
        logprobs = again(input_ids=torch.tensor([row_of()])).logits[0].log_softmax(-1).detach()
        values = [float(logprobs[i, token]) for i, token in enumerate(row_of()[1:])]
        assert values == pytest.approx(published.manifest.probe["logprobs"][0], abs=1e-6)
    else:
        assert forward.scores_of(again, [row_of()]).item() == pytest.approx(published.manifest.probe["rewards"][0])


def test_a_new_head_comes_in_the_dtype_of_the_policy(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "llama", dtype=torch.bfloat16)
    model = building.new_scalar_head(str(folder), 1, seed=0)
    assert model.config.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_state_space_models_load_but_are_not_sampled_from(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4, tie_word_embeddings=False)
    folder = other(tmp_path / "m", MambaForCausalLM(config))
    model = loading.load(str(folder), tmp_path).model
    with pytest.raises(UserError, match="MambaForCausalLM has state-space, recurrent or convolution layers"):
        generate(model, [[1, 2], [3]], 1, Sampling(1.0, 4, (0,), 0))


@pytest.mark.parametrize(
    "layer_types, stateful",
    [
        (["full_attention", "sliding_attention"], False),
        (["chunked_attention", "full_attention"], False),
        (["linear_attention", "full_attention"], True),
        (["conv", "full_attention"], True),
        (["mamba", "full_attention"], True),
        (["recurrent", "sliding_attention"], True),
    ],
)
def test_hybrid_models_are_told_by_their_layers(layer_types: list[str], stateful: bool) -> None:
    class Config:
        def __init__(self) -> None:
            self.layer_types = layer_types

        def get_text_config(self) -> Config:
            return self

    class Model:
        config = Config()

    assert forward.is_stateful(Model()) is stateful


def test_layers_of_attention_are_sampled_from(tmp_path: Path) -> None:
    for name in CONFIGS:
        model = loading.load(str(save(tmp_path / name, name)), tmp_path).model
        assert not forward.is_stateful(model)
        assert len(generate(model, [[5, 6]], 1, Sampling(0.0, 2, (0,), 0)).ids) == 1


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox"])
def test_a_reward_model_whose_padding_ends_a_turn_is_scored_as_by_its_own_forward(tmp_path: Path, name: str) -> None:
    eos = tiny_models.tokenizer().eos_token_id
    folder = save(tmp_path / "m", name, "reward", pad_token_id=eos)
    model = loading.load(str(folder), tmp_path, "reward").model
    rows = [[*row_of("hot water"), eos], row_of("hot water"), [*row_of("so it is"), eos, eos], [eos, 7, eos, 8], [eos]]
    theirs = [model(input_ids=torch.tensor([row])).logits.item() for row in rows]
    assert theirs[0] == pytest.approx(theirs[1], abs=1e-5)
    assert forward.scores_of(model, rows).tolist() == pytest.approx(theirs, abs=1e-5)
    rankings = [[rows[0], [*row_of("hot time"), eos]], [rows[2], rows[3]]]
    flat = [row for ranking in rankings for row in ranking]
    expected = [model(input_ids=torch.tensor([row])).logits.item() for row in flat]
    assert shared_passes.ranking_scores(model, rankings).tolist() == pytest.approx(expected, abs=1e-5)
    probe = probes.reward_probe(model, rows[:1])
    assert probe["ids"] == [rows[1]]
    assert probe["rewards"] == pytest.approx(theirs[:1], abs=1e-5)


def test_a_folder_may_be_named_from_the_user_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "m", "llama")
    assert loading.load("~/m", tmp_path / "runs").model.config.model_type == "llama"


def test_a_hub_id_without_a_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"a/b is neither a checkpoint nor a folder here.*the network and HF_TOKEN$"):
        loading.load("a/b", tmp_path)
