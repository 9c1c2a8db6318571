"""Duplicates, the cap of a user, the split by user, personal information."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.artifacts.layouts.demonstrations import Demonstration
from training.artifacts.loading import Loaded
from training.data import hygiene

pytestmark = pytest.mark.unit


def demonstration(prompt: str, answer: str = "An answer.", user: str | None = None) -> Demonstration:
    return Demonstration(({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}), user)


def loaded(*records: Demonstration) -> Loaded[Demonstration]:
    return Loaded(list(records), "0" * 64, len(records) + 1, Counter({"a message is empty": 1}), "rows.jsonl")


def test_a_long_common_prefix_makes_a_duplicate() -> None:
    head = "Summarize the following long text in one short sentence for a reader who has little time: " + "x" * 110
    texts = [
        head + " A",  # 0
        "Translate to French: cat",  # 1
        head + " B",  # 2: shares 200 of 202 characters with 0
        "Translate to French: dog",  # 3: a short prompt that differs at its end is another task
        "translate  to french: CAT",  # 4: equal to 1 but for case and white space
        head + " C" * 100,  # 5: shares the prefix, but that is half of it
    ]
    assert hygiene.duplicates(texts) == {2, 4}


def test_the_thresholds_of_a_duplicate() -> None:
    assert hygiene.duplicates(["a" * 100 + "b" * 11, "a" * 100 + "c" * 11]) == {1}  # 100 of 111 is over 90 %
    assert hygiene.duplicates(["a" * 100 + "b" * 12, "a" * 100 + "c" * 12]) == set()  # 100 of 112 is not
    assert hygiene.duplicates(["a" * 99 + "b", "a" * 99 + "c"]) == set()  # 99 characters are too few


@pytest.mark.parametrize(
    "sentence",
    [
        "请为没有时间的读者把下面这篇很长的文章总结成一句简短的话",
        "時間のない読者のために次の長い文章を短い一文に要約してください",
        "โปรดสรุปข้อความยาวต่อไปนี้เป็นประโยคสั้นๆ",
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_text_without_blanks_is_measured_in_characters_too(sentence: str) -> None:
    head = (sentence * 9)[:200]
    assert hygiene.duplicates([head + "甲", head + "乙", head[:95] + "甲", head[:95] + "乙"]) == {1}
    assert hygiene.duplicates([head + "甲" * 20, head + "乙" * 20]) == {1}  # 200 of 220
    assert hygiene.duplicates([head + "甲" * 30, head + "乙" * 30]) == set()  # 200 of 230


@given(st.lists(st.text("ab ", max_size=6), max_size=12))
def test_the_first_of_equal_texts_stays(texts: list[str]) -> None:
    plain = [" ".join(text.lower().split()) for text in texts]
    expected = {i for i, text in enumerate(plain) if text in plain[:i]}
    assert hygiene.duplicates(texts) == expected


def test_repeats_and_the_cap_of_a_user_are_counted() -> None:
    many = [demonstration(f"Prompt {i}", user="u1") for i in range(203)]
    kept = hygiene.without_repeats(loaded(demonstration("Prompt 0", user="u2"), *many, demonstration("No user")))
    # Prompt 0 of u1 repeats that of u2; of the 202 others, 200 stay.
    assert Counter(record.user for record in kept.records) == {"u2": 1, "u1": 200, None: 1}
    assert kept.skipped == {
        "a message is empty": 1,
        "the prompt repeats an earlier one": 1,
        "more than 200 prompts of one user": 2,
    }
    assert kept.rows == 206


@pytest.mark.parametrize(
    "text, kinds",
    [
        ("write to jane.doe+x@mail.example.org today", ["an email address"]),
        ("an @ sign, a @handle and a@b", []),
        ("call (555) 010-9999", ["a phone number"]),
        ("call 555-010-9999 or 555.010.9999", ["a phone number"]),
        ("call +44 20 7946 0123", ["a phone number"]),
        ("call +1-800-555-0199", ["a phone number"]),
        ("in 2019-2020 it rose by 1,234,567.89 (3.14159265358979)", []),
        ("dates 2021-03-04, 12/31/1999 and IP 192.168.100.200", []),
        ("0 1 1 2 3 5 8 13 21 34 55 89 144 233", []),
        ("pay with 4111 1111 1111 1111", ["a card number"]),  # the test number of card networks
        ("pay with 4111-1111-1111-1111", ["a card number"]),
        ("pay with 378282246310005", ["a card number"]),
        ("pay with 4111 1111 1111 1112", []),  # wrong check digit
        ("a@b.com, 555-010-9999, 4111111111111111", ["an email address", "a phone number", "a card number"]),
    ],
)
def test_personal_information(text: str, kinds: list[str]) -> None:
    assert hygiene.personal_information(text) == kinds


def test_records_with_personal_information_are_left_out_and_counted() -> None:
    clean = demonstration("Hello")
    kept = hygiene.without_personal_information(loaded(clean, demonstration("Whose?", "It is me@example.org")))
    assert kept.records == [clean]
    assert kept.skipped == {"a message is empty": 1, "it contains an email address": 1}
    with pytest.raises(UserError, match="none of the 2 rows"):
        hygiene.without_personal_information(loaded(demonstration("me@example.org")))


def test_responses_of_a_comparison_are_searched_too() -> None:
    messages = ({"role": "user", "content": "hi"},)
    comparison = Comparison("a", messages, (Response("x"), Response("me@example.org")), ranks=(1, 2))
    assert "me@example.org" in hygiene.texts_of(comparison)


def test_no_user_is_on_both_sides_and_the_split_never_changes() -> None:
    records = [demonstration(f"Prompt {i}", user=f"u{i % 300}") for i in range(900)]
    train, validation = hygiene.split_by_user(records, 0.2)
    assert len(train) + len(validation) == 900
    assert not {r.user for r in train} & {r.user for r in validation}
    assert 0.13 < len(validation) / 900 < 0.27  # 300 users: four standard deviations are 0.09
    assert hygiene.split_by_user(records[::-1], 0.2) == (train[::-1], validation[::-1])
    assert hygiene.hash_fraction(demonstration("x", user="u1")) == 0x6DAF61BB15AA1C6E / 2**64  # sha256sum of 'user:u1'


def test_without_users_all_answers_to_a_prompt_are_on_one_side() -> None:
    records = [demonstration(f"Prompt {i // 3}", answer=f"Answer {i}") for i in range(300)]
    train, validation = hygiene.split_by_user(records, 0.3)
    assert validation
    assert not {hygiene.prompt_text(r) for r in train} & {hygiene.prompt_text(r) for r in validation}
    assert hygiene.split_by_user(records, 0.0) == (records, [])
