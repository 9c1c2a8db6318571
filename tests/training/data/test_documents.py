"""Where documents begin and end, in tokenizers of base and of chat models, and documents of any length."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from training.artifacts.errors import UserError
from training.data import documents
from training.data.documents import document_marks, encode_documents

pytestmark = pytest.mark.unit


def tokenizer(special: list[str], *, begins: str | None = None, **named: str) -> Any:
    """A tokenizer of single bytes with these special tokens, which come first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    if begins:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{begins} $A", special_tokens=[(begins, special.index(begins))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=raw, **named)


QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]


@pytest.mark.parametrize(
    "name, special, settings, turn_ends, begin, end",
    [
        ("a base model of GPT-2's kind", ["<|endoftext|>"], {"eos_token": "<|endoftext|>"}, (), (), 0),
        # Its begin token is named, but it puts none before text by itself.
        ("Pythia", QWEN, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, (), (), 0),
        ("Qwen, chat", QWEN, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, (2,), (), 0),
        ("Qwen, base", QWEN, {"eos_token": "<|endoftext|>"}, (2, 0), (), 0),
        (
            "Llama 3, chat",
            LLAMA,
            {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "begins": "<|begin_of_text|>"},
            (2,),
            (0,),
            1,
        ),
        ("Mistral", ["<s>", "</s>"], {"bos_token": "<s>", "eos_token": "</s>", "begins": "<s>"}, (1,), (0,), 1),
        ("its own names", ["<stop>", "<go>"], {"eos_token": "<stop>"}, (0,), (), 0),
        ("no eos, but the base model's token", QWEN, {}, (2,), (), 0),
    ],
)
def test_documents_end_as_the_base_model_s_did(
    name: str,
    special: list[str],
    settings: dict[str, str],
    turn_ends: tuple[int, ...],
    begin: tuple[int, ...],
    end: int,
) -> None:
    marks = document_marks(tokenizer(special, **settings), turn_ends)
    assert marks == (begin, end), name


def test_a_tokenizer_that_can_end_no_document_is_refused() -> None:
    with pytest.raises(UserError, match="has no token that ends a document: add an eos_token"):
        document_marks(tokenizer(["<|user|>"]))


def test_special_tokens_in_text_are_text() -> None:
    made = tokenizer(QWEN, eos_token="<|endoftext|>")
    (row,) = encode_documents(made, ["a<|im_end|>b"], document_marks(made))
    assert row[-1] == 0
    assert not {0, 1, 2} & set(row[:-1])
    assert made.decode(row[:-1]) == "a<|im_end|>b"


def test_a_long_document_is_encoded_in_pieces_that_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer(QWEN, eos_token="<|endoftext|>")
    texts = ["one two three four five six", "", "x" * 50, "seven"]
    marks = document_marks(made)
    whole = encode_documents(made, texts, marks)
    monkeypatch.setattr(documents, "PIECE_CHARACTERS", 12)
    pieces = documents._pieces(texts[0])
    assert len(pieces) > 2
    assert "".join(pieces) == texts[0]
    assert all(piece.startswith(" ") for piece in pieces[1:])
    assert max(map(len, documents._pieces("x" * 50))) == 12
    assert encode_documents(made, texts, marks) == whole
    assert encode_documents(made, [], marks) == []
