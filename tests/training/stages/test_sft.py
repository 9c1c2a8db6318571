"""Supervised fine-tuning: what is learned from, what is mixed in, what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.models import loading
from training.stages import pretrain, sft

pytestmark = pytest.mark.unit


def config_of(chain: Toy, home: Path, **changes: Any) -> sft.Config:
    settings: dict[str, Any] = {
        "data": str(chain.home / "demonstrations.jsonl"),
        "model": str(chain.policy.path),
        "batch": 8,
        "epochs": 1,
        "learning_rate": 1e-3,
        "home": home,
    }
    return sft.Config(**(settings | changes))


def test_only_the_assistant_s_tokens_count(toy_chain: Toy) -> None:
    source = loading.load(toy_chain.policy.id, toy_chain.home)
    conversation = [*toy.turns(toy.question(0), toy.answer(0), toy.question(1), toy.answer(1))]
    (example,) = sft.examples_of(Renderer(source.tokenizer), [conversation], 64, Counter())
    logprobs = source.model(torch.tensor([example.ids])).logits[0, :-1].log_softmax(-1)
    picked = logprobs.gather(1, torch.tensor(example.ids[1:])[:, None])[:, 0]
    written = [toy.answer(0), toy.answer(1)]
    wanted = torch.tensor(example.mask[1:], dtype=torch.bool)
    told = source.tokenizer.decode([i for i, m in zip(example.ids, example.mask, strict=True) if m])
    assert told == "<|endoftext|> ".join(written) + "<|endoftext|>"
    torch.testing.assert_close(sft.loss_of(source.model, [example]), -picked[wanted].sum(), atol=1e-4, rtol=1e-5)


def test_what_cannot_be_used_is_counted(toy_chain: Toy) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_chain.policy.path))
    skipped: Counter[str] = Counter()
    found = sft.examples_of(
        Renderer(tokenizer),
        [toy.turns("a", "b"), toy.turns("a", "b <|user|> c"), toy.turns("a " * 40, "b"), toy.turns("a")],
        32,
        skipped,
    )
    assert len(found) == 1
    assert skipped == {
        "contains the special token '<|user|>': remove it from the text": 1,
        "longer than 32 tokens": 1,
        "nothing in it is to be learned": 1,
    }


def test_pretraining_text_makes_up_its_share(toy_chain: Toy, tmp_path: Path) -> None:
    made = sft.train(
        config_of(toy_chain, tmp_path, pretraining_data=str(toy_chain.home / "text.jsonl"), pretraining_share=0.2)
    )
    demonstrations = sft.train(config_of(toy_chain, tmp_path)).manifest.metrics["examples"]
    assert made.manifest.metrics["examples"] == demonstrations + round(demonstrations / 4)
    assert set(made.manifest.data) == {"demonstrations", "pretraining"}
    assert made.manifest.parents == (toy_chain.policy.id,)
    with pytest.raises(UserError, match="needs --pretraining-data"):
        sft.train(config_of(toy_chain, tmp_path, pretraining_share=0.1))


def test_held_out_loss_falls(toy_chain: Toy, tmp_path: Path) -> None:
    validation = str(toy_chain.home / "demonstrations.jsonl")
    once, more = (
        sft.train(config_of(toy_chain, tmp_path, epochs=epochs, validation=validation)).manifest.metrics
        for epochs in (1, 6)
    )
    assert more["validation_loss"] < once["validation_loss"]


def test_frozen_embeddings_stay_as_they_are(toy_chain: Toy, tmp_path: Path) -> None:
    before = loading.load(toy_chain.policy.id, toy_chain.home).model.state_dict()
    made = sft.train(config_of(toy_chain, tmp_path, freeze_embeddings=True))
    after = loading.load(made.id, tmp_path).model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}


def test_nothing_that_fits_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    path = toy.write_jsonl(
        tmp_path / "long.jsonl", ({"messages": toy.turns("a " * 40, "b"), "user": f"u{i}"} for i in range(60))
    )
    with pytest.raises(UserError, match="no demonstration fits"):
        sft.train(config_of(toy_chain, tmp_path, data=str(path)))
