"""Families of chat templates, each with a small tokenizer of its kind.

The templates were written for these tests: they keep the logic of the published ones (roles, what is trimmed,
refused, rewritten or inserted, how turns end), not their text. `source` names the file that the logic was checked with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from tests.support.tiny_models import sentences

ROLES_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}"
    "{{ '<|eot_id|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_4 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|header_start|>' + m.role + '<|header_end|>\n\n' }}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% endif %}{{ '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|header_start|>assistant<|header_end|>\n\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_25 = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}" + CHATML
# The last answer gets a thought, empty if it has none; answers before the last question lose theirs.
QWEN_3 = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set thought, said = '', m.content %}{% if '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last %}{{ '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + said }}"
    "{% else %}{{ '<|im_start|>assistant\n' + said }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}" + ROLES_ALTERNATE + "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}" + ROLES_ALTERNATE + "{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
R1_DISTILL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'assistant' %}"
    "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|assistant|>\n<think></think>' }}{% set said = m.content.split('</think>')[-1].strip() %}"
    "{% if said %}{{ '\n' + said }}{% endif %}"
    "{% else %}{{ '<|' + m.role + '|>\n' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
KIMI = (
    "{% if messages[0].role != 'system' %}{{ '<|im_system|>system<|im_middle|>You help.<|im_end|>' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_' + m.role + '|>' + m.role + '<|im_middle|>' + m.content + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_assistant|>assistant<|im_middle|>' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }}"
    "{% elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)
OPENCHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ 'GPT4 Correct ' + m.role.title() + ': ' + m.content + '<|end_of_turn|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n\n' }}"
    "{% elif m.role == 'user' %}{{ '### Instruction:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m.content + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
ROLE_TOKENS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The last answer ends with another token than earlier ones; the channel is sampled with the answer.
HARMONY = (
    "{{ '<|start|>system<|message|>You help.\nDate: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{% if messages[0].role == 'system' %}"
    "{{ '<|start|>developer<|message|># Instructions\n\n' + messages[0].content + '<|end|>' }}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{% if '<|channel|>' in m.content %}"
    "{{ raise_exception('thoughts have a field of their own') }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
# Each question starts a text; there is no generation prompt, and the system turn stands in the first question.
LLAMA_2 = (
    "{% if messages[0].role == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}{% for m in messages %}" + ROLES_ALTERNATE + "{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + ((system if loop.first else '') + m.content).strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Nothing ends an answer, and the question has the header of the next.
MINICPM = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<用户>' + m.content.strip() + '<AI>' }}"
    "{% else %}{{ m.content.strip() }}{% endif %}{% endfor %}"
)
# The end-of-sequence token ends answers and their header alike; a system turn is left out.
ORION = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{% if m.role == 'user' %}{{ 'Human: ' + m.content + '\n\nAssistant: ' + eos_token }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
NO_EOS = ROLE_TOKENS.replace("{{ bos_token }}", "").replace("<|eot|>", "<|end|>\n")

Kind = Literal["bytes", "pieces"]


@dataclass(frozen=True)
class Family:
    """A chat template and what its tokenizer knows.

    Attributes:
        tokens: added tokens that are special.
        plain_tokens: added tokens that are not.
        kind: `bytes` is byte-level BPE with the pre-tokenizer of GPT-4, Llama 3 and Qwen, in which blank lines merge
            with what stands before them; `pieces` is BPE as SentencePiece does it, where a word takes its space along.
        generation_eos: end-of-sequence tokens of generation_config.json.
    """

    template: str | dict[str, str]
    source: str
    eos: str | None
    tokens: tuple[str, ...] = ()
    plain_tokens: tuple[str, ...] = ()
    bos: str | None = None
    kind: Kind = "bytes"
    generation_eos: tuple[str, ...] = ()


HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
FAMILIES: dict[str, Family] = {
    "Llama 3": Family(
        LLAMA_3,
        "Llama 3 in ggml-org/llama.cpp tests/test-chat-template.cpp; the block with the date of Llama 3.1 from memory",
        "<|eot_id|>", (*HEADERS, "<|end_of_text|>"), bos="<|begin_of_text|>",
        generation_eos=("<|end_of_text|>", "<|eot_id|>"),
    ),
    "Llama 4": Family(
        LLAMA_4, "huggingface/transformers src/transformers/models/llama4/processing_llama4.py",
        "<|end_of_text|>", ("<|header_start|>", "<|header_end|>", "<|eot|>"), bos="<|begin_of_text|>",
    ),
    "Qwen 2.5": Family(
        QWEN_25, "the default system text of Qwen2.5 in public repositories; the rest is ChatML and from memory",
        "<|im_end|>", ("<|im_start|>", "<|endoftext|>"), generation_eos=("<|im_end|>", "<|endoftext|>"),
    ),
    "Qwen 3": Family(
        QWEN_3, "Qwen/Qwen3-0.6B, as in ggml-org/llama.cpp models/templates/Qwen-Qwen3-0.6B.jinja",
        "<|im_end|>", ("<|im_start|>", "<|endoftext|>"), ("<think>", "</think>"),
        generation_eos=("<|im_end|>", "<|endoftext|>"),
    ),
    "Gemma 2": Family(
        GEMMA, "google/gemma-7b-it in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "<eos>", ("<start_of_turn>", "<end_of_turn>"), bos="<bos>", kind="pieces",
    ),
    "Mistral": Family(
        MISTRAL, "mistralai/Mistral-7B-Instruct-v0.2 (v1), as in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "</s>", bos="<s>", kind="pieces",
    ),
    "Phi 4": Family(
        PHI_4, "microsoft/phi-4, as quoted by several public repositories",
        "<|endoftext|>", ("<|im_start|>", "<|im_sep|>", "<|im_end|>"), bos="<|endoftext|>",
    ),
    "DeepSeek-R1 distill": Family(
        R1_DISTILL, "ggml-org/llama.cpp models/templates/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
        "<｜end▁of▁sentence｜>", (), ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        bos="<｜begin▁of▁sentence｜>",
    ),
    "GLM": Family(
        GLM, "ggml-org/llama.cpp models/templates/glm_4_5.jinja",
        "<|endoftext|>", ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"), ("<think>", "</think>"),
        generation_eos=("<|endoftext|>", "<|user|>"),
    ),
    "Kimi": Family(
        KIMI, "ggml-org/llama.cpp models/templates/moonshotai-Kimi-K2.jinja",
        "[EOS]", ("<|im_end|>", "<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>"), bos="[BOS]",
    ),
    "Zephyr": Family(
        ZEPHYR, "HuggingFaceH4/zephyr-7b-beta, as quoted by several public repositories",
        "</s>", bos="<s>", kind="pieces",
    ),
    "Vicuna": Family(
        VICUNA, "vicuna-13b-1.1 in ggml-org/llama.cpp tests/test-chat-template.cpp; the last space as users write it",
        "</s>", bos="<s>", kind="pieces",
    ),
    "OpenChat": Family(
        OPENCHAT, "openchat/openchat-3.5-0106, as in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "</s>", ("<|end_of_turn|>",), bos="<s>", kind="pieces",
    ),
    "Alpaca": Family(
        ALPACA, "tatsu-lab/stanford_alpaca's prompt, as templates that several public repositories use",
        "<|endoftext|>",
    ),
    "ChatML on a base model": Family(
        CHATML, "ChatML as in teknium/OpenHermes-2.5-Mistral-7B, with the vocabulary of a base model",
        "<|endoftext|>",
    ),
    "named templates": Family(
        {"default": CHATML, "tool_use": "{{ 'tools ' + messages[0].content }}"}, "`chat_template` as a list of names",
        "<|endoftext|>", ("<|im_start|>", "<|im_end|>"),
    ),
    "bos = eos": Family(
        ROLE_TOKENS, "a turn ends with another token than the one that starts the text",
        "<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|eot|>"), bos="<|endoftext|>",
    ),
    "Harmony": Family(
        HARMONY, "openai/gpt-oss-20b, as quoted by several public repositories",
        "<|return|>", ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|endoftext|>"),
        generation_eos=("<|return|>", "<|endoftext|>", "<|call|>"),
    ),
    "Llama 2": Family(
        LLAMA_2, "meta-llama/Llama-2-7b-chat-hf and its kin in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "</s>", bos="<s>", kind="pieces",
    ),
    "MiniCPM": Family(
        MINICPM, "MiniCPM-3B-OpenHermes-2.5-v2, as in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "</s>", (), ("<用户>", "<AI>"), bos="<s>", kind="pieces",
    ),
    "Orion": Family(
        ORION, "OrionStarAI/Orion-14B-Chat, as in ggml-org/llama.cpp tests/test-chat-template.cpp",
        "</s>", bos="<s>", kind="pieces",
    ),
    "no eos": Family(
        NO_EOS, "a tokenizer that names no end-of-sequence token", None, ("<|user|>", "<|assistant|>", "<|end|>"),
    ),
}  # fmt: skip


def tokenizer_of(family: Family, *, spaced: bool = False, **added: bool) -> Any:
    """A tokenizer of the family's kind, with its tokens and its template.

    Args:
        spaced: of `pieces`, put a space after special tokens too, as the first conversions of Llama's tokenizer do.
        added: settings of added tokens, such as `rstrip`.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    plain = json.loads(_trained(family.kind))
    if spaced:
        spaces = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
        plain |= {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": spaces}}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(plain)),
        eos_token=family.eos,
        bos_token=family.bos,
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    added = {"normalized": False} | added
    wrapped.add_tokens([AddedToken(token, special=True, **added) for token in family.tokens])
    wrapped.add_tokens([AddedToken(token, special=False, **added) for token in family.plain_tokens])
    ends = {"eos_token": family.eos, "bos_token": family.bos}
    wrapped.add_special_tokens({name: AddedToken(end, special=True, **added) for name, end in ends.items() if end})
    wrapped.chat_template = family.template
    return wrapped


def generation_eos(family: Family, tokenizer: Any) -> tuple[int, ...]:
    """The ids that generation_config.json would name."""
    return tuple(int(i) for i in tokenizer.convert_tokens_to_ids(list(family.generation_eos)))


@cache
def _trained(kind: Kind) -> str:
    """A trained tokenizer of few hundred tokens as JSON."""
    return _bytes() if kind == "bytes" else _pieces()


def _texts() -> list[str]:
    words = "Who are you ? A cat . And now ? Still a cat . You help . The answer is yes . User Assistant USER ASSISTANT"
    return [
        *sentences(300, seed=0),
        *[words, "one .\n\ntwo\n\n\nthree :\n four", "### Instruction:\n### Response:\n"] * 20,
    ]


def _bytes() -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(_texts(), trainer)
    return str(raw.to_str())


def _pieces() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    unbroken = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!#[]<>|/'\"-_=+"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=unbroken, initial_alphabet=["▁", *letters], show_progress=False
    )
    texts = [text.replace("\n", " ") for text in _texts()]
    raw.train_from_iterator(texts, trainer)
    plain = json.loads(raw.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["content"] == "<unk>"]
    return json.dumps(plain)
