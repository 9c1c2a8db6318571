"""Families of chat templates with tokenizers that treat spaces and added tokens in ways of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.families import FAMILIES, generation_eos, tokenizer_of
from training.artifacts.rendering import Rendered, Renderer

pytestmark = pytest.mark.unit

PIECES = [name for name, family in FAMILIES.items() if family.kind == "pieces"]
KINDS: dict[str, dict[str, bool]] = {
    "plain": {},
    "tokens take in the blanks before them": {"lstrip": True},
    "tokens take in the blanks after them": {"rstrip": True},
    "a space after every special token": {"spaced": True},
    "the same, and tokens are known after a space alone": {"spaced": True, "normalized": True},
}
CASES = [(kind, name) for kind in KINDS for name in FAMILIES if name in PIECES or "spaced" not in KINDS[kind]]
ANSWERS = (
    "A cat.",
    " A cat",
    "\nA cat\n",
    "  A\ncat",
    "🐈 e\u0301 🐈",
    "\u0301A",
    "USER: q ASSISTANT: a",
    "\tA\r\n",
    "",
)


@pytest.mark.parametrize("kind, name", CASES)
def test_a_sampled_answer_s_text_is_scored_as_it_was_sampled(kind: str, name: str) -> None:
    """The text of a response is its content, and rendering that text again gives the sampled row."""
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family, **KINDS[kind])
    renderer = Renderer(tokenizer, stop_ids=generation_eos(family, tokenizer))
    question: dict[str, Any] = {"role": "user", "content": "Who are you?"}
    (prompt,) = renderer.prompts([[question]])
    assert isinstance(prompt, Rendered)
    for answer in ANSWERS:
        row = _row(renderer, [question, {"role": "assistant", "content": answer}])
        end = max(index for index, learned in enumerate(row.mask) if learned)
        response = row.ids[len(prompt.ids) : end + 1]
        assert response[-1] == renderer.stop_ids[0]
        assert not set(response[:-1]) & set(renderer.stop_ids)
        assert renderer.extend(prompt.ids, response) == row.ids
        text = renderer.answer(response)
        assert text.strip() == answer.strip()
        assert _row(renderer, [question, {"role": "assistant", "content": text}]) == row


def _row(renderer: Renderer, conversation: list[dict[str, Any]]) -> Rendered:
    (row,) = renderer.render([conversation], learn=True)
    assert isinstance(row, Rendered), row
    return row


def test_what_a_thought_leaves_of_a_sampled_answer_is_what_stands_in_its_channel() -> None:
    family = FAMILIES["Harmony"]
    tokenizer = tokenizer_of(family)
    renderer = Renderer(tokenizer, stop_ids=generation_eos(family, tokenizer))
    thought = "<|channel|>analysis<|message|>a question<|end|><|start|>assistant"
    sampled = tokenizer(f"{thought}<|channel|>final<|message|>A cat.<|return|>", add_special_tokens=False)["input_ids"]
    assert renderer.answer(sampled) == "A cat."
    assert renderer.answer(tokenizer("no header<|return|>", add_special_tokens=False)["input_ids"]) == "no header"
