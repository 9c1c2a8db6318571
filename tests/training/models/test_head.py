"""The output head on chosen tokens, chunk by chunk: the model's own logits, and the gradients of all at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from tests.training.conftest import Toy
from training.models import forward, head, loading
from training.rl.losses import token_logprobs

pytestmark = pytest.mark.unit
VOCABULARY = 300
PLAIN = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
OLDER = {"vocab_size": VOCABULARY, "n_embd": 32, "hidden_size": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
# Heads that do more than multiply (caps, scales), bodies that are called or answer in ways of their own, mixtures.
MODELS: dict[str, dict[str, Any]] = {
    "Llama": PLAIN,
    "Qwen3": PLAIN,
    "Gemma2": PLAIN | {"final_logit_softcapping": 0.5},
    "Granite": PLAIN | {"logits_scaling": 3.0},
    "Cohere": PLAIN | {"logit_scale": 0.3},
    "Mixtral": PLAIN,
    "GPTNeoX": PLAIN,
    "GPT2": OLDER,
    "Bloom": OLDER,
    "OPT": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 64,
    },
}  # fmt: skip
ROWS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [15, 16, 17, 18, 19]]
LEARNED = [[1, 0, 1, 1, 0, 1, 1], [0, 1, 1], [0, 0, 0, 0, 1]]


def small(name: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**MODELS[name])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def plain_cross_entropy(model: Any) -> torch.Tensor:
    """By the model's own logits, row by row."""
    total = torch.zeros(())
    for row, learned in zip(ROWS, LEARNED, strict=True):
        logprobs = token_logprobs(model(torch.tensor([row])).logits[0, :-1], torch.tensor(row[1:]))
        total = total - (logprobs * torch.tensor(learned[1:])).sum()
    return total


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_loss_is_that_of_the_models_own_logits(monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    model = small(name)
    assert head.head_of(model) is not None
    monkeypatch.setitem(head.CHUNK_LOGITS, "cpu", chunk * VOCABULARY)
    expected = plain_cross_entropy(model)
    ours = forward.cross_entropy(model, ROWS, LEARNED)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)
    wanted = gradients(model, 0.3 * expected)
    got = gradients(model, 0.3 * forward.cross_entropy(model, ROWS, LEARNED))
    assert got.keys() == wanted.keys()
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(got[parameter], gradient, atol=1e-5, rtol=1e-4, msg=parameter)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_responses_in_chunks_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    model = small("Gemma2")
    prompts, responses = [row[:2] for row in ROWS], [row[2:] for row in ROWS]
    factors = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))

    def loss() -> torch.Tensor:
        return (forward.response_logprobs(model, prompts, responses, 0.7) * factors).sum()

    expected, wanted = loss(), gradients(model, loss())
    monkeypatch.setitem(head.CHUNK_LOGITS, "cpu", chunk * VOCABULARY)
    torch.testing.assert_close(loss(), expected, atol=1e-5, rtol=1e-5)
    for parameter, gradient in gradients(model, loss()).items():
        torch.testing.assert_close(gradient, wanted[parameter], atol=1e-5, rtol=1e-4, msg=parameter)


def test_only_counted_tokens_get_logits_and_never_more_than_a_chunk(
    toy_chain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[:-1].numel()))
    forward.cross_entropy(model, ROWS, LEARNED)  # the first use compares the head with the model
    sizes.clear()
    forward.cross_entropy(model, ROWS, LEARNED).backward()
    assert sizes == [sum(sum(row[1:]) for row in LEARNED)]
    sizes.clear()
    monkeypatch.setitem(head.CHUNK_LOGITS, "cpu", 3 * model.config.vocab_size)
    forward.cross_entropy(model, ROWS, LEARNED).backward()
    assert sizes == [3, 3, 1]
    sizes.clear()
    forward.response_logprobs(model, [[5], [6, 7]], [[8, 9, 10], [11]]).sum().backward()
    assert sorted(sizes) == [1, 1, 3, 3]  # each chunk again for its gradient


def test_a_model_of_another_build_gets_all_logits_from_its_own_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("Llama")
    forward_pass = type(model).forward
    # A head that this one cannot know of: the model adds to its logits by position in the row.
    monkeypatch.setattr(type(model), "forward", lambda self, *a, **k: _shifted(forward_pass(self, *a, **k)))
    assert head.head_of(model) is None
    expected = plain_cross_entropy(model)
    torch.testing.assert_close(forward.cross_entropy(model, ROWS, LEARNED), expected, atol=1e-4, rtol=1e-5)


def _shifted(out: Any) -> Any:
    positions = torch.arange(out.logits.shape[1])[None, :, None]
    out.logits = out.logits + positions * torch.linspace(0, 1, VOCABULARY)
    return out


def test_new_embeddings_get_a_new_head() -> None:
    model = small("Llama")
    before = head.head_of(model)
    assert head.head_of(model) is before
    model.resize_token_embeddings(VOCABULARY + 4)
    logits = head.head_of(model)(inputs_embeds=torch.zeros(1, 1, 32), use_cache=False).logits
    assert logits.shape[-1] == VOCABULARY + 4
