"""A text is scored whole and in pieces, and no word of it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judges.pieces import pieces

pytestmark = pytest.mark.unit


def tokens(text: str) -> int:
    """A token per three characters of a word, and two special ones."""
    return 2 + sum(-(-len(word) // 3) for word in text.split())


def test_a_short_text_and_its_sentences() -> None:
    assert pieces("One. Two!  Three?", tokens, 64) == ["One. Two!  Three?", "One.", "Two!", "Three?"]
    assert pieces("one of it", tokens, 64) == ["one of it"]
    assert pieces("", tokens, 64) == [""]
    assert pieces("a\nb", tokens, 64) == ["a\nb", "a", "b"]


def test_a_long_sentence_goes_in_windows_that_overlap() -> None:
    words = [f"w{n:02d}" for n in range(100)]
    parts = pieces(" ".join(words), tokens, 22)
    assert all(tokens(part) <= 22 for part in parts)
    # Any stretch of words shorter than half a window is whole in one of them.
    for start in range(len(words) - 7):
        assert any(" ".join(words[start : start + 7]) in part for part in parts)


@given(st.text(alphabet=st.sampled_from("ab .!?\n\u00e9\u4e8c"), max_size=300), st.integers(5, 40))
def test_every_character_is_in_a_piece_that_fits(text: str, limit: int) -> None:
    parts = pieces(text, tokens, limit)
    assert parts
    assert all(tokens(part) <= limit for part in parts)
    joined = "".join(parts)
    assert all(joined.count(character) >= text.count(character) for character in set(text) - set(" \n"))


def test_a_word_without_end_is_split() -> None:
    word = "".join(f"{n:03d}" for n in range(300))
    parts = pieces(word, tokens, 20)
    assert all(tokens(part) <= 20 for part in parts)
    assert set("".join(parts).replace(" ", "")) == set(word)
    assert sum(map(len, parts)) >= len(word)
