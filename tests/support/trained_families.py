"""A tiny base model of each family of chat templates, taken through the whole chain of stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.families import FAMILIES, generation_eos, tokenizer_of
from tests.support.tiny_models import CONTEXT
from tests.support.toy_world import answer, question, turns, write_jsonl
from training.artifacts import comparisons
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.files import lines_of
from training.stages import ppo, reward, sample, sft

QUESTIONS = [question(i) for i in range(24)]


@dataclass(frozen=True)
class Chain:
    """What the stages made of one family's base model.

    Attributes:
        home: where everything was written.
        samples: rows of `sample`: a prompt with its responses.
    """

    home: Path
    policy: Checkpoint
    samples: list[dict[str, Any]]
    reward: Checkpoint
    ppo: Checkpoint


def save_base(folder: Path, name: str, *, template: bool = True) -> Path:
    """A random two-layer Llama with the family's tokenizer, as transformers saves them; optionally without template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    ids = generation_eos(family, tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,  # heads of 32: vLLM's attention on CPU knows none smaller
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if ids:
        model.generation_config.eos_token_id = list(ids)
    model.save_pretrained(folder)
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def write_data(home: Path) -> None:
    """Demonstrations with answers that one model can learn, prompts, and rankings that prefer them."""
    demonstrations = [{"messages": turns(question(i), answer(i)), "user": f"u{i % 24}"} for i in range(48)]
    system = {"role": "system", "content": "be brief ."}
    for row in demonstrations[::4]:
        row["messages"] = [system, *row["messages"]]
    write_jsonl(home / "demonstrations.jsonl", demonstrations)
    write_jsonl(home / "prompts.jsonl", ({"id": f"p{i}", "messages": turns(q)} for i, q in enumerate(QUESTIONS)))
    rankings = [
        Comparison(
            id=f"c{i:02d}",
            messages=tuple(turns(question(i))),
            responses=(Response(answer(i)), Response("no ."), Response("the the the")),
            ranks=(1, 2, 3),
            user=f"u{i}",
        )
        for i in range(24)
    ]
    comparisons.freeze(rankings, home / "rankings.jsonl")


def run_chain(home: Path, name: str, **changes: Any) -> Chain:
    """Fine-tune until answers finish, sample, train a reward model, and four iterations of PPO.

    Args:
        changes: settings of `sft`.
    """
    write_data(home)
    base = save_base(home / "base", name, template="chat_template" not in changes)
    settings: dict[str, Any] = {"epochs": 30, "learning_rate": 5e-3, "batch": 16, "home": home} | changes
    policy = sft.train(sft.Config(data=(str(home / "demonstrations.jsonl"),), model=str(base), **settings))
    samples = sample.sample(
        sample.Config(
            prompts=(str(home / "prompts.jsonl"),), model=policy.id, k_min=2, k_max=2, max_tokens=48, home=home
        )
    )
    scorer = reward.train(
        reward.Config(
            data=(str(home / "rankings.jsonl"),), model=policy.id, learning_rate=1e-3, batch=8, epochs=2, home=home
        )
    )
    trained = ppo.train(
        ppo.Config(
            prompts=(str(home / "prompts.jsonl"),),
            model=policy.id,
            reward=(scorer.id,),
            iterations=4,
            batch=16,
            minibatch=8,
            learning_rate=1e-5,
            value_learning_rate=1e-4,
            max_tokens=48,
            home=home,
        )
    )
    return Chain(home, policy, [json.loads(line) for line in lines_of(samples)], scorer, trained)
