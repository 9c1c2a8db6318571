"""Rows of text: nothing lost, nothing cut that need not be, no more tokenized than is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.models import loading
from training.stages import pretrain

pytestmark = pytest.mark.unit
TEXTS = ["the cat is red ."] * 3 + ["the dog is blue ."] * 3


def test_documents_stand_between_their_begin_and_end(toy_home: Path) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))
    rows = pretrain.document_rows(tokenizer, TEXTS[:1], 32)
    assert tokenizer.convert_ids_to_tokens(rows[0])[:2] == ["<|endoftext|>", "Ġthe"]
    assert rows[0][-1] == tokenizer.eos_token_id
    cut = pretrain.document_rows(tokenizer, TEXTS[:1], 4)
    assert [token for row in cut for token in row] == rows[0]
    assert max(map(len, cut)) == 4


def test_packed_rows_are_full_and_lose_nothing(toy_home: Path) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))
    config = toy.pretrain_config(toy_home, layout="packed", context=10)
    rows = pretrain.training_rows(tokenizer, TEXTS, config)
    assert [len(row) for row in rows] == [10] * 4 + [2]
    single = pretrain.document_rows(tokenizer, TEXTS, 32)
    assert sorted(t for row in rows for t in row) == sorted(t for row in single for t in row)


def test_no_more_is_tokenized_than_used(toy_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))
    monkeypatch.setattr(pretrain, "ENCODED_AT_ONCE", 2)
    assert len(pretrain.training_rows(tokenizer, TEXTS, toy.pretrain_config(toy_home, tokens=10))) == 2
    assert len(pretrain.training_rows(tokenizer, TEXTS, toy.pretrain_config(toy_home))) == 6


def test_loss_is_the_mean_over_tokens_whatever_the_padding(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    rows = [[0, 261, 262, 0], [0, 263, 264, 265, 266, 267, 0], [0, 5]]
    alone = sum(float(pretrain.next_token_loss(model, [row]).detach()) for row in rows)
    torch.testing.assert_close(float(pretrain.next_token_loss(model, rows).detach()), alone, atol=1e-4, rtol=1e-5)
    assert pretrain.held_out_loss(model, rows, 8) == pytest.approx(alone / 10, rel=1e-5)


def test_the_run_uses_its_tokens_and_learns(toy_home: Path, tmp_path: Path) -> None:
    config = replace(toy.pretrain_config(toy_home), tokenizer=str(toy_home / "tokenizer" / "default"), home=tmp_path)
    made = pretrain.train(config)
    assert 3000 <= made.manifest.metrics["tokens"] <= 3000 + config.batch_tokens
    assert made.manifest.metrics["held_out_loss"] < 3.0  # log of the 278 tokens is 5.6
    assert made.manifest.stage == "pretrain"


def test_without_a_tokenizer_the_fix_is_named(toy_home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `python -m training tokenizer` first"):
        pretrain.train(replace(toy.pretrain_config(toy_home), home=tmp_path))
