"""A chat template for a base model: the ready one, one of one's own, and the tokens and embeddings that they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from service.engines.manifests import served_manifest
from tests.support.families import CHATML, FAMILIES, LLAMA_3, tokenizer_of
from tests.support.toy_world import answer, question, turns, write_jsonl
from tests.support.trained_families import save_base
from training.artifacts.errors import UserError
from training.artifacts.rendering import Rendered, Renderer
from training.models import loading, templates
from training.stages import adopt, sft

pytestmark = pytest.mark.unit
TALK = [{"role": "system", "content": "s"}, *turns("q", "a", "r", "b")]


def base(rows: int | None = None, **changes: Any) -> tuple[Any, Any]:
    """A tiny model without a template and its tokenizer. `rows` is the size of the embeddings."""
    tokenizer = tokenizer_of(replace(FAMILIES["Alpaca"], **changes))
    tokenizer.chat_template = None
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows or len(tokenizer), **size)), tokenizer


def learned(tokenizer: Any) -> str:
    (row,) = Renderer(tokenizer).render([TALK], learn=True)
    assert isinstance(row, Rendered), row
    return str(tokenizer.decode([i for i, mark in zip(row.ids, row.mask, strict=True) if mark]))


def test_the_ready_template_has_roles_as_text_and_ends_turns_with_eos() -> None:
    model, tokenizer = base()
    embeddings = model.get_input_embeddings().weight.clone()
    assert templates.give_template(model, tokenizer, "default") == 0
    (row,) = Renderer(tokenizer).render([TALK], learn=True)
    assert isinstance(row, Rendered)
    assert tokenizer.decode(row.ids) == (
        "System:\ns\n\nUser:\nq\n\nAssistant:\na<|endoftext|>\n\nUser:\nr\n\nAssistant:\nb<|endoftext|>\n\n"
    )
    assert learned(tokenizer) == "a<|endoftext|>b<|endoftext|>"
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]


def test_it_begins_as_the_tokenizer_begins_any_text() -> None:
    from tokenizers import processors

    model, tokenizer = base(bos="<s>", tokens=("<s>",))
    templates.give_template(model, tokenizer, "default")
    assert Renderer(tokenizer).prompts([turns("q")])[0].ids[0] != tokenizer.bos_token_id
    bos = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [bos])
    templates.give_template(model, tokenizer, "default")
    assert Renderer(tokenizer).prompts([turns("q")])[0].ids[0] == tokenizer.bos_token_id


def test_a_tokenizer_without_an_end_gets_one_and_the_embeddings_grow() -> None:
    model, tokenizer = base(eos=None)
    before = len(tokenizer)
    old = model.get_input_embeddings().weight.clone()
    assert templates.give_template(model, tokenizer, "default") == 1
    assert len(tokenizer) == before + 1 == model.get_input_embeddings().num_embeddings
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        torch.testing.assert_close(layer.weight[before], layer.weight[:before].mean(0))
    assert torch.equal(model.get_input_embeddings().weight[:before], old)
    assert model.config.eos_token_id == tokenizer.eos_token_id == before
    assert learned(tokenizer) == "a<|endoftext|>b<|endoftext|>"


def test_padded_embeddings_have_room_for_new_tokens() -> None:
    model, tokenizer = base(rows=640, eos=None)
    assert templates.give_template(model, tokenizer, "default") == 1
    assert model.get_input_embeddings().num_embeddings == 640


def test_strings_that_mark_turns_in_a_template_of_one_s_own_become_tokens(tmp_path: Path) -> None:
    (tmp_path / "chatml.jinja").write_text(CHATML)
    model, tokenizer = base()
    assert templates.give_template(model, tokenizer, str(tmp_path / "chatml.jinja")) == 2
    assert learned(tokenizer) == "a<|im_end|>b<|im_end|>"
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert Renderer(tokenizer).stop_ids == (end, tokenizer.eos_token_id)
    assert model.generation_config.eos_token_id == [end, tokenizer.eos_token_id]
    assert model.get_input_embeddings().num_embeddings == end + 1 == start + 2
    (tmp_path / "llama.jinja").write_text(LLAMA_3)
    model, tokenizer = base(bos="<s>", tokens=("<s>",))
    assert templates.give_template(model, tokenizer, str(tmp_path / "llama.jinja")) == 3
    assert learned(tokenizer) == "a<|eot_id|>b<|eot_id|>"


def test_a_mark_of_byte_order_is_no_part_of_a_template(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(CHATML, encoding="utf-8-sig", newline="\r\n")
    assert templates.template_text(str(tmp_path / "own.jinja"), base()[1]) == CHATML


def test_a_template_whose_end_is_known_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ '[INST]' + m.content + eos_token }}{% endfor %}")
    model, tokenizer = base()
    assert templates.give_template(model, tokenizer, str(tmp_path / "own.jinja")) == 0


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "does not exist: give a Jinja file as --chat-template, or `default`"),
        (
            "{% for m in messages %}",
            "refuses the conversation: Unexpected end of template",
        ),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}<|end|>{% endfor %}",
            "does not write what the assis",
        ),
        (
            "{% for m in messages if m.role == 'assistant' %}{{ m.content + eos_token }}{% endfor %}",
            "what the user says",
        ),
        ("You help.", "does not write what the user says"),
        (" \n", "is empty: give a Jinja file as --chat-template, or `default`"),
        ("{{ raise_exception('never') }}", "cannot be used: the chat template refuses the conversation: never"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    file = tmp_path / "bad.jinja"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        templates.give_template(*base(), str(file))


def demonstrations(home: Path) -> str:
    rows = [{"messages": turns(question(i), answer(i)), "user": f"u{i}"} for i in range(24)]
    return str(write_jsonl(home / "demonstrations.jsonl", rows))


def test_a_base_model_starts_fine_tuning_with_the_ready_template(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "base", "no eos", template=False)
    settings: dict[str, Any] = {"data": demonstrations(tmp_path), "model": str(folder), "epochs": 1, "home": tmp_path}
    with pytest.raises(UserError, match=r"has no chat template.*`--chat-template default`"):
        sft.train(sft.Config(**settings))
    with pytest.raises(UserError, match="--freeze-embeddings leaves 1 added tokens untrained"):
        sft.train(sft.Config(**settings, chat_template="default", freeze_embeddings=True))
    made = sft.train(sft.Config(**settings, chat_template="default"))
    again = loading.load(made.id, tmp_path)
    assert made.manifest.stop_ids == (again.tokenizer.eos_token_id,)
    assert learned(again.tokenizer) == "a<|endoftext|>b<|endoftext|>"
    assert again.model.get_input_embeddings().num_embeddings == len(again.tokenizer)
    # The next stage needs no option: the checkpoint has its template.
    assert (
        sft.train(sft.Config(**(settings | {"model": made.id}))).manifest.template_hash == made.manifest.template_hash
    )


@pytest.mark.parametrize("name", ["Alpaca", "no eos"])
def test_adopting_takes_the_ready_template_and_changes_no_weight(tmp_path: Path, name: str) -> None:
    folder = save_base(tmp_path / "base", name, template=False)
    plain = adopt.adopt(adopt.Config(str(folder), home=tmp_path))
    ready = adopt.adopt(adopt.Config(str(folder), chat_template="default", system="merge", home=tmp_path))
    assert plain.manifest.weights == ready.manifest.weights
    assert (plain.manifest.template_hash, plain.manifest.system) == (None, "keep")
    assert (ready.manifest.template_hash is not None, ready.manifest.system) == (True, "merge")
    # Without an end-of-sequence token nothing ends a turn: it can be adopted and served, not trained.
    assert len(ready.manifest.stop_ids) == (0 if name == "no eos" else 1)
    if name == "no eos":
        with pytest.raises(UserError, match="nothing ends an assistant's turn"):
            sft.train(sft.Config(data=demonstrations(tmp_path), model=ready.id, home=tmp_path))


def test_adopting_keeps_named_templates_and_tells_where_none_is_the_default(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "base", "named templates")
    adopted = adopt.adopt(adopt.Config(str(folder), home=tmp_path))
    kept = loading.load(adopted.id, tmp_path).tokenizer.chat_template
    assert kept == FAMILIES["named templates"].template
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="named tool_use and none named `default`: give one of them"):
        adopt.adopt(adopt.Config(str(folder), home=tmp_path))


@pytest.mark.parametrize("system", ["keep", "merge"])
def test_gateways_are_told_which_system_turns_the_template_leaves_out(tmp_path: Path, system: Any) -> None:
    folder = save_base(tmp_path / "base", "Orion")
    manifest = served_manifest(adopt.adopt(adopt.Config(str(folder), home=tmp_path, system=system)), 64)
    assert manifest["lost_system"] == ["first", "later"]
    assert manifest["merge_system"] == (system == "merge")
