"""Pretraining text as token ids: where a document begins and ends, and documents of any length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from training.artifacts.errors import UserError

PIECE_CHARACTERS = 1_000_000  # a longer document is encoded piece by piece: its ids are the same but at the seams
DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "[EOS]", "<eos>", "</s>")
"""End tokens of the base models that most chat models were tuned from."""


class DocumentMarks(NamedTuple):
    """The tokens around a document in pretraining text.

    Attributes:
        begin: ids that the tokenizer puts before plain text by itself, such as Llama's begin token; often none.
        end: id of the token between documents.
    """

    begin: tuple[int, ...]
    end: int


def document_marks(tokenizer: Any, turn_ends: Sequence[int] = ()) -> DocumentMarks:
    """How the tokenizer's base model marks documents.

    The end is the end-of-sequence token. In the tokenizers of many chat models that token ends a turn instead
    (Qwen's `<|im_end|>`, Llama 3's `<|eot_id|>`): after a document it would teach the model to
    end turns where none ends. Then the end is the base model's own, if the tokenizer still has it as a special token.

    Args:
        turn_ends: ids that end an assistant's turn in the chat template.

    Raises:
        UserError: the tokenizer has no token that can end a document.
    """
    eos = tokenizer.eos_token_id
    known = set(tokenizer.all_special_tokens) | {
        token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special
    }
    base_ends = [token for token in DOCUMENT_ENDS if token in known]
    if base_ends and (eos is None or eos in turn_ends):
        eos = tokenizer.convert_tokens_to_ids(base_ends[0])
    if eos is None:
        raise UserError("the tokenizer has no token that ends a document: add an eos_token to it, or name another")
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    begin = whole[: whole.index(bare[0])] if bare and bare[0] in whole else []
    return DocumentMarks(tuple(int(i) for i in begin), int(eos))


def encode_documents(tokenizer: Any, texts: Sequence[str], marks: DocumentMarks) -> list[list[int]]:
    """The ids of each document between its marks. Special tokens in the text are plain text."""
    pieces = [_pieces(text) for text in texts]
    flat = [piece for document in pieces for piece in document]
    encoded = iter(
        tokenizer(flat, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True)["input_ids"]
        if flat
        else ()
    )
    rows = []
    for document in pieces:
        row = list(marks.begin)
        for _ in document:
            row += next(encoded)
        rows.append([*row, marks.end])
    return rows


def _pieces(text: str) -> list[str]:
    """A text in pieces of about PIECE_CHARACTERS, cut before white space where there is any."""
    pieces, start = [], 0
    while len(text) - start > PIECE_CHARACTERS:
        space = re.compile(r"\s").search(text, start + PIECE_CHARACTERS // 2, start + PIECE_CHARACTERS)
        end = space.start() if space and space.start() > start else start + PIECE_CHARACTERS
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]
