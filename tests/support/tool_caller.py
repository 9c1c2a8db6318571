"""A tiny policy that learned one thing: to call a tool twice, in Hermes' form, whatever it is asked."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.tiny_models import publish_tiny, sentences
from training.artifacts.checkpoints import Checkpoint

CONTEXT = 1024  # tokens: descriptions of tools are long, and this tokenizer knows few words
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
CALLS = ({"city": "Oslo", "warm": False}, {"city": "Rome", "warm": True})
TEXT = "\n".join(
    f'<tool_call>\n{{"name": "weather", "arguments": {json.dumps(arguments)}}}\n</tool_call>' for arguments in CALLS
)
STEPS = 250
BATCH = 8


def publish_caller(store: Path) -> Checkpoint:
    """Train and publish it; ten seconds on one core."""
    return publish_tiny(store, seed=9, context=CONTEXT, spread=0.02, train=_learn)


def _learn(model: Any, tokenizer: Any) -> None:
    """Teach the text by heart, after prompts of many lengths."""
    import torch

    answer = [*tokenizer(TEXT)["input_ids"], tokenizer.eos_token_id]
    prompts = _prompts(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    for _ in range(STEPS):
        rows = [[*next(prompts), *answer] for _ in range(BATCH)]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        labels = torch.full_like(ids, -100)
        for number, row in enumerate(rows):
            labels[number, len(row) - len(answer) : len(row)] = ids[number, len(row) - len(answer) : len(row)]
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss.item() < 0.01, f"it learned nothing by heart: {loss.item():.3f}"


def _prompts(tokenizer: Any) -> Iterator[list[int]]:
    rng = random.Random(0)
    texts = sentences(200, seed=20)
    while True:
        words = " ".join(rng.choices(texts, k=rng.randint(1, 8)))
        tool = {"type": "function", "function": {"name": "weather", "description": words, "parameters": SCHEMA}}
        turns = [{"role": "user", "content": rng.choice(texts)}]
        text = tokenizer.apply_chat_template(turns, tools=[tool], tokenize=False, add_generation_prompt=True)
        yield tokenizer(text)["input_ids"]
