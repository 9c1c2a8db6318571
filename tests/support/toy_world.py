"""A toy world of coloured animals: enough text, demonstrations, prompts and rankings to train one-layer models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.artifacts import comparisons
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Comparison, Response
from training.stages import pretrain, reward, sft, tokenizer

ANIMALS = ("cat", "dog", "cow", "owl", "fox", "hen", "pig", "bat")
COLOURS = ("red", "blue", "green", "black")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write one row per line and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turns(*texts: str) -> list[dict[str, str]]:
    """A conversation in which user and assistant take turns, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def question(i: int) -> str:
    return f"what colour is the {ANIMALS[i % 8]}" + " now" * (i % 3) + " ?"


def answer(i: int) -> str:
    return f"the {ANIMALS[i % 8]} is {COLOURS[i % 4]} ."


def make_home(home: Path) -> Path:
    """Write text, demonstrations, prompts and rankings to `home`, train a tokenizer of whole words, return `home`."""
    texts = [f"the {a} is {c} ." for a in ANIMALS for c in COLOURS] + [question(i) for i in range(24)]
    write_jsonl(home / "text.jsonl", ({"text": text} for text in texts))
    write_jsonl(
        home / "demonstrations.jsonl",
        ({"messages": turns(question(i), answer(i)), "user": f"u{i}"} for i in range(40)),
    )
    write_jsonl(home / "prompts.jsonl", ({"id": f"p{i}", "messages": turns(question(i))} for i in range(24)))
    rankings = [
        Comparison(
            id=f"c{i:02d}",
            messages=tuple(turns(question(i))),
            responses=tuple(Response(text) for text in (answer(i), "red", "the the the the", "no .")[: 3 + i % 2]),
            ranks=(1, 2, 3, 3)[: 3 + i % 2],
            user=f"u{i}",
            labeler_group="training",
        )
        for i in range(24)
    ]
    comparisons.freeze(rankings, home / "rankings.jsonl")
    held_out = [
        replace(ranking, id=f"v{ranking.id}", responses=ranking.responses[:-1], ranks=(ranking.ranks or ())[:-1])
        for ranking in rankings[:6]
    ]
    comparisons.freeze(held_out, home / "rankings-validation.jsonl")
    tokenizer.train(tokenizer.Config(data=(str(home / "text.jsonl"),), kind="words", vocab_size=512, home=home))
    return home


def pretrain_config(home: Path, **changes: Any) -> pretrain.Config:
    """Settings that pretrain a one-layer model in a second; `changes` replaces some of them."""
    settings: dict[str, Any] = {
        "data": str(home / "text.jsonl"),
        "tokenizer": str(home / "tokenizer" / "default"),
        "layout": "documents",
        "hidden_size": 16,
        "layers": 1,
        "heads": 2,
        "feed_forward": 32,
        "context": 32,
        "initial_std": 0.2,
        "tokens": 3000,
        "batch_tokens": 200,
        "learning_rate": 1e-2,
        "home": home,
    }
    return pretrain.Config(**(settings | changes))


def make_models(home: Path) -> tuple[Checkpoint, Checkpoint]:
    """Pretrain and fine-tune a policy and train a reward model, in the store of `home`."""
    pretrain.train(pretrain_config(home))
    policy = sft.train(
        sft.Config(data=(str(home / "demonstrations.jsonl"),), epochs=2, learning_rate=1e-2, batch=8, home=home)
    )
    scorer = reward.train(
        reward.Config(
            data=(str(home / "rankings.jsonl"),),
            validation=(str(home / "rankings-validation.jsonl"),),
            demonstrations=(str(home / "demonstrations.jsonl"),),
            learning_rate=5e-3,
            batch=8,
            epochs=6,
            home=home,
        )
    )
    return policy, scorer
