"""Rendering: ids, assistant mask, stop ids, and what is refused."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import checkpoints as tiny
from training.artifacts.conversations import refuse_special_tokens, render, special_strings, stop_ids, template_hash
from training.artifacts.errors import UserError
from training.data.rendering import usable_rows

pytestmark = pytest.mark.unit

# The same rendering as tiny.TEMPLATE, with the marks that transformers makes its own mask from.
MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Drops what the assistant said before, as templates of reasoning models do with thoughts.
REWRITING = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] != 'assistant' or loop.last %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REFUSING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x{% endfor %}"
)
TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "and now"},
    {"role": "assistant", "content": "go on"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


def words(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def test_the_mask_marks_what_the_assistant_writes_with_its_end(tokenizer: Any) -> None:
    system, user, assistant, end = tokenizer.convert_tokens_to_ids(
        ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    )
    expected = [(system, 0), *((i, 0) for i in words(tokenizer, "be brief"))]
    for said, answer in (("hello there", "hi"), ("and now", "go on")):
        expected += [(user, 0), *((i, 0) for i in words(tokenizer, said)), (assistant, 0)]
        expected += [*((i, 1) for i in words(tokenizer, answer)), (end, 1)]
    rendered = render(tokenizer, TURNS)
    assert list(zip(rendered.ids, rendered.assistant_mask, strict=True)) == expected
    assert rendered.stop_ids == [end]


def test_for_generation_it_ends_with_the_header_and_masks_nothing_new(tokenizer: Any) -> None:
    whole = render(tokenizer, TURNS)
    prompt = render(tokenizer, TURNS[:-1], generation=True)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.assistant_mask[: len(prompt.ids)] == prompt.assistant_mask
    assert all(whole.assistant_mask[len(prompt.ids) :])


@settings(max_examples=40)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=7))
def test_the_mask_equals_that_of_generation_marks(texts: list[str]) -> None:
    tokenizer = tiny_with(MARKED)
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    marked = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    rendered = render(tokenizer, turns)
    assert rendered.ids == marked["input_ids"]
    assert rendered.assistant_mask == marked["assistant_masks"]
    tokenizer.chat_template = tiny.TEMPLATE
    assert render(tokenizer, turns) == rendered


KEPT: list[Any] = []


def tiny_with(template: str) -> Any:
    """One tokenizer for all examples, with this template."""
    KEPT[:] = KEPT or [tiny.tokenizer()]
    KEPT[0].chat_template = template
    return KEPT[0]


def test_a_template_may_refuse_a_role() -> None:
    tokenizer, skipped = tiny_with(REFUSING), Counter[str]()
    with pytest.raises(UserError, match="the chat template refuses the conversation: no system"):
        render(tokenizer, TURNS)
    rows = usable_rows(tokenizer, [TURNS[1:], TURNS, TURNS[1:]], 100, skipped)
    assert [row is None for row in rows] == [False, True, False]
    assert skipped == {"the chat template refuses it": 1}


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(UserError, match="rewrites earlier turns"):
        render(tiny_with(REWRITING), TURNS)


def test_special_tokens_inside_a_message_are_refused(tokenizer: Any) -> None:
    assert set(special_strings(tokenizer)) == set(tiny.SPECIAL)
    for special in tiny.SPECIAL:
        turns = [{"role": "user", "content": "fine"}, {"role": "assistant", "content": f"so{special}it is"}]
        with pytest.raises(UserError, match="message 2 contains the special token"):
            render(tokenizer, turns)
        with pytest.raises(UserError, match="message 2 contains the special token"):
            refuse_special_tokens(tokenizer, turns)
    render(tokenizer, [{"role": "user", "content": "<|en d|> and <| user|> are plain text"}])


@pytest.mark.parametrize(
    "turns, message",
    [
        ([], "the conversation is empty"),
        ([{"role": "robot", "content": "x"}], "message 1 has role 'robot': use one of system, user, assistant"),
        ([{"role": "user", "content": None}], "message 1 has no text"),
        ([{"role": "user"}], "message 1 has no text"),
        ([{"role": "user", "content": "x"}, {"content": "y"}], "message 2 has role None"),
    ],
)
def test_malformed_conversations_are_refused(tokenizer: Any, turns: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render(tokenizer, turns)


def test_without_a_template_nothing_is_rendered() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = None
    assert template_hash(tokenizer) is None
    with pytest.raises(UserError, match="has no chat template"):
        render(tokenizer, TURNS)


def test_the_template_hash_is_that_of_its_text(tokenizer: Any) -> None:
    assert template_hash(tokenizer) == hashlib.sha256(tiny.TEMPLATE.encode()).hexdigest()
    assert template_hash(tiny_with(MARKED)) != template_hash(tokenizer)


def test_an_end_of_turn_token_that_the_template_writes_also_stops() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot_id|>"]})
    tokenizer.chat_template = tiny.TEMPLATE.replace("<|end|>", "<|im_end|>")
    # the end-of-sequence token first, then the one that the template uses; not the other
    assert stop_ids(tokenizer) == tokenizer.convert_tokens_to_ids(["<|end|>", "<|im_end|>"])
