"""Memory, context and threads of the engines of one machine, planned together before they start.

On CPU an engine takes what it is told for its key-value cache, and does not start when that holds less than one
request of its context. A fixed size is too much for some models and too little for others, hence a plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service.engines.failures import NoRoom
from service.settings import Settings
from training.artifacts import machine
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError

GIB = 2**30
SERVER_BYTES = int(1.5 * GIB)  # a vLLM server without weights and cache (measured: 1.2 to 1.4 GiB)
# vLLM's unit of the key-value cache on CPU, the smallest that its attention takes; it holds one block back. Prompts
# share whole blocks only, so small ones let the choices of a question share most of it.
BLOCK_TOKENS = 32
USABLE = 0.9  # share of the free memory that is planned
CONTEXTS = (2048, 1024, 512)  # what every engine gets before any gets more; the first that fits
SEQUENCES = 16  # requests of the first of these contexts that a cache holds where memory allows
LOGIT_TOKENS = 2048  # tokens whose logits fit beside the rest: evaluation asks for those of whole prompts
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class EngineNeeds:
    """What one engine takes, by its checkpoint.

    Attributes:
        id: the checkpoint's.
        context: greatest number of tokens of prompt and response together that is wanted.
        shortest: contexts below this are of no use: the probe must fit.
        weight_bytes: of the weights in the dtype that the engine computes in.
        cache_bytes: of keys and values per token, all layers.
        work_bytes: of activations per token of a prompt, which is taken in whole.
        logit_bytes: of log-probabilities per token of a prompt.
    """

    id: str
    context: int
    shortest: int
    weight_bytes: int
    cache_bytes: int
    work_bytes: int
    logit_bytes: int

    def request_bytes(self, context: int) -> int:
        """Memory for one request of that many tokens."""
        return self.least_cache(context) + context * self.work_bytes

    def least_cache(self, context: int) -> int:
        """The smallest key-value cache with which vLLM starts at that context."""
        return (math.ceil(context / BLOCK_TOKENS) + 2) * BLOCK_TOKENS * self.cache_bytes

    def context_within(self, size: int, least: int) -> int:
        """The longest context of whole blocks whose request takes at most `size` bytes, from `least` to the wanted."""
        per_block = BLOCK_TOKENS * (self.cache_bytes + self.work_bytes)
        blocks = (size - 2 * BLOCK_TOKENS * self.cache_bytes) // max(1, per_block)
        return max(least, min(self.context, blocks * BLOCK_TOKENS))


@dataclass(frozen=True)
class EnginePlan:
    """How one engine starts.

    Attributes:
        context: its --max-model-len.
        cache_bytes: its key-value cache; None leaves that to vLLM (on GPU).
        threads: its OpenMP threads; None leaves that to vLLM.
        total_bytes: memory that it will take; 0 where that is not planned.
        options: the checkpoint's own vLLM options, see `options.NAMES`.
    """

    id: str
    context: int
    cache_bytes: int | None = None
    threads: int | None = None
    total_bytes: int = 0
    options: Mapping[str, str | int] = field(default_factory=dict)


def plan(engines: Sequence[EngineNeeds], memory: int, cores: int) -> list[EnginePlan]:
    """Share memory (bytes) and cores among engines that start together; a plan per engine, in order.

    Each gets its weights and one request of 2,048 tokens (1,024 or 512 where memory is short). What is left is shared
    in proportion to what each could use: its whole context, and 16 requests at a time.

    Raises:
        NoRoom: memory does not hold them.
    """
    usable = int(memory * USABLE)
    for first in CONTEXTS:
        least = [min(engine.context, max(first, engine.shortest)) for engine in engines]
        needs = [
            SERVER_BYTES + engine.weight_bytes + engine.request_bytes(context)
            for engine, context in zip(engines, least, strict=True)
        ]
        if sum(needs) <= usable:
            break
    else:
        raise NoRoom(_too_much(engines, needs, memory))
    reserved = sum(min(engine.context, LOGIT_TOKENS) * engine.logit_bytes for engine in engines)
    spare = max(0, usable - sum(needs) - reserved)
    wishes = [_wish(engine, context) for engine, context in zip(engines, least, strict=True)]
    share = min(1.0, spare / max(1, sum(wishes)))
    plans = []
    for engine, context, need, wish in zip(engines, least, needs, wishes, strict=True):
        size = engine.request_bytes(context) + int(wish * share)
        longest = engine.context_within(size, context)
        cache = max(engine.least_cache(longest), size - longest * engine.work_bytes)
        threads = max(1, cores // len(engines))
        plans.append(EnginePlan(engine.id, longest, cache, threads, need + int(wish * share)))
    return plans


def _wish(engine: EngineNeeds, context: int) -> int:
    """Bytes that an engine could use beyond one request of `context` tokens."""
    several = SEQUENCES * min(engine.context, CONTEXTS[0]) * engine.cache_bytes
    whole = engine.request_bytes(engine.context)
    return max(0, max(whole, several + engine.context * engine.work_bytes) - engine.request_bytes(context))


def _too_much(engines: Sequence[EngineNeeds], needs: Sequence[int], memory: int) -> str:
    parts = [
        f"{engine.id} {need / GIB:.1f} GiB (weights {engine.weight_bytes / GIB:.1f})"
        for engine, need in zip(engines, needs, strict=True)
    ]
    return (
        f"memory does not hold these engines: they take {sum(needs) / GIB:.1f} GiB at least ({', '.join(parts)}) and "
        f"{memory * USABLE / GIB:.1f} of {memory / GIB:.1f} GiB free can be used: serve fewer or smaller models, "
        "or set ALIGNLOOP_DTYPE=bfloat16, which halves the weights"
    )


def plans_for(
    checkpoints: Sequence[Checkpoint], settings: Settings, *, on_cpu: bool, among: int = 0, taken: int = 0
) -> list[EnginePlan]:
    """Plans for engines that start now; settings that are given stand above what is planned.

    Args:
        among: engines that share the cores, these included; theirs alone if left out.
        taken: bytes of memory that other engines, which still start, are going to take.

    Raises:
        NoRoom: memory does not hold them.
        UserError: a setting contradicts a checkpoint.
    """
    needs = [needs_of(checkpoint, settings) for checkpoint in checkpoints]
    if not on_cpu:
        return [EnginePlan(engine.id, engine.context) for engine in needs]
    if settings.kv_cache_mib is None:
        plans = plan(needs, machine.memory() - taken, machine.cores())
    else:
        plans = [_with_cache(engine, settings.kv_cache_mib * 2**20) for engine in needs]
    for engine, one in zip(needs, plans, strict=True):
        if settings.max_model_len is not None and one.context < engine.context:
            raise UserError(
                f"{one.id}: there is room for a context of {one.context} tokens, less than ALIGNLOOP_MAX_MODEL_LEN="
                f"{settings.max_model_len}: lower it, or leave it out and the longest that fits is taken"
            )
    threads = settings.engine_threads or max(1, machine.cores() // max(among, len(needs)))
    return [replace(one, threads=threads) for one in plans]


def _with_cache(engine: EngineNeeds, cache_bytes: int) -> EnginePlan:
    """A plan around a cache of a given size."""
    context = min(engine.context, (cache_bytes // (BLOCK_TOKENS * max(1, engine.cache_bytes)) - 2) * BLOCK_TOKENS)
    if engine.least_cache(engine.context) <= cache_bytes:
        context = engine.context
    if context < min(engine.context, engine.shortest):
        raise UserError(
            f"{engine.id}: ALIGNLOOP_KV_CACHE_MIB={cache_bytes >> 20} holds less than a request of {engine.shortest} "
            f"tokens: set {math.ceil(engine.least_cache(engine.shortest) / 2**20)} or more, or leave it out"
        )
    total = SERVER_BYTES + engine.weight_bytes + cache_bytes + context * engine.work_bytes
    return EnginePlan(engine.id, context, cache_bytes, None, total)


def needs_of(checkpoint: Checkpoint, settings: Settings) -> EngineNeeds:
    """What an engine of this checkpoint takes, by its config.json, the size of its files and the settings."""
    manifest = checkpoint.manifest
    config = _config(checkpoint.path)
    size = DTYPE_BYTES.get("float32" if settings.dtype == "auto" else settings.dtype, 4)
    files = sum((checkpoint.path / name).stat().st_size for name in manifest.weights)
    stored = DTYPE_BYTES.get(str(getattr(config, "dtype", None) or "float32").removeprefix("torch."), 4)
    quantised = getattr(config, "quantization_config", None) is not None
    context = min(manifest.context, settings.max_model_len or manifest.context)
    rows = manifest.probe.get("ids") or []
    text = config.get_text_config()
    hidden = int(getattr(text, "hidden_size", 0) or 0)
    inner = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    vocabulary = int(getattr(text, "vocab_size", 0) or 0)
    return EngineNeeds(
        id=checkpoint.id,
        context=context,
        shortest=min(context, max([CONTEXTS[-1], *(len(row) + 1 for row in rows)])),
        weight_bytes=files if quantised else files * size // stored,
        cache_bytes=cache_bytes_per_token(text, size),
        work_bytes=4 * (10 * hidden + 3 * inner),
        logit_bytes=8 * vocabulary if manifest.kind == "policy" else 0,
    )


def cache_bytes_per_token(config: Any, size: int) -> int:
    """Bytes of keys and values per token. A layer with a window is counted like any other: prompts are taken in whole.

    Where layers of two kinds alternate (windows and full attention), vLLM gives each group as many layers as the
    smallest has, and so rounds their number up.
    """
    layers = int(getattr(config, "num_hidden_layers", 0) or 0)
    kinds = [kind for kind in getattr(config, "layer_types", None) or [] if kind.endswith("attention")]
    counts = [kinds.count(kind) for kind in set(kinds)]
    if len(counts) > 1:
        layers = sum(math.ceil(count / min(counts)) * min(counts) for count in counts)
    latent = int(getattr(config, "kv_lora_rank", 0) or 0)
    if latent:
        return layers * (latent + int(getattr(config, "qk_rope_head_dim", 0) or 0)) * size
    heads = int(getattr(config, "num_attention_heads", 0) or 1)
    width = int(getattr(config, "head_dim", None) or int(getattr(config, "hidden_size", 0) or 0) // heads)
    # Some configurations name no number, and some one per layer.
    groups = getattr(config, "num_key_value_heads", None) or heads
    groups = max(groups) if isinstance(groups, list | tuple) else int(groups)
    return layers * 2 * groups * width * size


def _config(folder: Path) -> Any:
    """The checkpoint's configuration, with the names that transformers gives to every architecture's sizes."""
    from transformers import AutoConfig  # takes seconds: only those who start engines pay for it

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder}/config.json cannot be used: {reason}") from None
