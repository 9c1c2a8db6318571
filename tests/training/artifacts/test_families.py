"""One row per family of chat templates: ids, what is learned and how a turn ends, against expectations by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.support.families import FAMILIES, Family, generation_eos, tokenizer_of
from training.artifacts.rendering import Rendered, Renderer

pytestmark = pytest.mark.unit

TALK = [
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Still a cat."},
]
TODAY = f"<|start_header_id|>system<|end_header_id|>\n\nToday: {datetime.now():%d %b %Y}\n\n<|eot_id|>"
# What the model reads for TALK, in pieces that are in turn context and learned, and what ends a turn.
EXPECTED: dict[str, tuple[list[str], str]] = {
    "Llama 3": (
        [
            f"<|begin_of_text|>{TODAY}<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "A cat.<|eot_id|>",
            "<|start_header_id|>user<|end_header_id|>\n\nAnd now?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "Still a cat.<|eot_id|>",
        ],
        "<|eot_id|>",
    ),
    "Llama 4": (
        [
            "<|begin_of_text|><|header_start|>user<|header_end|>\n\nWho are you?<|eot|>"
            "<|header_start|>assistant<|header_end|>\n\n",
            "A cat.<|eot|>",
            "<|header_start|>user<|header_end|>\n\nAnd now?<|eot|><|header_start|>assistant<|header_end|>\n\n",
            "Still a cat.<|eot|>",
        ],
        "<|eot|>",
    ),
    "Qwen 2.5": (
        [
            "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
            "<|im_start|>assistant\n",
            "A cat.<|im_end|>",
            "\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
            "Still a cat.<|im_end|>",
            "\n",
        ],
        "<|im_end|>",
    ),
    "Qwen 3": (  # the first answer stands there without the thought that it was sampled with: context only
        [
            "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
            "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
            "<think>\n\n</think>\n\nStill a cat.<|im_end|>",
            "\n",
        ],
        "<|im_end|>",
    ),
    "Gemma 2": (
        [
            "<bos><start_of_turn>user\nWho are you?<end_of_turn>\n<start_of_turn>model\n",
            "A cat.<end_of_turn>",
            "\n<start_of_turn>user\nAnd now?<end_of_turn>\n<start_of_turn>model\n",
            "Still a cat.<end_of_turn>",
            "\n",
        ],
        "<end_of_turn>",
    ),
    "Mistral": (
        ["<s>[INST] Who are you? [/INST]", " A cat.</s>", "[INST] And now? [/INST]", " Still a cat.</s>"],
        "</s>",
    ),
    "Phi 4": (
        [
            "<|im_start|>user<|im_sep|>Who are you?<|im_end|><|im_start|>assistant<|im_sep|>",
            "A cat.<|im_end|>",
            "<|im_start|>user<|im_sep|>And now?<|im_end|><|im_start|>assistant<|im_sep|>",
            "Still a cat.<|im_end|>",
        ],
        "<|im_end|>",
    ),
    "DeepSeek-R1 distill": (  # the generation prompt opens a thought, which the template strips from earlier answers
        [
            "<｜begin▁of▁sentence｜><｜User｜>Who are you?<｜Assistant｜>A cat.<｜end▁of▁sentence｜>"
            "<｜User｜>And now?<｜Assistant｜><think>\n",
            "Still a cat.<｜end▁of▁sentence｜>",
        ],
        "<｜end▁of▁sentence｜>",
    ),
    "GLM": (  # the header of the next turn ends one, the end-of-sequence token the last
        [
            "[gMASK]<sop><|user|>\nWho are you?<|assistant|>",
            "\n<think></think>\nA cat.<|user|>",
            "\nAnd now?<|assistant|>",
            "\n<think></think>\nStill a cat.<|endoftext|>",
        ],
        "<|endoftext|>",
    ),
    "Kimi": (
        [
            "<|im_system|>system<|im_middle|>You help.<|im_end|><|im_user|>user<|im_middle|>Who are you?<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>",
            "A cat.<|im_end|>",
            "<|im_user|>user<|im_middle|>And now?<|im_end|><|im_assistant|>assistant<|im_middle|>",
            "Still a cat.<|im_end|>",
        ],
        "<|im_end|>",
    ),
    "Zephyr": (
        [
            " <|user|>\nWho are you?</s>\n<|assistant|>\n",
            "A cat.</s>",
            "\n<|user|>\nAnd now?</s>\n<|assistant|>\n",
            "Still a cat.</s>",
            "\n",
        ],
        "</s>",
    ),
    "Vicuna": (  # " A" is one token in the first answer, of which the prompt has the space: it is context
        [
            "<s>USER: Who are you? ASSISTANT: A",
            " cat.</s>",
            "USER: And now? ASSISTANT: ",
            "Still a cat.</s>",
        ],
        "</s>",
    ),
    "OpenChat": (
        [
            "<s>GPT4 Correct User: Who are you?<|end_of_turn|>GPT4 Correct Assistant:",
            " A cat.<|end_of_turn|>",
            "GPT4 Correct User: And now?<|end_of_turn|>GPT4 Correct Assistant:",
            " Still a cat.<|end_of_turn|>",
        ],
        "<|end_of_turn|>",
    ),
    "Alpaca": (
        [
            "### Instruction:\nWho are you?\n\n### Response:\n",
            "A cat.",
            "\n\n### Instruction:\nAnd now?\n\n### Response:\n",
            "Still a cat.<|endoftext|>",
        ],
        "<|endoftext|>",
    ),
    "ChatML on a base model": (  # <|im_end|> is several tokens
        [
            "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
            "A cat.",
            "<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
            "Still a cat.<|endoftext|>",
        ],
        "<|endoftext|>",
    ),
    "named templates": (
        [
            "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
            "A cat.<|im_end|>",
            "\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
            "Still a cat.<|im_end|>",
            "\n",
        ],
        "<|im_end|>",
    ),
    "bos = eos": (
        [
            "<|endoftext|><|user|>Who are you?<|eot|><|assistant|>",
            "A cat.<|eot|>",
            "<|user|>And now?<|eot|><|assistant|>",
            "Still a cat.<|eot|>",
        ],
        "<|eot|>",
    ),
    "Harmony": (  # earlier answers end with a token that does not end sampling: context only
        [
            f"<|start|>system<|message|>You help.\nDate: {datetime.now():%Y-%m-%d}<|end|>"
            "<|start|>user<|message|>Who are you?<|end|><|start|>assistant<|channel|>final<|message|>A cat.<|end|>"
            "<|start|>user<|message|>And now?<|end|><|start|>assistant",
            "<|channel|>final<|message|>Still a cat.<|return|>",
        ],
        "<|return|>",
    ),
    "Llama 2": (
        ["<s>[INST] Who are you? [/INST]", " A cat. </s>", "<s>[INST] And now? [/INST]", " Still a cat. </s>"],
        "</s>",
    ),
    "MiniCPM": (
        ["<用户>Who are you?<AI>", "A cat.", "<用户>And now?<AI>", "Still a cat.</s>"],
        "</s>",
    ),
    "Orion": (
        [
            "<s>Human: Who are you?\n\nAssistant: </s>",
            "A cat.</s>",
            "Human: And now?\n\nAssistant: </s>",
            "Still a cat.</s>",
        ],
        "</s>",
    ),
    "no eos": (
        [
            "<|user|>Who are you?<|end|>\n<|assistant|>",
            "A cat.<|end|>",
            "\n<|user|>And now?<|end|>\n<|assistant|>",
            "Still a cat.<|end|>",
            "\n",
        ],
        "<|end|>",
    ),
}
CONTEXT_TURNS = {"Qwen 3": 1, "DeepSeek-R1 distill": 1, "Harmony": 1}


@pytest.fixture(scope="module", params=FAMILIES, name="case")
def _case(request: pytest.FixtureRequest) -> tuple[str, Family, Any, Renderer]:
    family = FAMILIES[request.param]
    tokenizer = tokenizer_of(family)
    return request.param, family, tokenizer, Renderer(tokenizer, stop_ids=generation_eos(family, tokenizer))


Case = tuple[str, Family, Any, Renderer]


def rendered(rows: list[Any]) -> Rendered:
    (row,) = rows
    assert isinstance(row, Rendered), row
    return row


def written(tokenizer: Any, family: Family, ids: list[int]) -> str:
    """The text of ids, with each space where a token has it: decoding alone would strip the first."""
    if family.kind == "bytes":
        return str(tokenizer.decode(ids))
    return "".join(tokenizer.convert_ids_to_tokens(ids)).replace("▁", " ").replace("<0x0A>", "\n")


def pieces(tokenizer: Any, family: Family, row: Rendered) -> list[str]:
    """Text of the runs of the mask, context first."""
    runs: list[list[int]] = [[]]
    learned = 0
    for index, mark in zip(row.ids, row.mask, strict=True):
        if mark != learned:
            runs.append([])
            learned = mark
        runs[-1].append(index)
    return [written(tokenizer, family, run) for run in runs]


def test_the_row_its_mask_and_the_end_of_a_turn_are_those_written_by_hand(case: Case) -> None:
    name, family, tokenizer, renderer = case
    expected, end = EXPECTED[name]
    row = rendered(renderer.render([TALK], learn=True))
    assert pieces(tokenizer, family, row) == expected
    assert row.context_turns == CONTEXT_TURNS.get(name, 0)
    assert renderer.stop_ids[0] == tokenizer.convert_tokens_to_ids(end)
    assert set(generation_eos(family, tokenizer)) <= set(renderer.stop_ids)
    assert len(row.mask) == len(row.ids)
    renderer.require_end()


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.kind == "bytes"])
def test_ids_are_those_of_the_pieces_one_after_the_other(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    renderer = Renderer(tokenizer, stop_ids=generation_eos(FAMILIES[name], tokenizer))
    row = rendered(renderer.render([TALK], learn=True))
    assert row.ids == [i for piece in EXPECTED[name][0] for i in tokenizer(piece, add_special_tokens=False).input_ids]


def test_the_row_is_the_sampled_prompt_the_answer_and_its_end(case: Case) -> None:
    renderer = case[3]
    prompt = rendered(renderer.prompts([TALK[:3]]))
    row = rendered(renderer.render([TALK], learn=True))
    scored = rendered(renderer.render([TALK]))
    assert row.ids == scored.ids
    assert not any(scored.mask)
    assert row.ids[: len(prompt.ids)] == prompt.ids
    last = max(index for index, learned in enumerate(row.mask) if learned)
    response = row.ids[len(prompt.ids) : last + 1]
    assert all(row.mask[len(prompt.ids) : last + 1])
    assert response[-1] == renderer.stop_ids[0]
    # PPO and the reward model read for this response what /score reads for its text.
    assert renderer.extend(prompt.ids, response) == row.ids
    assert renderer.extend(prompt.ids, response[:-1]) == row.ids
    assert renderer.answer(response) == "Still a cat."


def test_an_answer_of_weight_0_is_context(case: Case) -> None:
    name, family, tokenizer, renderer = case
    expected = EXPECTED[name][0]
    row = rendered(renderer.render([[TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]], learn=True))
    learned = expected[-1] if len(expected) % 2 == 0 else expected[-2]
    marked = [index for index, mark in zip(row.ids, row.mask, strict=True) if mark]
    assert written(tokenizer, family, marked) == learned
    assert row.context_turns == 0
    (refused,) = renderer.render([[*TALK[:3], {**TALK[3], "weight": 0.0}][2:]], learn=True)
    assert not isinstance(refused, Rendered)
    assert refused.code == "nothing_to_learn"


@pytest.mark.parametrize("answer", ["\nA cat.", "\n\nA cat", " A cat.", "A cat.\n", "", "ñandú 🐈 猫", "- a\n- b\n"])
def test_any_answer_is_learned_with_its_end(case: Case, answer: str) -> None:
    _, _, tokenizer, renderer = case
    prompt = rendered(renderer.prompts([TALK[:1]]))
    row = rendered(renderer.render([[TALK[0], {"role": "assistant", "content": answer}]], learn=True))
    assert row.ids[: len(prompt.ids)] == prompt.ids
    assert row.mask[: len(prompt.ids)] == [0] * len(prompt.ids)
    learned = [index for index, mark in zip(row.ids, row.mask, strict=True) if mark]
    assert learned[-1] == renderer.stop_ids[0]
    said = tokenizer.decode(row.ids[len(prompt.ids) : len(prompt.ids) + len(learned) - 1])
    for header in ("<think>", "</think>", "<|channel|>final<|message|>"):
        said = said.replace(header, "")
    assert said.strip() == answer.strip()
    assert renderer.extend(prompt.ids, learned) == row.ids
