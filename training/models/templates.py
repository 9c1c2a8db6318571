"""Chat templates of models: the renderer of a loaded one, and a template for a base model that has none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from training.artifacts.checkpoints import System
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.artifacts.templates import ANSWER, ANSWERED, Template, eos_ids
from training.models.loading import Source

READY = "default"
EOS = "<|endoftext|>"  # for a tokenizer without an end-of-sequence token
# Roles as plain text, so that a base model needs no new tokens; only the end of an answer is a token.
READY_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ 'System:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ 'Assistant:\\n' + message['content'] }}{{ eos_token }}{{ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
# Strings by which templates mark turns: <|im_start|>, <start_of_turn>, </s>, [INST].
MARK = re.compile(r"<[|｜]?/?[A-Za-z0-9_▁.-]+[|｜]?>|\[/?[A-Z_]+\]")


def renderer_for(source: Source, system: System | None = None) -> Renderer:
    """The renderer of a loaded model, by its manifest where it has one.

    Args:
        system: what to do with system turns that the template refuses, in place of what the manifest says.
    """
    stop_ids = source.checkpoint.manifest.stop_ids if source.checkpoint else ()
    settings = getattr(source.model, "generation_config", None)
    stop_ids = stop_ids or eos_ids(getattr(settings, "eos_token_id", None))
    size = source.model.get_input_embeddings().weight.shape[0]
    return Renderer(source.tokenizer, system=system or system_of(source), stop_ids=stop_ids, size=size)


def system_of(source: Source) -> System:
    """What the model's manifest says about system turns that its template refuses."""
    return source.checkpoint.manifest.system if source.checkpoint else "keep"


def template_text(choice: str, tokenizer: Any) -> str:
    """The Jinja text that `--chat-template default|FILE` names.

    Raises:
        UserError: the file does not exist, is empty or is not text.
    """
    if choice == READY:
        begin = tokenizer("a")["input_ids"][:1]
        starts = tokenizer.bos_token_id is not None and begin == [tokenizer.bos_token_id]
        return ("{{ bos_token }}" if starts else "") + READY_TEMPLATE
    file = Path(choice).expanduser()
    if not file.is_file():
        raise UserError(f"{choice} does not exist: give a Jinja file as --chat-template, or `{READY}`")
    try:
        text = file.read_text(encoding="utf-8-sig")  # a mark of byte order would stand before every prompt
    except UnicodeDecodeError:
        raise UserError(f"{choice} is not text in UTF-8: give a Jinja file as --chat-template") from None
    if not text.strip():
        raise UserError(f"{choice} is empty: give a Jinja file as --chat-template, or `{READY}`")
    return text


def give_template(model: Any, tokenizer: Any, choice: str) -> int:
    """Give a model that is to be trained a chat template, and the tokens that end and mark its turns.

    Returns:
        The number of tokens that were added; embeddings have grown where they had no row for them.

    Raises:
        UserError: the template cannot be used.
    """
    size = len(tokenizer)
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": EOS})
        model.config.eos_token_id = tokenizer.eos_token_id
    tokenizer.chat_template = template_text(choice, tokenizer)
    template = Template(tokenizer)
    text = rendering_of(template, choice)
    if not template.ending.written and template.ending.text.strip():
        tokenizer.add_tokens(list(dict.fromkeys(MARK.findall(text))), special_tokens=True)
        template = Template(tokenizer)
    _grow_embeddings(model, len(tokenizer))
    model.generation_config.eos_token_id = list(template.stop_ids)
    return len(tokenizer) - size


def rendering_of(template: Template, choice: str) -> str:
    """What a requested template writes for a question and an answer, with a system turn if it takes one.

    Raises:
        UserError: it refuses, or leaves out what the user or the assistant says.
    """
    texts = template.texts([[{"role": "system", "content": "."}, *ANSWERED], ANSWERED])
    written = [text for text in texts if isinstance(text, str)]
    if not written:
        refusal = next(text for text in reversed(texts) if isinstance(text, Refusal))
        raise UserError(f"{choice} cannot be used: {sentence(refusal)}")
    if template.unheard or ANSWER not in written[0]:
        speaker = template.unheard or "assistant"
        raise UserError(f"{choice} does not write what the {speaker} says: give another --chat-template")
    return written[0]


def _grow_embeddings(model: Any, size: int) -> None:
    """Rows for new tokens: the mean of the others, in embeddings and output head alike."""
    before = model.get_input_embeddings().num_embeddings
    if size <= before:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    with torch.no_grad():
        for layer in layers:
            if layer is not None:
                layer.weight[before:] = layer.weight[:before].mean(dim=0)
