"""Every stage that trains by gradient, on the toy world, in as many processes as the environment says.

`python -m tests.support.stages_in_ranks WORLD POLICY REWARD HOME none|fsdp [STAGE ...]`, under torchrun for several:
WORLD is the folder of the toy world, POLICY and REWARD are its models. Writes HOME/facts-RANK.json: for each stage the
checkpoint and what its optimizer was given, and how far passes of a divided model with tied embeddings are from those
of a whole one.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support import toy_world as toy
from training.artifacts import comparisons
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import run_command
from training.data.items import Example
from training.models import hardware, layers, optimization, sharding
from training.runtime import dtensors, ranks, runs
from training.stages import dpo, ppo, pretrain, reward, sft

TRAIN: dict[str, Callable[[Any], Checkpoint]] = {
    "pretrain": pretrain.train, "sft": sft.train, "reward": reward.train, "dpo": dpo.train, "ppo-ptx": ppo.train,
}  # fmt: skip
RANKINGS = "rankings-of-9.jsonl"


def write_rankings(file: Path) -> None:
    """Rankings of 4 and of 9 responses with ties, so many that the last step of 4 has one."""
    texts = ["red", "no .", "the the the the", "blue", "a cat", "the dog", "green .", "owl owl"]
    rankings = [
        Comparison(
            id=f"c{i:02d}",
            messages=tuple(toy.turns(toy.question(i))),
            responses=tuple(map(Response, [toy.answer(i), *texts][:k])),
            ranks=(1, 2, 2, 3, 4, 4, 4, 5, 6)[:k],
            user=f"u{i}",
        )
        for i, k in enumerate([4, 9, 4, 4, 9, 9, 4, 9, 4, 4, 9, 4, 9])
    ]
    comparisons.freeze(rankings, file)


def configs(world: Path, policy: str, scorer: str, home: Path, shard: str) -> dict[str, Any]:
    """Settings of each stage: a few steps, in each of them several passes, with what may differ between processes."""
    common: dict[str, Any] = {"home": home, "shard": shard, "tokens_per_pass": 64, "dtype": "float32"}
    ranked: dict[str, Any] = {
        "data": (str(home.parent / RANKINGS),),
        "validation": (str(world / "rankings-validation.jsonl"),),
        "batch": 4,
    }
    text = (str(world / "text.jsonl"),)
    base = toy.pretrain_config(world, tokens=1500)
    return {
        "pretrain": replace(base, tokenizer=str(world / "tokenizer" / "default"), **common),
        "sft": sft.Config(
            data=(str(world / "demonstrations.jsonl"),), model=policy, pretraining_data=text, pretraining_share=0.2,
            dropout=0.2, select_by="reward", reward=scorer, batch=7, learning_rate=1e-3, **common,
        ),
        "reward": reward.Config(model=policy, learning_rate=1e-3, epochs=2, **ranked, **common),
        "dpo": dpo.Config(model=policy, learning_rate=1e-3, lora_rank=4, **ranked, **common),
        "ppo-ptx": ppo.Config(
            prompts=(str(world / "prompts.jsonl"),), model=policy, reward=(scorer,), iterations=3, batch=8, minibatch=4,
            max_tokens=9, learning_rate=1e-3, value_learning_rate=1e-3, warmup_iterations=0, pretraining_data=text,
            ptx_coefficient=0.3, ptx_documents=3, kl_target=1.0, publish="best", held_out_every=2, **common,
        ),
    }  # fmt: skip


def error_of_tied_model(train_layers: int | None = None) -> float:
    """The largest difference of loss, gradients, and logits after a step, of a divided model of three layers from a
    whole one. The last process has no row of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=51, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if train_layers is not None:
        layers.freeze_below(model, train_layers)
    whole = copy.deepcopy(model)
    sharding.shard(model)
    examples = [Example(np.arange(1, 9), np.ones(8, np.uint8))]
    loss, expected = (sft.add_gradients(one, examples, 16) for one in (model, whole))
    alone = expected if ranks.is_main() else 0.0  # of the whole model, the last process has nothing
    optimization.add_up_gradients([model, whole])
    errors = [abs(ranks.total(loss) - ranks.total(alone))]
    pairs = zip(model.parameters(), whole.parameters(), strict=True)
    errors += [float((dtensors.full(p.grad) - q.grad).abs().max()) for p, q in pairs if p.grad is not None]
    for one in (model, whole):
        optimization.clip_gradients([one], 0.5)
        optimization.adamw([(one, 1e-2)], eps=1e-3).step()
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        logits = whole(ids).logits
        with sharding.whole(model):
            errors.append(float((model(ids).logits - logits).abs().max()))
        errors.append(float((sharding.gather(model)(ids).logits - logits).abs().max()))
    return max(errors)


def main() -> int:
    world, policy, scorer, home, shard, *stages = sys.argv[1:]
    facts: dict[str, Any] = {}
    stage = ""
    make_optimizer = optimization.adamw

    def noted(groups: Iterable[tuple[Any, float]], *arguments: Any, **keywords: Any) -> torch.optim.AdamW:
        groups = list(groups)
        parameters = [p for model, _ in groups for p in model.parameters()]
        facts[stage or "tied model"] = {
            "divided": all(map(dtensors.is_divided, parameters)),
            "held": sum(dtensors.local(p).nbytes for p in parameters) / sum(p.numel() * 4 for p in parameters),
        }
        return make_optimizer(groups, *arguments, **keywords)

    optimization.adamw = noted
    with ranks.group(), hardware.full_precision():
        if "DIES_IN_STEP" in os.environ:
            _die_in_step(int(os.environ["DIES_IN_STEP"]))
        if shard == "fsdp" and not stages:
            facts["tied"] = [error_of_tied_model(), error_of_tied_model(train_layers=2)]
        for stage, config in configs(Path(world), policy, scorer, Path(home), shard).items():
            if stage in stages or not stages:
                facts[f"{stage}/id"] = TRAIN[stage](config).id
                (Path(home) / f"facts-{ranks.rank()}.json").write_text(json.dumps(facts))
    return 0


def _die_in_step(number: int) -> None:
    """Save after every step, and kill the last process in the middle of one."""
    runs.SAVE_SECONDS, runs.SAVE_SHARE = 0.0, 1e9
    add_up, calls = optimization.add_up_gradients, iter(range(number))  # once per step

    def dying(models: Any) -> None:
        if next(calls, None) is None and ranks.rank() == ranks.count() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        add_up(models)

    optimization.add_up_gradients = dying


if __name__ == "__main__":
    sys.exit(run_command(main))
