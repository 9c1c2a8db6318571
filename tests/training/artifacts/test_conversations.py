"""Conversations as plain text: text parts, weights, what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest

from training.artifacts.conversations import (
    Refusal,
    check_messages,
    find_control_string,
    merge_system,
    read_messages,
    sentence,
    sentence_with_place,
    text_of,
)
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(part: str) -> dict[str, str]:
    return {"type": "text", "text": part}


@pytest.mark.parametrize(
    "content, expected",
    [
        ("hi", "hi"),
        ("", ""),
        ([text("hi")], "hi"),
        ([text("one "), text("two")], "one two"),
        # Arrow fills in the columns that other parts have.
        ([{"type": "text", "text": "hi", "image_url": None}], "hi"),
        ([{"text": "hi"}], "hi"),
        ([], None),
        ([text("hi"), {"type": "image_url", "image_url": {"url": "x"}}], None),
        (["hi"], None),
        (["one ", text("two")], "one two"),
        ([5], None),
        ([{"type": "text", "text": None}], None),
        ({"text": "hi"}, None),
        (b"hi", None),
        (None, None),
        (5, None),
    ],
)
def test_text_is_a_string_or_a_list_of_text_parts(content: Any, expected: str | None) -> None:
    assert text_of(content) == expected


def test_messages_keep_role_text_and_weight_alone() -> None:
    given = [user([text("q")]) | {"name": "x"}, {"role": "assistant", "content": "a", "weight": 0, "annotations": []}]
    assert read_messages(given) == [user("q"), {"role": "assistant", "content": "a", "weight": 0.0}]
    assert read_messages(tuple(given)) == read_messages(given)


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "the conversation is empty"),
        (None, "the conversation is empty"),
        ("hello", "the conversation is empty"),
        ([{"role": "robot", "content": "x"}], "message 1 has role 'robot': use one of system, user, assistant"),
        ([user(None)], "message 1 has no text: `content` must be a string or a list of text parts"),
        ([{"role": "user"}], "message 1 has no text"),
        ([user("x"), {"content": "y"}], "message 2 has role None"),
        ([user("x"), {"role": ["user"], "content": "y"}], "message 2 has role ['user']"),
        ([user("x"), "y"], "message 2 is not an object"),
        (
            [user("x"), user([text("y"), {"type": "image_url"}])],
            "message 2 holds a part of type 'image_url'",
        ),
        ([user([{"type": "input_audio"}])], "message 1 holds a part of type 'input_audio'"),
        ([user("half \ud83d")], "message 1 holds half a character"),
        ([user("x"), user([text("\udc00")])], "message 2 holds half a character"),
    ],
)
def test_what_is_no_conversation_of_text_is_refused(messages: Any, message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_messages(messages)
    assert str(refused.value).startswith(message)


def test_a_whole_emoji_is_text() -> None:
    assert read_messages([user("\U0001f600 \ud7ff")]) == [user("\U0001f600 \ud7ff")]


def test_control_strings_are_found_the_longest_first() -> None:
    strings = ("<|end|>", "<|end|>>", "[X]")
    messages = [user("fine"), user("a <|end|>> b")]
    assert find_control_string(messages, strings) == Refusal("special_token", "<|end|>>")
    assert find_control_string([user("[X")], strings) is None
    assert find_control_string(messages, ()) is None


def test_equal_reasons_count_as_one_and_the_place_is_told_to_who_sent_it() -> None:
    first, second = Refusal("special_token", "</s>", 1), Refusal("special_token", "</s>", 7)
    assert first == second
    assert sentence(first) == sentence(second) == "contains the special token '</s>': remove it from the text"
    assert sentence_with_place(second) == "message 7 contains the special token '</s>': remove it from the text"
    assert sentence_with_place(Refusal("too_long", "256")) == "longer than 256 tokens"


def test_a_system_turn_is_put_before_the_first_question() -> None:
    system: Any = {"role": "system", "content": "Be brief."}
    question: Any = user("q")
    answer: Any = {"role": "assistant", "content": "a"}
    assert merge_system([system, question, answer]) == [user("Be brief.\n\nq"), answer]
    assert merge_system([system | {"content": " "}, question]) == [question]
    for unchanged in ([question, answer], [system], [system, answer], [question, system]):
        assert merge_system(unchanged) == unchanged
