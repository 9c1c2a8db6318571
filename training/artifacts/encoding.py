"""Text as token ids, with the places of characters: in bulk, and with a fallback for tokenizers that know no places."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from training.artifacts.conversations import strings_pattern
from training.artifacts.templates import encode

CACHED_LENGTH = 100  # characters; headers of turns repeat, whole conversations do not


class Encoded:
    """A text and its token ids.

    Args:
        encoding: of the tokenizer, for the text from `cut` on; None for a tokenizer that does not know places.
        head: token ids of the text before the character `cut`.

    Attributes:
        ids: token ids of the text.
        offsets: (start, end) in characters per token, where nothing was cut; None where they are not known.
    """

    def __init__(
        self, encoder: Encoder, text: str, ids: list[int], encoding: Any, head: Sequence[int] = (), cut: int = 0
    ) -> None:
        self._encoder = encoder
        self._encoding = encoding
        self._cut, self._head_tokens = cut, len(head)
        self.text = text
        self.ids = [*head, *ids] if head else ids

    def head(self, cut: int, place: int) -> list[int] | None:
        """Token ids of `text[:cut]`, where a control string starts at `cut` and parts the text up to `place` in two."""
        token = None if self.tokens_before(place) is None else self._token_at(cut)
        return None if token is None else self.ids[:token]

    def after(self, head: Sequence[int], before: str) -> Encoded:
        """This text after another one, whose token ids are known, where the two are encoded each by itself."""
        return Encoded(self._encoder, before + self.text, self.ids, self._encoding, head, len(before))

    @cached_property
    def offsets(self) -> list[tuple[int, int]] | None:
        return None if self._encoding is None or self._cut else list(self._encoding.offsets)

    @cached_property
    def _marks(self) -> list[int]:
        """Places of control strings. Tokenizers split a text there before they do anything else."""
        pattern = self._encoder.pattern
        return [] if pattern is None else [match.start() for match in pattern.finditer(self.text)]

    def tokens_before(self, place: int) -> int | None:
        """Number of tokens of `text[:place]`, if these tokens are exactly those of that text encoded alone.

        Only what follows its last control string is encoded again.
        """
        mark = bisect_left(self._marks, place)
        start = self._marks[mark - 1] if mark else 0
        first = 0
        token = self._token_at(start) if start else None
        if token is None:
            start = 0
        else:
            first = token
        segment = self._encoder.ids(self.text[start:place])
        last = first + len(segment)
        return last if self.ids[first:last] == segment else None

    def _token_at(self, place: int) -> int | None:
        """The token that holds the character at `place`; None where it is not known."""
        if self._encoding is None or place < self._cut:
            return None
        token = self._encoding.char_to_token(place - self._cut)
        return None if token is None else int(token) + self._head_tokens

    def tokens_through(self, place: int, *, whole: bool) -> int | None:
        """Number of tokens that end at or before the character `place`.

        Args:
            whole: a token ends there, even one that takes in the blank after it.
        """
        if self._encoding is None:
            return self.tokens_before(place)
        token = self._encoding.char_to_token(place - 1) if place else None
        if token is not None and whole:
            return int(token) + 1  # without `offsets`, whose list costs as much as encoding the text
        assert self.offsets is not None
        if token is None:
            return sum(end <= place for _, end in self.offsets)
        while token < len(self.ids) and self.offsets[token][1] <= place:
            token += 1
        return int(token)

    def first_inside(self, place: int) -> int | None:
        """The first token that starts after the character `place`: past one that lies across it."""
        if self.offsets is None:
            return None
        return next((i for i, (start, _) in enumerate(self.offsets) if start > place), len(self.ids))


class Encoder:
    """Encodes texts for one tokenizer."""

    def __init__(self, tokenizer: Any, control_strings: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.pattern = strings_pattern(control_strings) if control_strings else None
        self._cache: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """All texts at once."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        encodings = getattr(batch, "encodings", None) or [None] * len(texts)
        return [
            Encoded(self, text, list(ids), encoding)
            for text, ids, encoding in zip(texts, batch["input_ids"], encodings, strict=True)
        ]

    def encode_answers(self, texts: Sequence[tuple[str, str | None]]) -> Iterator[Encoded]:
        """Texts that may begin with a known prompt. One that follows another of the same prompt is encoded from the
        last control string of the prompt on; the ids before it are those of the other text.

        Args:
            texts: each with its prompt, or None to encode it as a whole.
        """
        cuts = [0] * len(texts)
        for index in range(1, len(texts)):
            prompt = texts[index][1]
            if prompt is not None and prompt == texts[index - 1][1]:
                cuts[index] = cuts[index - 1] or self._last_mark(prompt)
        parts = self.encode([text[cut:] for (text, _), cut in zip(texts, cuts, strict=True)])
        first: Encoded | None = None
        for (text, prompt), cut, part in zip(texts, cuts, parts, strict=True):
            if not cut or prompt is None:
                first = part
                yield part
            elif first is not None and (head := first.head(cut, len(prompt))) is not None:
                yield part.after(head, text[:cut])
            else:
                yield self.encode([text])[0]

    def _last_mark(self, text: str) -> int:
        """Place of the last control string."""
        places = [0] if self.pattern is None else [0, *(match.start() for match in self.pattern.finditer(text))]
        return places[-1]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text; short ones are remembered."""
        if not text:
            return []
        if text in self._cache:
            return self._cache[text]
        ids = encode(self.tokenizer, text)
        if len(text) <= CACHED_LENGTH and len(self._cache) < 10_000:
            self._cache[text] = ids
        return ids

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that continues another: without the space that some tokenizers put at a start."""
        if not self._adds_space:
            return self.ids(text)
        anchor = self.ids("\n")
        ids = self.ids(f"\n{text}")
        return ids[len(anchor) :] if ids[: len(anchor)] == anchor else self.ids(text)

    def text(self, ids: Sequence[int], prompt: str) -> str:
        """The text of token ids that continue a prompt's, special tokens left out: `continuation` turned round.

        A decoder drops the space of its first token, which is the prompt's or one that the tokenizer has put there.
        """
        anchor = self.ids("a") if self._adds_space and not self._adds_space_after(prompt) else []
        text = str(self.tokenizer.decode([*anchor, *ids], skip_special_tokens=True))
        return text[1:] if anchor else text

    def _adds_space_after(self, prompt: str) -> bool:
        """Whether what follows gets a space that no text has, as some tokenizers do it after special tokens."""
        last = self.tokenizer.convert_ids_to_tokens(self.ids(prompt + "a")[-1:])
        return not prompt.endswith(" ") and str(last[0]).startswith("▁")

    @cached_property
    def _adds_space(self) -> bool:
        """Whether a text's first token holds a space that is not in the text."""
        first = self.tokenizer.convert_ids_to_tokens(self.ids("a")[:1])
        return bool(first) and str(first[0]).startswith("▁")
