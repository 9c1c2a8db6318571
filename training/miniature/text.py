"""A response as words and punctuation, and what can be read off it without knowing the prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.miniature import lexicon

STOPS = (".", "?", "!")
ABSTAINING = ("not know", "nobody knows", "no one knows", "can not help", "will not help", "can not say")


@dataclass(frozen=True)
class Text:
    """A response in lower case.

    Attributes:
        tokens: words and punctuation in order.
        words: the words in order.
        vocabulary: the different words.
    """

    tokens: tuple[str, ...]
    words: tuple[str, ...]
    vocabulary: frozenset[str]

    @classmethod
    def of(cls, response: str) -> Text:
        tokens = tuple(re.findall(r"[a-z']+|[.?!,:;]", response.lower()))
        words = tuple(t for t in tokens if t[0].isalpha())
        return cls(tokens, words, frozenset(words))

    def without_rudeness(self) -> Text:
        """The same text without rude words and the `you` before them, so that its content can be judged alone."""
        tokens = list(self.tokens)
        for index, token in enumerate(self.tokens):
            if token in lexicon.RUDE:
                tokens[index] = ""
                back = index - 1
                while back >= 0 and not tokens[back]:
                    back -= 1
                if back >= 0 and tokens[back] == "you":
                    tokens[back] = ""
        return Text.of(" ".join(tokens))

    def has(self, phrase: str) -> bool:
        """The words of the phrase stand side by side in this order."""
        return f" {phrase} " in f" {' '.join(self.words)} "

    @property
    def rude(self) -> bool:
        return bool(self.vocabulary & lexicon.RUDE) or any(self.has(p) for p in lexicon.RUDE_PHRASES)

    @property
    def rude_words(self) -> int:
        """Number of rude words, a rude phrase counting once."""
        single = sum(word in lexicon.RUDE for word in self.words)
        return single + sum(self.has(phrase) for phrase in lexicon.RUDE_PHRASES)

    @property
    def abstains(self) -> bool:
        """Says that it does not know or will not help."""
        return any(self.has(phrase) for phrase in ABSTAINING)

    @property
    def ended(self) -> bool:
        """Ends with a full stop, a question mark or an exclamation mark."""
        return bool(self.tokens) and self.tokens[-1] in STOPS

    @property
    def sentences(self) -> int:
        """Number of sentences; an unfinished one counts."""
        return sum(t in STOPS for t in self.tokens) + (bool(self.tokens) and self.tokens[-1] not in STOPS)

    @property
    def repetitive(self) -> bool:
        """The same word twice in a row, or a word four times."""
        twice = any(a == b for a, b in zip(self.words, self.words[1:], strict=False))
        return twice or any(self.words.count(word) > 3 for word in self.vocabulary)
