"""Tokenizers: nothing is unknown, text comes back, prefixes of a conversation are stable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_models import row
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data.documents import document_marks, encode_documents
from training.stages import pretrain, tokenizer

pytestmark = pytest.mark.unit
TEXTS = ["the cat is red .", "who has the kite ?", "the dog has the red kite ."] * 5
CONVERSATION = [
    {"role": "system", "content": "be kind ."},
    {"role": "user", "content": "who has the kite ?"},
    {"role": "assistant", "content": "the dog has ."},
    {"role": "user", "content": "Ünknown wörds 42, 猫 !"},
]


@pytest.mark.parametrize("build", [tokenizer.whole_words, tokenizer.byte_pairs])
def test_any_text_comes_back(build: object) -> None:
    made = build(TEXTS, 600)
    for text in ["the red kite .", "the  Red\nKite's 猫 — 42 !", "x"]:
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert made.decode(ids, skip_special_tokens=True) == text
    assert made.pad_token_id not in (None, made.eos_token_id)


def test_a_common_word_is_one_token_wherever_it_stands() -> None:
    made = tokenizer.whole_words(TEXTS, 600)
    alone = made("kite", add_special_tokens=False)["input_ids"]
    inside = made("the kite .", add_special_tokens=False)["input_ids"]
    assert alone == inside[1:2]
    rendered = row(made, [{"role": "user", "content": "kite the"}], generation=True).ids
    assert rendered == [*made.convert_tokens_to_ids(["<|endoftext|>", "<|user|>"]), *alone, inside[0], 4]


@pytest.mark.parametrize("build", [tokenizer.whole_words, tokenizer.byte_pairs])
def test_the_assistant_s_tokens_are_its_words_and_its_end(build: object) -> None:
    made = build(TEXTS, 600)
    rendered = row(made, CONVERSATION, learn=True)
    written = [i for i, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    assert made.decode(written) == "the dog has .<|endoftext|>"
    assert Renderer(made).stop_ids == (made.eos_token_id,)
    prompt = row(made, CONVERSATION[:2], generation=True).ids
    assert rendered.ids[: len(prompt)] == prompt


def test_plain_text_begins_as_documents_do_in_pretraining() -> None:
    made = tokenizer.whole_words(TEXTS, 600)
    (document,) = encode_documents(made, ["the cat"], document_marks(made))
    assert made("the cat")["input_ids"] == document[:-1]
    assert document[-1] == made.eos_token_id


def test_the_vocabulary_keeps_to_its_size(tmp_path: Path) -> None:
    assert len(tokenizer.whole_words([f"word{i}" for i in range(900)], 500)) == 500
    (tmp_path / "text.txt").write_text("some words\n\nmore words")
    with pytest.raises(UserError, match="leaves no room"):
        tokenizer.train(tokenizer.Config(data=str(tmp_path / "text.txt"), vocab_size=100, home=tmp_path))


def test_saving_replaces_the_tokenizer_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words\n\nmore words")
    config = tokenizer.Config(data=str(tmp_path / "text.txt"), kind="words", vocab_size=300, home=tmp_path)
    assert tokenizer.train(config) == tokenizer.train(config) == tmp_path / "tokenizer" / "default"
    assert [p.name for p in (tmp_path / "tokenizer").iterdir()] == ["default"]
    assert len(pretrain.load_tokenizer(str(tmp_path / "tokenizer" / "default"))) == 261 + 3


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a//b", "/x"])
def test_a_name_that_leads_out_of_its_folder_replaces_nothing(tmp_path: Path, name: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXTS))
    with pytest.raises(UserError, match="is not a name inside the stage's folder"):
        tokenizer.train(tokenizer.Config(data=(str(text),), name=name, kind="words", vocab_size=512, home=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
