"""The output head of a language model, applied to the tokens that count and to no more of them at once than fit.

Logits are what runs out of memory: one row of 2,048 tokens has 400 MB of them with a vocabulary of 49,152, and three
times as much while its gradient is computed.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import MoeModelOutputWithPast

from training.models.hardware import autocast, device, full_precision
from training.rl.losses import token_logprobs

CHUNK_LOGITS = {"cpu": 2**24, "cuda": 2**28}  # per chunk: 64 MB and 1 GB in float32

_heads: WeakKeyDictionary[nn.Module, tuple[Any, Any]] = WeakKeyDictionary()  # output embeddings, head


def head_of(model: Any) -> Any:
    """A module that makes logits of the body's last hidden states as the model does: `head(inputs_embeds=...)`.

    It is the model without its body, so that whatever its forward pass does to logits (a cap, a scale) is done here
    too. It shares the model's weights. None where the model is built otherwise, which one small input shows.
    """
    output = model.get_output_embeddings()
    of, head = _heads.get(model, (None, None))
    if of is not output:  # not seen before, or the vocabulary was resized
        head = copy.copy(model)
        head._modules = {**model._modules, model.base_model_prefix: _GivenStates()}
        if not _makes_the_same_logits(head, model):
            head = None
        _heads[model] = (output, head)
    return head


def logprobs_of_states(head: Any, hidden: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of the token that follows each of these hidden states: (N, width) and ids (N,) -> (N,).

    In chunks, where all logits at once would be more than CHUNK_LOGITS; the logits of a chunk are computed a second
    time for its gradient.
    """
    size = _chunk_of(head, hidden)
    if len(ids) <= size:
        return _logprobs(head, hidden, ids, temperature)
    parts = list(zip(hidden.split(size), ids.split(size), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([_logprobs(head, *part, temperature) for part in parts])
    return torch.cat([checkpoint(_logprobs, head, *part, temperature, use_reentrant=False) for part in parts])


def summed_cross_entropy(head: Any, hidden: Tensor, ids: Tensor) -> Tensor:
    """Sum of -log-probability over the tokens that follow these states, as `logprobs_of_states`, computed once.

    A sum's gradient is known up to its factor when its value is: each chunk gives both, and its logits are gone.
    """
    size = _chunk_of(head, hidden)
    if len(ids) <= size or not torch.is_grad_enabled():
        return -logprobs_of_states(head, hidden, ids).sum()
    weights = tuple(p for p in head.parameters() if p.requires_grad)
    loss: Tensor = _SummedCrossEntropy.apply(head, size, ids, hidden, *weights)  # type: ignore[no-untyped-call]
    return loss


class _SummedCrossEntropy(torch.autograd.Function):
    """Value and gradients of the summed cross-entropy, chunk by chunk, in the forward pass."""

    @staticmethod
    def forward(ctx: Any, head: Any, size: int, ids: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        of_states = torch.empty_like(hidden)
        of_weights: list[Tensor | None] = [None] * len(weights)
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_()
                loss = -_logprobs(head, states, ids[part]).sum()
                gradients = torch.autograd.grad(loss, (states, *weights), allow_unused=True)
            total += loss.detach()
            of_states[part] = gradients[0]
            for place, gradient in enumerate(gradients[1:]):
                if gradient is not None:
                    earlier = of_weights[place]
                    of_weights[place] = gradient if earlier is None else earlier.add_(gradient)
        ctx.gradients = (of_states, *of_weights)
        return total

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if gradient is None else gradient.mul_(factor) for gradient in ctx.gradients)
        return (None, None, None, *gradients)


def _logprobs(head: Any, states: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    with autocast():
        # Not `head(...)`: it shares the model's hooks, such as those that gather divided weights for the whole model.
        logits = head.forward(inputs_embeds=states[None], use_cache=False).logits[0]
    return token_logprobs(logits, ids, temperature)


def _chunk_of(head: Any, hidden: Tensor) -> int:
    """Tokens per chunk."""
    return max(1, CHUNK_LOGITS[hidden.device.type] // int(head.config.get_text_config().vocab_size))


class _GivenStates(nn.Module):
    """In place of a body: its "embeddings" are its last hidden states."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "decoder", self)  # models such as OPT call their body's decoder

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> _States:
        return _States(last_hidden_state=inputs_embeds)


class _States(MoeModelOutputWithPast):  # type: ignore[misc]
    def __getattr__(self, name: str) -> None:
        """Nothing, for what else some bodies return (cross-attentions, states of a cache)."""
        if name.startswith("_"):
            raise AttributeError(name)


def _makes_the_same_logits(head: Any, model: Any) -> bool:
    """Whether it does for three states, given in another order than the model has them."""
    ids, order = torch.tensor([[0, 1, 2]], device=device()), [2, 0, 1]
    with torch.no_grad(), full_precision():
        try:
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            ours = head(inputs_embeds=hidden[:, order], use_cache=False).logits
            return torch.allclose(ours, model(ids, use_cache=False).logits[:, order], rtol=1e-4, atol=1e-4)
        except (AttributeError, TypeError, RuntimeError, ValueError):  # bodies that are called or answer otherwise
            return False
