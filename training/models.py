"""Models and tokenizers: loading by any reference, forward passes on ragged rows, optimizers, publishing."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging as transformers_logging

from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint, Kind
from training.artifacts.errors import UserError
from training.artifacts.prompts import render
from training.losses import token_logprobs

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
logging.getLogger("transformers").setLevel(logging.ERROR)

PROBES = 4  # conversations that a manifest keeps with their log-probabilities or rewards


@dataclass(frozen=True)
class Source:
    """A loaded model and where it came from.

    Attributes:
        path: its folder, or its hub id.
        checkpoint: None for a model without a manifest.
        base_model: name of the model at the root, where it was not trained here.
    """

    model: Any
    tokenizer: Any
    path: str
    checkpoint: Checkpoint | None
    base_model: str | None

    @property
    def key(self) -> str:
        """What tells it from any other: the checkpoint's id, or the path."""
        return self.checkpoint.id if self.checkpoint else self.path

    @property
    def parents(self) -> tuple[str, ...]:
        return (self.checkpoint.id,) if self.checkpoint else ()


def device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads() -> None:
    """One thread a core, unless OMP_NUM_THREADS says otherwise."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def autocast() -> AbstractContextManager[Any]:
    """bfloat16 where the hardware multiplies it natively, float32 elsewhere (emulated bfloat16 is slower)."""
    kind = device().type
    native = torch.cuda.is_bf16_supported() if kind == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=bool(native))


def load(name: str, home: Path, kind: Kind = "policy") -> Source:
    """Load a model by checkpoint id, stage, folder or hub id, in float32 on `device()`, without dropout.

    Raises:
        UserError: there is no such model, it has no tokenizer, or it is of the other kind.
    """
    checkpoint = _checkpoint(name, home)
    path = str(checkpoint.path) if checkpoint else name
    if checkpoint and checkpoint.manifest.kind != kind:
        raise UserError(f"{checkpoint.id} is a {checkpoint.manifest.kind} checkpoint, not a {kind} one")
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    try:
        model = auto.from_pretrained(path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {name!r} as a {kind} model: {str(error).splitlines()[0]}") from None
    base = checkpoint.manifest.base_model if checkpoint else name
    return Source(without_dropout(model).to(device()), tokenizer, path, checkpoint, base)


def _checkpoint(name: str, home: Path) -> Checkpoint | None:
    """The checkpoint of that name; None for a folder or hub id of a model without a manifest."""
    try:
        return checkpoints.resolve(name, home / "checkpoints")
    except UserError:
        is_folder = (Path(name) / "config.json").is_file()
        if is_folder or ("/" in name and name[0] not in "./~" and not Path(name).exists()):
            return None
        raise


def without_dropout(model: Any) -> Any:
    """Set every dropout to 0, so that training and evaluation give the same numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model


def new_llama(
    tokenizer: Any, *, width: int, layers: int, heads: int, feed_forward: int, context: int, std: float, seed: int
) -> Any:
    """A fresh Llama in float32, started so that it soon copies from its context (`_start_near_copying`).

    The output head is untied, as vLLM's weight reload needs on CPU.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        initializer_range=std,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _start_near_copying(LlamaForCausalLM(config)).to(device())


def _start_near_copying(model: Any) -> Any:
    """Let heads attend to like tokens and write what they attend to: the output head starts as a copy of the
    embedding, keys as queries, and the output projection as the transposed value projection.

    Measured at a million parameters, on text whose second half repeats random words: after 300,000 tokens the loss
    is 5.2 instead of 6.4; from a plain start copying had not begun after 3 million (as mimetic initialisation,
    Trockman and Kolter 2023, arXiv 2305.09828, does with the same matrices).
    """
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
    return model


def new_scalar_head(policy_path: str, pad_id: int, seed: int) -> Any:
    """The policy's body under a fresh scalar head `score` ~ N(0, 1 / sqrt(width + 1)), dropout off.

    `problem_type="regression"` makes vLLM serve the raw score: one label gets a sigmoid otherwise.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        policy_path, num_labels=1, problem_type="regression", pad_token_id=pad_id, dtype=torch.float32
    )
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise UserError(f"{policy_path} has no linear head named `score` as a classifier: use a Llama-like model")
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1))
    return without_dropout(model).to(device())


def freeze_embeddings(model: Any) -> None:
    """Leave the input embeddings and a language model's output head as they are.

    A small set of demonstrations or rankings moves the words that it holds and not the others; frozen, both stay
    alike, and what is learned of the ones carries over to the others.
    """
    model.get_input_embeddings().requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None:
        head.requires_grad_(False)


def context_of(model: Any) -> int:
    """Greatest number of tokens that the model takes."""
    return int(getattr(model.config, "max_position_embeddings", 0) or 2048)


def pad_right(rows: Sequence[Sequence[int | float]], value: int | float, dtype: torch.dtype = torch.long) -> Tensor:
    """Rows of different lengths as one tensor (rows, longest) on `device()`, filled up with `value`."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=dtype, device=device())


def logits_of(model: Any, rows: Sequence[Sequence[int]], first: int = 0) -> Tensor:
    """Logits of rows padded to the right, at positions `first` to the last but one.

    Shape (rows, longest - 1 - first, vocabulary). A causal model never looks right, so padding there changes
    nothing and no attention mask is needed. Only the asked positions go through the output head: the logits of
    whole sequences are what runs out of memory.
    """
    ids = pad_right(rows, 0)
    keep = torch.arange(first, ids.shape[1] - 1, device=ids.device)
    with autocast():
        return model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits


def response_logprobs(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of response tokens at a temperature: (rows, longest response), 0 at padding."""
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    first = min(len(p) for p in prompts) - 1
    logits = logits_of(model, rows, first)
    where, mask = _response_positions(prompts, responses)
    picked = logits[torch.arange(len(rows), device=logits.device)[:, None], where - 1 - first]
    return token_logprobs(picked, pad_right(responses, 0), temperature) * mask


def response_values(model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
    """Values before each response token is written: (rows, longest response), 0 at padding."""
    hidden = hidden_states(model, [[*p, *r] for p, r in zip(prompts, responses, strict=True)])
    where, mask = _response_positions(prompts, responses)
    picked = hidden[torch.arange(len(hidden), device=hidden.device)[:, None], where - 1]
    return model.score(picked.float()).squeeze(-1) * mask


def scores_of(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Raw reward of each row at its last real token: (rows,)."""
    hidden = hidden_states(model, rows)
    last = torch.tensor([len(row) - 1 for row in rows], device=hidden.device)
    picked = hidden[torch.arange(len(rows), device=hidden.device), last]
    return model.score(picked.float()).squeeze(-1)


def ranking_scores(model: Any, rankings: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """`scores_of` all responses of several prompts, one after the other, with each prompt computed once.

    A prompt and its K responses are one row, in which a response sees the prompt and itself: with short responses
    that is less than half the work. Where the model's attention takes no such mask, or a row would be longer than
    its context, each response is a row of its own.

    Args:
        rankings: for each prompt the rows of its responses, prompt included.
    """
    longest = max(sum(map(len, rows)) for rows in rankings)
    if model.config._attn_implementation != "sdpa" or longest > 4 * context_of(model):
        return scores_of(model, [row for rows in rankings for row in rows])
    shared = [_share_prefix(rows) for rows in rankings]
    ids = pad_right([row.ids for row in shared], 0)
    branch = pad_right([row.branch for row in shared], -1)
    places = torch.arange(ids.shape[1], device=ids.device)
    sees = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    with autocast():
        hidden = model.base_model(
            input_ids=ids,
            attention_mask=(sees & (places[None, :] <= places[:, None]))[:, None],
            position_ids=pad_right([row.positions for row in shared], 0),
            use_cache=False,
        ).last_hidden_state
    which = [number for number, row in enumerate(shared) for _ in row.ends]
    ends = [end for row in shared for end in row.ends]
    return model.score(hidden[which, ends].float()).squeeze(-1)


class _Shared(NamedTuple):
    """Rows with a common prefix as one. `branch` is 0 in the prefix, then 1, 2, ...; `ends` are last tokens."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    ends: list[int]


def _share_prefix(rows: Sequence[Sequence[int]]) -> _Shared:
    shortest = min(len(row) for row in rows) - 1
    common = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
    shared = _Shared(list(rows[0][:common]), list(range(common)), [0] * common, [])
    for number, row in enumerate(rows, start=1):
        shared.ids.extend(row[common:])
        shared.positions.extend(range(common, len(row)))
        shared.branch.extend([number] * (len(row) - common))
        shared.ends.append(len(shared.ids) - 1)
    return shared


def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """The body's last hidden states: (rows, longest, width)."""
    with autocast():
        return model.base_model(input_ids=pad_right(rows, 0), use_cache=False).last_hidden_state


def response_mask(responses: Sequence[Sequence[int]]) -> Tensor:
    """1 at real response tokens: (rows, longest response)."""
    return pad_right([[1.0] * len(r) for r in responses], 0.0, torch.float32)


def _response_positions(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Position of each response token in its row, clamped to the row at padding; and the mask."""
    mask = response_mask(responses)
    starts = torch.tensor([len(p) for p in prompts], device=mask.device)
    lengths = mask.sum(1).long()
    steps = torch.arange(mask.shape[1], device=mask.device)
    return starts[:, None] + torch.minimum(steps[None], lengths[:, None] - 1), mask


def batched(function: Any, size: int, *columns: Sequence[Any]) -> list[Tensor]:
    """Call `function` on slices of at most `size` rows, without gradients; the results row by row, on the CPU."""
    out: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(columns[0]), size):
            out.extend(function(*(column[start : start + size] for column in columns)).float().cpu())
    return out


def optimizer(
    groups: Iterable[tuple[Any, float]], betas: tuple[float, float] = (0.9, 0.95), decay: float = 0.0, eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW over (model, learning rate) pairs; each group remembers its peak rate for `set_rate`."""
    made = [
        {"params": [p for p in model.parameters() if p.requires_grad], "lr": rate, "peak": rate}
        for model, rate in groups
    ]
    return torch.optim.AdamW(made, betas=betas, weight_decay=decay, eps=eps, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def clip_gradients(parts: Iterable[Any], limit: float) -> float:
    """Scale the gradient of each model to a norm of at most `limit`. Returns the norm of the first."""
    norms = [nn.utils.clip_grad_norm_(part.parameters(), limit) for part in parts]
    return float(norms[0])


def cosine(step: int, total: int, floor: float = 0.1) -> float:
    """Factor that falls from 1 at step 0 to `floor` at the last step along a cosine."""
    done = step / max(1, total - 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def policy_probe(model: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids and the float32 log-probabilities of ids[1:], for the manifest."""
    return {
        "ids": [list(row) for row in rows],
        "logprobs": [row.tolist() for row in _each(rows, lambda row: _own_logprobs(model, row))],
    }


def reward_probe(model: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids and their raw float32 rewards, for the manifest."""
    rewards = [float(score) for score in _each(rows, lambda row: scores_of(model, [row])[0])]
    return {"ids": [list(row) for row in rows], "rewards": rewards}


def _own_logprobs(model: Any, row: Sequence[int]) -> Tensor:
    return token_logprobs(logits_of(model, [row])[0], torch.tensor(row[1:], device=device()))


def _each(rows: Sequence[Sequence[int]], function: Any) -> list[Tensor]:
    """Row by row in float32 whatever the hardware prefers."""
    with torch.no_grad(), torch.autocast(device().type, enabled=False):
        return [function(row) for row in rows]


def render_rows(
    tokenizer: Any, conversations: Iterable[Sequence[Mapping[str, str]]], context: int, count: int = PROBES
) -> list[list[int]]:
    """The first few conversations that fit the context, as token ids."""
    rows: list[list[int]] = []
    for messages in conversations:
        ids = render(tokenizer, messages).ids
        if len(ids) <= context:
            rows.append(ids)
        if len(rows) == count:
            break
    return rows


def publish(
    model: Any, tokenizer: Any, home: Path, *, generation: Mapping[str, Any] | None = None, **facts: Any
) -> Checkpoint:
    """Save model and tokenizer and publish them under `home`; `facts` go to `checkpoints.publish`."""
    store = home / "checkpoints"
    checkpoints.sweep(store)
    folder = checkpoints.staging(store)
    _quiet_generation_defaults(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return checkpoints.publish(
        folder, store, tokenizer=tokenizer, context=context_of(model), generation=generation, **facts
    )


def _quiet_generation_defaults(model: Any) -> None:
    """Sampling defaults live in the manifest alone: servers would apply those of generation_config.json as well."""
    defaults = getattr(model, "generation_config", None)
    for name in ("temperature", "top_p", "top_k", "do_sample", "max_length", "max_new_tokens"):
        if defaults is not None and hasattr(defaults, name):
            setattr(defaults, name, None)
