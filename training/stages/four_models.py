"""PPO's four models: policy, reference, reward and value model. With LoRA those of the same weights hold them once."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from training.artifacts.errors import UserError
from training.models import building, loading, lora
from training.models.loading import Source
from training.stages import adapters


class Config(adapters.Config, Protocol):
    @property
    def model(self) -> str: ...

    @property
    def reward(self) -> str: ...

    @property
    def home(self) -> Path: ...


class Loaded(NamedTuple):
    """The models, and where they came from. Policy and value model are trained, the others frozen.

    Attributes:
        source: the policy's; its model is the policy.
        reward_source: the reward model's; its model is the reward model.
    """

    source: Source
    reward_source: Source
    reference: Any
    value: Any


def load(config: Config) -> Loaded:
    """Load policy and reward model; the reference is the policy as it starts, and the value model the reward model.

    Raises:
        UserError: there is no such model, or the two have different tokenizers.
    """
    source = loading.load(config.model, config.home)
    if config.lora_rank == 0:
        reward_source = loading.load(config.reward, config.home, "reward")
        check_tokenizers(source.tokenizer, reward_source.tokenizer)
        reference, value = copy.deepcopy(source.model), copy.deepcopy(reward_source.model)
        adapters.freeze(config, source.model)
        adapters.freeze(config, value)
    else:
        reference = lora.share(source.model)
        adapters.add(config, source.model, "policy")
        over = dataclasses.replace(source, model=reference)
        reward_source = loading.load(config.reward, config.home, "reward", over=over)
        check_tokenizers(source.tokenizer, reward_source.tokenizer)
        value = lora.share(reward_source.model)
        if lora.is_adapted(value):
            lora.train(value)
            adapters.freeze(config, value)
        else:
            adapters.add(config, value, "value")
    building.freeze(reference)
    building.freeze(reward_source.model)
    return Loaded(source, reward_source, reference, value)


def check_tokenizers(policy: Any, reward: Any) -> None:
    """Raise `UserError` where policy and reward model would not read the same ids from a conversation."""
    if policy.get_vocab() != reward.get_vocab() or policy.chat_template != reward.chat_template:
        raise UserError("policy and reward model have different tokenizers: train the reward model from this policy")
