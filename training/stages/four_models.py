"""PPO's models: policy, reference, reward and value models. With LoRA those of the same weights hold them once."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from training.artifacts.errors import UserError
from training.artifacts.loading import parse_mixture
from training.models import building, loading, lora
from training.models.loading import Source
from training.stages import adapters


class Config(adapters.Config, Protocol):
    @property
    def model(self) -> str: ...

    @property
    def reward(self) -> tuple[str, ...]: ...

    @property
    def reference(self) -> str | None: ...

    @property
    def home(self) -> Path: ...


class Scorer(NamedTuple):
    """A reward model, its weight in the sum of all, and whether it reads the policy's token ids."""

    source: Source
    weight: float
    reads_ids: bool


class Loaded(NamedTuple):
    """The models, and where they came from. Policy and value model are trained, the others frozen.

    Attributes:
        source: the policy's; its model is the policy.
        value_is_scorer: the value model starts from the first reward model, and not from the policy's body.
        keys: of all models that were loaded beside the policy.
    """

    source: Source
    scorers: tuple[Scorer, ...]
    reference: Any
    value: Any
    value_is_scorer: bool
    keys: list[str]


def load(config: Config) -> Loaded:
    """Load policy and reward models; the reference is the policy as it starts unless the options name another.

    The value model starts from the first reward model. Where that has another tokenizer than the policy, it starts
    from the policy's body with a fresh head.

    Raises:
        UserError: there is no such model, or the reference has another tokenizer than the policy.
    """
    source = loading.load(config.model, config.home)
    start = lora.share(source.model) if config.lora_rank > 0 else None
    own_reference = reference_of(config.reference, config.home, source)
    if own_reference is not None:
        reference = own_reference.model
    else:
        reference = copy.deepcopy(source.model) if start is None else start
    over = None if start is None else dataclasses.replace(source, model=start)
    adapters.add(config, source.model, "policy")
    names = (config.reward,) if isinstance(config.reward, str) else config.reward
    if not names:
        raise UserError("--reward names no reward model: give at least one")
    scorers = tuple(_scorer(name, weight, config, source, over) for name, weight in parse_mixture(names))
    value = _value(config, source, scorers[0])
    for model in (reference, *(scorer.source.model for scorer in scorers)):
        building.freeze(model)
    keys = [scorer.source.key for scorer in scorers] + ([own_reference.key] if own_reference else [])
    return Loaded(source, scorers, reference, value, scorers[0].reads_ids, keys)


def _scorer(name: str, weight: float, config: Config, policy: Source, over: Source | None) -> Scorer:
    source = loading.load(name, config.home, "reward", over=over)
    return Scorer(source, weight, have_same_ids(policy.tokenizer, source.tokenizer))


def _value(config: Config, policy: Source, first: Scorer) -> Any:
    if not first.reads_ids:
        value = building.new_scalar_head(policy.path, policy.tokenizer.pad_token_id, config.seed)
    elif config.lora_rank > 0:
        value = lora.share(first.source.model)
    else:
        value = copy.deepcopy(first.source.model)
    if lora.is_adapted(value):
        lora.train(value)
        adapters.freeze(config, value)
    else:
        adapters.add(config, value, "value")
    return value


def reference_of(name: str | None, home: Path, policy: Source) -> Source | None:
    """The reference that the options name; None where that is the policy as it starts.

    Raises:
        UserError: there is no such model, or it has another tokenizer than the policy.
    """
    if name is None:
        return None
    reference = loading.load(name, home)
    check_tokenizers(policy.tokenizer, reference.tokenizer, "reference")
    return reference


def have_same_ids(policy: Any, other: Any) -> bool:
    """Whether two tokenizers read the same ids from a conversation."""
    return bool(policy.get_vocab() == other.get_vocab() and policy.chat_template == other.chat_template)


def check_tokenizers(policy: Any, other: Any, what: str = "reward model") -> None:
    """Raise `UserError` where policy and another model would not read the same ids from a conversation."""
    if not have_same_ids(policy, other):
        raise UserError(f"policy and {what} have different tokenizers: train the {what} from this policy")
