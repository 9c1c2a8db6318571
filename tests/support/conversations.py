"""Short ways to write conversations for a renderer, and to look at what it makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.families import CHATML, Family, tokenizer_of
from training.artifacts.conversations import Refusal
from training.artifacts.rendering import Rendered, Renderer

PLAIN = Family(CHATML, "", "<|endoftext|>", ("<|im_start|>", "<|im_end|>"))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def with_template(template: str, **changes: Any) -> Any:
    return tokenizer_of(replace(PLAIN, template=template, **changes))


def one(renderer: Renderer, conversation: Any, *, learn: bool = True) -> Rendered:
    (row,) = renderer.render([conversation], learn=learn)
    assert isinstance(row, Rendered), row
    return row


def learned(tokenizer: Any, row: Rendered) -> str:
    return str(tokenizer.decode([i for i, mark in zip(row.ids, row.mask, strict=True) if mark]))


def codes(rows: list[Rendered | Refusal]) -> list[str]:
    return [row.code if isinstance(row, Refusal) else "" for row in rows]
