"""Rows of text: nothing lost, nothing cut that need not be, no more tokenized than is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.models import loading
from training.stages import pretrain

pytestmark = pytest.mark.unit
TEXTS = ["the cat is red ."] * 3 + ["the dog is blue ."] * 3


def prepared(toy_home: Path, folder: Path, texts: Sequence[str] = TEXTS, **changes: Any) -> pretrain.Data:
    """These documents as pretraining reads them, beside one held-out document."""
    data = toy.write_jsonl(folder / "text.jsonl", ({"text": text} for text in texts))
    held_out = toy.write_jsonl(folder / "held-out.jsonl", [{"text": "the owl is green ."}])
    tokenizer = pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))
    config = toy.pretrain_config(toy_home, data=str(data), validation=str(held_out), **changes)
    return pretrain.prepare(replace(config, home=folder), tokenizer)


def lists(rows: Any) -> list[list[int]]:
    return [row.tolist() for row in rows]


def test_documents_stand_between_their_begin_and_end(toy_home: Path, tmp_path: Path) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))
    (row,) = lists(prepared(toy_home, tmp_path, TEXTS[:1]).training)
    assert tokenizer.convert_ids_to_tokens(row)[:2] == ["<|endoftext|>", "Ġthe"]
    assert row[-1] == tokenizer.eos_token_id
    data = prepared(toy_home, tmp_path, TEXTS[:1], context=4)
    assert [token for part in lists(data.training) for token in part] == row
    assert [len(part) for part in lists(data.training)] == [4, 3]
    assert data.usages[0].noted == {"split, as it is longer than the context of 4 tokens": 1}
    assert data.usages[0].skipped == {}


def test_packed_rows_are_full_and_lose_nothing(toy_home: Path, tmp_path: Path) -> None:
    packed = lists(prepared(toy_home, tmp_path, layout="packed", context=10).training)
    assert [len(row) for row in packed] == [10] * 4 + [2]
    single = lists(prepared(toy_home, tmp_path).training)
    assert sorted(t for row in packed for t in row) == sorted(t for row in single for t in row)


def test_no_more_documents_than_hold_the_tokens_of_the_run(toy_home: Path, tmp_path: Path) -> None:
    assert len(prepared(toy_home, tmp_path, tokens=10).training) == 2
    assert len(prepared(toy_home, tmp_path).training) == 6


def test_a_document_s_weight_is_how_often_it_is_used(toy_home: Path, tmp_path: Path) -> None:
    toy.write_jsonl(tmp_path / "more.jsonl", [{"text": "the pig is black ."}] * 4)
    data = toy.write_jsonl(tmp_path / "text.jsonl", ({"text": text} for text in TEXTS))
    held_out = toy.write_jsonl(tmp_path / "held-out.jsonl", [{"text": "the owl is green ."}])
    config = toy.pretrain_config(toy_home, data=(str(data), f"{tmp_path}/more.jsonl=0.5"), validation=str(held_out))
    rows = pretrain.prepare(config, pretrain.load_tokenizer(str(toy_home / "tokenizer" / "default"))).training
    assert len(rows) == 6 + 2


def test_text_that_is_held_out_and_trained_on_is_refused(toy_home: Path, tmp_path: Path) -> None:
    text = str(toy_home / "text.jsonl")
    with pytest.raises(UserError, match="is in the training data too"):
        pretrain.train(toy.pretrain_config(toy_home, validation=text))


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
        pretrain.train(replace(toy.pretrain_config(toy_home), tokenizer=str(tmp_path / "none")))


def test_an_existing_model_goes_on_with_its_own_tokenizer_and_sizes(toy_chain: Toy, tmp_path: Path) -> None:
    config = replace(toy.pretrain_config(toy_chain.home, tokens=600, learning_rate=1e-3, seed=3), home=tmp_path)
    start = str(toy_chain.policy.path)
    made = pretrain.train(replace(config, model=start, tokenizer="nowhere", hidden_size=64, layers=7))
    assert made.manifest.parents == (toy_chain.policy.id,)
    assert made.manifest.generation == toy_chain.policy.manifest.generation
    assert made.manifest.template_hash == toy_chain.policy.manifest.template_hash
    models = [loading.load(path, tmp_path).model for path in (start, str(made.path))]
    assert models[0].config.hidden_size == models[1].config.hidden_size
    fresh = pretrain.train(config)
    assert made.manifest.metrics["held_out_loss"] < fresh.manifest.metrics["held_out_loss"]
    changes = [(a - b).abs().max() for a, b in zip(*(model.parameters() for model in models), strict=True)]
    assert 0 < max(changes) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"model": "nothing"}, "no checkpoint 'nothing'"), ({"context": 64}, "beyond the 32 tokens that the model takes")],
)
def test_a_model_that_cannot_go_on_is_refused(toy_chain: Toy, changes: dict[str, Any], message: str) -> None:
    config = toy.pretrain_config(toy_chain.home, model=str(toy_chain.policy.path))
    with pytest.raises(UserError, match=message):
        pretrain.train(replace(config, **changes))
