"""Memory of a training run: planned before its first step, and passes that shrink where it runs out all the same."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from training.artifacts import machine
from training.artifacts.errors import UserError
from training.models import forward, hardware, head, sharding
from training.runtime import ranks

# At most, unless --tokens-per-pass says otherwise: enough to keep the device busy. A token's work grows with the square
# of a model's width, and what a pass costs beside that does not: a CPU is busy with 1,024 tokens of 256 numbers. On two
# cores with AVX2, models of 128, 256 and 512 took 0.75, 1.0 and 1.0 of the time of a step with 4,096 tokens instead.
TOKENS_PER_PASS = {"cpu": 1024, "cuda": 8192}
NARROW = 256
MOST_OF_NARROW = 4096
SHARE = 0.9  # of the free memory that a plan may use: allocators keep holes, and others live on the machine
ADAM = 2  # moments per trained parameter, each as large as it
LOGITS_COPIES = 4  # in float32: as the head gives them, their log-softmax, its gradient, that of the logits
SAMPLING_BYTES = 24  # per logit: as the head gives it, float32 logits, log-probabilities, probabilities, float64 sums
# What kernels and the allocator hold on to besides, as measured on CPUs with models of 23 million parameters: with
# float32 from 150 to 480 MB, the more where there is no AVX-512.
HELD = {"bfloat16": 400_000_000, "float32": 300_000_000}
MEASURED = (64, 128)  # tokens of the two rows whose difference tells what one more token takes

T = TypeVar("T")


class Need(NamedTuple):
    """Bytes that a run will take for something, beside what is loaded already."""

    what: str
    bytes: int


@dataclass
class Budget:
    """How many tokens, padding included, go forward at once. Memory that runs out halves it; numbers stay the same,
    but for the order of sums. A run saves it with its state, so that a resumed one takes the same passes: never more
    tokens than fit now, and those of the option where that was changed.

    Attributes:
        option: what --tokens-per-pass or --rollout-tokens said, None where it was left out.
    """

    tokens: int
    option: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "option": self.option}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["option"] == self.option:
            self.tokens = min(self.tokens, state_dict["tokens"])

    def run(self, models: Iterable[Any], work: Callable[[int], T]) -> T:
        """`work(tokens)`, and again with half as many tokens per pass for as long as memory runs out.

        Gradients that a failed attempt left in `models` are deleted: they must be empty when this is called. Of several
        processes all try again where memory runs out in one; so `work` must not exchange anything with the others.

        Raises:
            UserError: memory runs out with one row at a time, or where models are divided: the others wait for this
                process within their passes.
        """
        while True:
            result = None
            try:
                result = work(self.tokens)
                fits = True
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if sharding.is_in_use():
                    raise UserError(
                        f"out of memory in process {ranks.rank()}: run the same command with a --tokens-per-pass below "
                        f"{self.tokens}, which resumes from the last saved state"
                    ) from None
                fits = False
            if ranks.least(int(fits)):
                return cast(T, result)
            del result
            self._halve()
            for model in models:
                model.zero_grad(set_to_none=True)
            release()

    def _halve(self) -> None:
        if self.tokens <= 1:
            raise UserError(
                "out of memory with one row at a time: use a smaller --context, --checkpoint-activations, "
                "or a smaller model"
            )
        self.tokens //= 2


def release() -> None:
    """Give back what allocators hold on to of memory that is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the CPU under a limit of its addresses, had no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def free() -> int:
    """Bytes that this process may still take on `device()`; of a CPU's memory its part, where several share it."""
    if hardware.device().type == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return machine.memory() // ranks.on_this_machine()


def usual_tokens(model: Any) -> int:
    """Tokens per pass where nothing else is said and the memory takes them."""
    usual = TOKENS_PER_PASS[hardware.device().type]
    work = (int(model.config.get_text_config().hidden_size) / NARROW) ** 2
    return max(usual, min(MOST_OF_NARROW, int(usual / work)))


def of_training(model: Any, copies: int = 0) -> int:
    """Bytes of gradients, Adam's moments and copies of the trained weights, such as their moving average."""
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return int(trained) * (1 + ADAM + copies)


class Activations(NamedTuple):
    """What forward passes keep for their backward passes: bytes in any case, and for each token, padding included."""

    always: int
    per_token: int

    def of(self, tokens: int) -> int:
        return self.always + tokens * self.per_token


def activations_of(model: Any) -> Activations:
    """As measured on two short rows, without the output head (`of_head`).

    The gradients of one layer's activations are added: they are computed layer by layer. So are its activations, where
    a layer's are computed again (`checkpoint_activations`).
    """
    layers = max(1, int(model.config.get_text_config().num_hidden_layers))
    if not _checkpoints(model):
        whole = _measured(model)
        return Activations(whole.always, whole.per_token + whole.per_token // layers)
    outside = _measured(model)
    model.gradient_checkpointing_disable()
    inside = _measured(model)
    checkpoint_activations(model)
    return Activations(outside.always, outside.per_token + 2 * inside.per_token // layers)


def of_head(model: Any, tokens: int) -> int:
    """Bytes of the logits of a pass of so many tokens, or of a chunk of them, with what their gradient needs."""
    if model.get_output_embeddings() is None:
        return 0
    vocabulary = int(model.config.get_text_config().vocab_size)
    return min(tokens * vocabulary, head.CHUNK_LOGITS[hardware.device().type]) * 4 * LOGITS_COPIES


def of_kernels() -> int:
    """Bytes that kernels and the allocator hold on to."""
    if hardware.device().type != "cpu":
        return 0
    return HELD["bfloat16" if hardware.multiplies_in_bf16() else "float32"]


def cache_per_token(model: Any) -> int:
    """Bytes of the key-value cache for each token, as measured on two."""
    cache = DynamicCache(config=model.config)
    was_training = model.training
    model.eval()  # one that checkpoints its activations keeps no cache
    with torch.no_grad(), hardware.autocast():
        model(input_ids=torch.tensor([[0, 1]], device=hardware.device()), past_key_values=cache, use_cache=True)
    model.train(was_training)
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return int(sum(tensor.nbytes for tensor in tensors)) // 2


def of_rollout(model: Any, prompt: int, max_tokens: int) -> int:
    """Bytes for each response that is sampled: its cache, the pass over its prompt, a row of logits.

    The pass keeps nothing for a backward pass: it takes what one layer computes.
    """
    config = model.config.get_text_config()
    of_pass = activations_of(model).per_token // max(1, int(config.num_hidden_layers)) * prompt
    logits = int(config.vocab_size) * SAMPLING_BYTES
    return (prompt + max_tokens) * cache_per_token(model) + max(of_pass, logits)


def checkpoint_activations(model: Any) -> None:
    """Keep each layer's input alone for the backward pass, which computes the layer again."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()  # transformers checkpoints in training mode only; there is no dropout


def _checkpoints(model: Any) -> bool:
    return bool(model.is_gradient_checkpointing) and bool(model.training)


def _measured(model: Any) -> Activations:
    context = forward.context_of(model)
    fewer, more = (max(1, min(tokens, context * part // 2)) for part, tokens in enumerate(MEASURED, start=1))
    small, large = _size_of(model, fewer), _size_of(model, more)
    per_token = max(1, (large - small) // max(1, more - fewer))
    return Activations(max(0, small - fewer * per_token), per_token)


def _size_of(model: Any, tokens: int) -> int:
    """Bytes of the tensors that a forward pass of the body keeps, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = forward.hidden_states(model, [[place % 7 for place in range(tokens)]])
    size = sum(sizes.values())
    del hidden
    return size


def plan(
    needs: Sequence[Need],
    activations: Activations,
    *,
    longest: int,
    most: int,
    tokens: int | None,
    usual: int,
    available: int | None = None,
) -> tuple[Budget, str]:
    """How many tokens go forward at once, and a sentence that says what the run takes.

    Args:
        needs: what the run takes beside its passes.
        longest: tokens of the longest row, which goes forward in one piece.
        most: tokens of a step, at most.
        tokens: those of --tokens-per-pass; left out, the usual ones or as many as fit.
        usual: by `usual_tokens`.

    Raises:
        UserError: it does not fit.
    """
    available = free() if available is None else available
    usable = int(available * SHARE) - sum(need.bytes for need in needs)
    budget = tokens or usual
    while tokens is None and budget > longest and activations.of(min(budget, most)) > usable:
        budget //= 2
    largest = max(longest, min(budget, most))
    passes = Need(f"passes of {largest:,} tokens", activations.of(largest))
    total = sum(need.bytes for need in [*needs, passes])
    parts = ", ".join(f"{gigabytes(need.bytes)} {need.what}" for need in [*needs, passes] if need.bytes)
    sentence = f"memory: {gigabytes(total)} of {gigabytes(available)} free ({parts})"
    if passes.bytes > usable:
        raise UserError(f"this run does not fit into {sentence}: {_fix(activations, usable, longest, budget)}")
    return Budget(budget, tokens), sentence


def _fix(activations: Activations, usable: int, longest: int, budget: int) -> str:
    fitting = (usable - activations.always) // activations.per_token
    if fitting >= longest:
        return f"use --tokens-per-pass {fitting} or less, or leave it out"
    shorter = f"use --context {fitting}, " if fitting >= 64 else ""
    return f"{shorter or 'use '}--checkpoint-activations, a smaller model, or a machine with more memory"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size < 10e9 else f"{size / 1e9:.0f} GB"
