"""Supervised fine-tuning: what is learned from, what is mixed in, what is left out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import reading, rendering
from training.data.items import Example, Examples, Rows
from training.models import loading
from training.stages import limits, pretrain, sft

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


def rendered(chain: Toy, folder: Path, conversations: list[Any], context: int = 64, **options: Any) -> Rows[Examples]:
    """These conversations as fine-tuning reads them."""
    path = toy.write_jsonl(folder / "rows.jsonl", ({"messages": messages} for messages in conversations))
    selection = reading.select(reading.DEMONSTRATIONS, str(path), **options)
    renderer = Renderer(pretrain.load_tokenizer(str(chain.policy.path)))
    return rendering.demonstrations(folder, selection, renderer, context)


def test_only_the_assistant_s_tokens_count(toy_chain: Toy, tmp_path: Path) -> None:
    source = loading.load(toy_chain.policy.id, toy_chain.home)
    conversation = [*toy.turns(toy.question(0), toy.answer(0), toy.question(1), toy.answer(1))]
    (example,) = rendered(toy_chain, tmp_path, [conversation]).items
    ids, mask = example.ids.tolist(), example.mask.tolist()
    logprobs = source.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    picked = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    learned = source.tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    assert learned == "<|endoftext|> ".join([toy.answer(0), toy.answer(1)]) + "<|endoftext|>"
    expected = -picked[torch.tensor(mask[1:], dtype=torch.bool)].sum()
    torch.testing.assert_close(sft.loss_of(source.model, [example]), expected, atol=1e-4, rtol=1e-5)


def test_a_turn_of_weight_zero_is_context(toy_chain: Toy, tmp_path: Path) -> None:
    conversation = toy.turns(toy.question(0), "wrong .", toy.question(1), toy.answer(1))
    conversation[1] |= {"weight": 0}
    (example,) = rendered(toy_chain, tmp_path, [conversation]).items
    tokenizer = pretrain.load_tokenizer(str(toy_chain.policy.path))
    learned = example.ids[example.mask == 1].tolist()
    assert tokenizer.decode(learned) == toy.answer(1) + "<|endoftext|>"


def test_what_cannot_be_used_is_counted(toy_chain: Toy, tmp_path: Path) -> None:
    rows = rendered(
        toy_chain,
        tmp_path,
        [toy.turns("a", "b"), toy.turns("a", "b <|user|> c"), toy.turns("a " * 40, "b"), toy.turns("a")],
        32,
    )
    usage = rows.usage
    assert len(rows) == usage.used == 1
    assert usage.rows == 4
    assert usage.skipped["contains the special token '<|user|>': remove it from the text"] == 1
    assert usage.skipped["longer than 32 tokens"] == 1
    assert sum(usage.skipped.values()) == 3
    assert usage.sentence().startswith("demonstrations: used 1 of 4 rows; left out: 1 x ")


def test_before_training_one_line_says_what_was_used(
    toy_chain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=60)
    monkeypatch.setattr(limits, "CONSOLE", console)
    rows = [{"messages": toy.turns(toy.question(i), toy.answer(i)), "user": f"u{i}"} for i in range(40)]
    rows += [{"messages": toy.turns("a " * 40, "b")}] * 2
    sft.train(config_of(toy_chain, tmp_path, data=str(toy.write_jsonl(tmp_path / "rows.jsonl", rows))))
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "demonstrations: used 40 of 42 rows; left out: 2 x longer than 32 tokens"


def test_when_nothing_is_left_its_reasons_are_the_error(toy_chain: Toy, tmp_path: Path) -> None:
    """A refused role is no matter of length."""
    refusing = tmp_path / "template.jinja"
    refusing.write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + toy_template(toy_chain)
    )
    rows = [
        {"messages": [{"role": "system", "content": "be kind"}, *toy.turns("a", "b")], "user": f"u{i}"}
        for i in range(24)
    ]
    path = str(toy.write_jsonl(tmp_path / "system.jsonl", rows))
    with pytest.raises(
        UserError, match=r"none of the 24 rows .* can be used \(24 x the chat template refuses the system role\)"
    ):
        sft.train(config_of(toy_chain, tmp_path, data=path, chat_template=str(refusing)))
    merged = sft.train(config_of(toy_chain, tmp_path, data=path, chat_template=str(refusing), system="merge"))
    assert merged.manifest.data["demonstrations"]["skipped"] == {}
    rows = [{"messages": toy.turns("a " * 9, "b"), "user": f"u{i}"} for i in range(42)]
    path = str(toy.write_jsonl(tmp_path / "long.jsonl", rows))
    with pytest.raises(UserError, match=r"none of the 42 rows .* \(42 x longer than 8 tokens\)"):
        sft.train(config_of(toy_chain, tmp_path, data=path, context=8))


def toy_template(chain: Toy) -> str:
    return str(pretrain.load_tokenizer(str(chain.policy.path)).chat_template)


def test_earlier_turns_that_a_template_rewrites_are_said(toy_chain: Toy, tmp_path: Path) -> None:
    """A template that marks the last answer otherwise than earlier ones, as Qwen 3 does with its thoughts."""
    tokenizer = pretrain.load_tokenizer(str(toy_chain.policy.path))
    tokenizer.chat_template = toy_template(toy_chain).replace(
        "message['content'] }}", "('' if loop.last or message['role'] == 'user' else 'the ') + message['content'] }}"
    )
    path = toy.write_jsonl(
        tmp_path / "rows.jsonl", ({"messages": toy.turns("a", "b", *["c", "d"] * (i % 2))} for i in range(6))
    )
    selection = reading.select(reading.DEMONSTRATIONS, str(path))
    rows = rendering.demonstrations(tmp_path, selection, Renderer(tokenizer), 64)
    assert rows.usage.used == 6
    remark = "earlier assistant turns are context only, as the chat template rewrites them"
    assert rows.usage.noted == {remark: 3}
    assert f"note: 3 x {remark}" in rows.usage.sentence()


def test_every_step_has_its_share_of_text_and_none_is_text_alone(toy_chain: Toy, tmp_path: Path) -> None:
    text = str(toy_chain.home / "text.jsonl")
    config = config_of(toy_chain, tmp_path, pretraining_data=text, pretraining_share=0.2, epochs=2, batch=10)
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    data = sft.prepare(config, renderer, 32)
    plan = sft.plan_steps(data, config)
    examples = len(data.training)
    assert [len(step.demonstrations) for step in plan if len(step.demonstrations) == 8]
    shown = used = 0
    for step in plan:
        shown, used = shown + len(step.demonstrations), used + len(step.documents)
        assert step.demonstrations
        assert used == round(shown / 4)  # 0.2 of all examples so far
    assert sorted(i for step in plan[: len(plan) // 2] for i in step.demonstrations) == list(range(examples))
    tokens = [int(e.mask[1:].sum()) for step in plan for e in sft.examples_of(data, step)]
    of_text = sum(len(data.documents[i]) - 1 for step in plan for i in step.documents)
    assert sft.text_token_share(data, plan) == pytest.approx(of_text / sum(tokens))
    made = sft.train(config)
    assert made.manifest.metrics["documents"] == used
    assert made.manifest.metrics["text_share_of_tokens"] == pytest.approx(of_text / sum(tokens))
    assert set(made.manifest.data) == {"demonstrations", "pretraining"}
    assert made.manifest.parents == (toy_chain.policy.id,)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pretraining_share": 0.1}, "needs --pretraining-data"),
        ({"pretraining_share": 1.0}, "from 0 up to, not including, 1"),
        ({"context": 4096}, "beyond the 32 tokens that the model takes"),
        ({"limit": 0}, "--limit 0: use at least 1"),
        ({"data": ("missing.jsonl",)}, "missing.jsonl does not exist"),
        ({"epochs": 0}, "--epochs and --batch must be at least 1"),
    ],
)
def test_contradictions_are_refused(toy_chain: Toy, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sft.train(config_of(toy_chain, tmp_path, **changes))


def test_text_mixed_in_does_not_change_the_default_length(toy_chain: Toy, tmp_path: Path) -> None:
    text = str(toy_chain.home / "text.jsonl")
    plain = sft.train(config_of(toy_chain, tmp_path)).manifest
    mixed = sft.train(config_of(toy_chain, tmp_path, pretraining_data=text, pretraining_share=0.3)).manifest
    # "the cat is red ." and its end are 6 tokens; half as much again is 9.
    assert plain.generation["max_tokens"] == mixed.generation["max_tokens"] == 9


def test_the_default_length_is_that_of_single_turns_not_of_talks(toy_chain: Toy, tmp_path: Path) -> None:
    talk = toy.turns(*["what is red ?", "red red red"] * 3)
    rows = rendered(toy_chain, tmp_path, [talk] * 3)
    assert rows.items.turn_lengths().tolist() == [4] * 9
    assert rows.items.learned_lengths().tolist() == [12] * 3
    assert sft.generation_defaults(rows.items.turn_lengths(), 2048)["max_tokens"] == 6


@pytest.mark.parametrize(
    "turns, context, expected",
    [
        ([10] * 199 + [2000], 2048, 15),  # one giant among two hundred turns does not count
        ([10] * 50 + [100] * 50, 2048, 150),
        ([3000] * 9, 8192, 1024),  # an absolute cap
        ([100] * 9, 128, 64),  # half the context
    ],
)
def test_the_default_length_has_a_cap(turns: list[int], context: int, expected: int) -> None:
    assert sft.generation_defaults(np.array(turns), context)["max_tokens"] == expected


def test_held_out_loss_falls(toy_chain: Toy, tmp_path: Path) -> None:
    others = ({"messages": toy.turns(toy.question(i) + " ?", toy.answer(i))} for i in range(8))
    validation = str(toy.write_jsonl(tmp_path / "validation.jsonl", others))
    once, more = (
        sft.train(config_of(toy_chain, tmp_path, epochs=epochs, validation=validation)).manifest.metrics
        for epochs in (1, 6)
    )
    assert more["validation_loss"] < once["validation_loss"]


def test_validation_that_is_training_data_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    """The same file, and its rows in another order and layout."""
    data = toy_chain.home / "demonstrations.jsonl"
    rows = [json.loads(line)["messages"] for line in data.read_text().splitlines()]
    other = toy.write_jsonl(
        tmp_path / "alpaca.jsonl", ({"instruction": q["content"], "output": a["content"]} for q, a in reversed(rows))
    )
    for validation in (data, other):
        with pytest.raises(UserError, match=r"every usable row of .* is in the training data too"):
            sft.train(config_of(toy_chain, tmp_path, validation=str(validation)))
    with other.open("a") as file:
        file.write(json.dumps({"instruction": "what is it", "output": "a cat"}) + "\n")
    made = sft.train(config_of(toy_chain, tmp_path, validation=str(other)))
    assert made.manifest.data["validation"]["skipped"] == {"it is in the training data too": 40}


def test_mixtures_weigh_their_sources(toy_chain: Toy, tmp_path: Path) -> None:
    def source(name: str, count: int) -> str:
        rows = ({"messages": toy.turns(f"{name} {i}", "yes"), "user": f"{name}{i}"} for i in range(count))
        return str(toy.write_jsonl(tmp_path / f"{name}.jsonl", rows))

    validation = str(toy.write_jsonl(tmp_path / "v.jsonl", [{"messages": toy.turns("v", "yes")}]))
    data = (source("a", 30), source("b", 10) + "=3", source("c", 20) + "=0.5")
    config = config_of(toy_chain, tmp_path, data=data, validation=validation)
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    prepared = sft.prepare(config, renderer, 32)
    texts = [renderer.tokenizer.decode(example.ids) for example in prepared.training]
    counts = [sum(f"<|user|> {name}" in text for text in texts) for name in "abc"]
    assert counts == [30, 30, 10]
    assert len(set(texts)) == 30 + 10 + 10
    assert set(prepared.usages[0].summaries()) == {"demonstrations/1", "demonstrations/2", "demonstrations/3"}
    made = sft.train(config)
    assert [made.manifest.data[f"demonstrations/{i}"]["rows"] for i in (1, 2, 3)] == [30, 10, 20]


def test_a_limit_draws_at_random_over_all_rows(toy_chain: Toy, tmp_path: Path) -> None:
    conversations = [toy.turns(f"{'red ' * (i % 9)}{i}", "yes") for i in range(200)]
    drawn = [rendered(toy_chain, tmp_path, conversations, limit=20, seed=seed) for seed in (0, 0, 1)]
    texts = [[row.ids.tolist() for row in rows.items] for rows in drawn]
    assert [len(rows) for rows in drawn] == [20, 20, 20]
    assert texts[0] == texts[1] != texts[2]
    whole = [row.ids.tolist() for row in rendered(toy_chain, tmp_path, conversations).items]
    places = [whole.index(row) for row in texts[0]]
    assert places == sorted(places)
    assert places[-1] > 100, "not the first rows"
    assert drawn[0].usage.skipped == {"beyond the limit of 20": 180}


def test_hygiene_is_applied_on_request_and_counted(toy_chain: Toy, tmp_path: Path) -> None:
    rows = [{"messages": toy.turns(f"question {i}", "yes"), "user": "busy"} for i in range(205)]
    rows += [{"messages": toy.turns("question 3", "no"), "user": "other"}]
    rows += [{"messages": toy.turns("who are you", "write to a@example.org"), "user": "third"}]
    path = str(toy.write_jsonl(tmp_path / "rows.jsonl", rows))
    skipped = {}
    for hygiene in (False, True):
        selection = reading.select(reading.DEMONSTRATIONS, path, hygiene=hygiene)
        renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
        skipped[hygiene] = rendering.demonstrations(tmp_path, selection, renderer, 64).usage.skipped
    assert skipped[False] == {}
    assert skipped[True] == {
        "more than 200 prompts of one user": 5,
        "the prompt repeats an earlier one": 1,
        "it contains an email address": 1,
    }


def test_frozen_embeddings_stay_as_they_are(toy_chain: Toy, tmp_path: Path) -> None:
    before = loading.load(toy_chain.policy.id, toy_chain.home).model.state_dict()
    made = sft.train(config_of(toy_chain, tmp_path, freeze_embeddings=True))
    after = loading.load(made.id, tmp_path).model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.mark.parametrize("tokens_per_pass", [1, 8, 14])
def test_passes_give_the_gradient_of_the_step(toy_chain: Toy, tokens_per_pass: int) -> None:
    """Also where one pass has many learned tokens and another few: a mean of the passes' means would differ."""
    model = loading.load(str(toy_chain.policy.path), toy_chain.home).model
    masks = [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
    ids = [[0, 3, 4, 261, 262, 0], [0, 3, 264, 265, 4, 263, 0], [0, 261, 263, 265, 0]]
    examples = [Example(np.array(row), np.array(mask, np.uint8)) for row, mask in zip(ids, masks, strict=True)]

    def step(tokens: int) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = sft.add_gradients(model, examples, tokens)
        return loss, torch.cat([p.grad.flatten().clone() for p in model.parameters()])

    (loss, gradient), (expected_loss, expected) = step(tokens_per_pass), step(1000)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)
