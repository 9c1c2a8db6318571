"""Demonstrations: conversations whose assistant turns are to be imitated."""

from __future__ import annotations

from dataclasses import dataclass

from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import Layout, any_case, choose, filled, label_text, peek, text_in, truth
from training.artifacts.layouts.dialogues import dialogue
from training.artifacts.layouts.exchanges import (
    ANSWERS,
    BAD,
    CONVERSATIONS,
    answer_of,
    conversation_column,
    conversation_of,
    prompt_of,
)
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.grouping import demonstrated
from training.artifacts.layouts.messages import checked, to_assistant
from training.artifacts.loading import Loaded, Row
from training.artifacts.loading import load as load_rows

NEEDS = "`messages`, or `conversations` (ShareGPT), or `instruction` and `output` (Alpaca), or `prompt` and `response`"


@dataclass(frozen=True)
class Demonstration:
    """One conversation to imitate.

    Attributes:
        messages: ends with the assistant. Turns of weight 0 are context, never targets.
        user: pseudonym of who wrote the prompt, where known; splits go by it.
        use_case: such as `generation` or `open qa`, where known.
    """

    messages: tuple[Message, ...]
    user: str | None = None
    use_case: str | None = None


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[Demonstration]:
    """Load demonstrations from a file, folder or hub id. Raises `UserError` if there is no usable row."""
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed, regroup=demonstrated)


def parse(row: Row) -> Demonstration:
    """A row as a demonstration. Raises `Skip` with the reason."""
    row = any_case(row)
    layout = choose(LAYOUTS, row)
    for name in BAD:
        if filled(row, name) and truth(peek(row, name)) is not None and truth(row[name]) is False:
            raise fault("bad_answer", name)
    messages = checked(to_assistant(layout.read(row)), "assistant")
    if all(m.get("weight") == 0 for m in messages if m["role"] == "assistant"):
        raise fault("nothing_learned")
    user = None if layout.name == IN_ROLES else label_text(row, "user", "user_id")
    return Demonstration(messages, user, label_text(row, "use_case", "category"))


def _conversation(row: Row) -> tuple[Message, ...]:
    """A conversation; where it ends with the user, the answer may be in a column of its own."""
    messages = conversation_of(row) or ()
    if messages and messages[-1]["role"] == "user":
        return (*messages, *(answer_of(row) or ()))
    return messages


def _exchange(row: Row) -> tuple[Message, ...]:
    return (*(prompt_of(row) or ()), *(answer_of(row) or ()))


def _dialogue(row: Row) -> tuple[Message, ...]:
    return dialogue(text_in(row["text"]) or "") or ()


def _is_dialogue(row: Row) -> bool:
    return bool(dialogue(text_in(peek(row, "text")) or ""))


IN_ROLES = "columns by role"
ROLE_PROMPTS, ROLE_ANSWERS = ("user", "human", "message_1"), ("assistant", "bot", "gpt", "message_2")


def _layout(name: str, note: str, *columns: tuple[str, ...]) -> Layout:
    return Layout(name, "demonstrations", columns, note, _exchange)


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "conversation",
        "demonstrations",
        (CONVERSATIONS,),
        "Lists of role and content (OpenAI, TRL, Tulu, UltraChat 200k, WildChat, LMSYS-Chat-1M), of from and value "
        "(ShareGPT, OpenHermes, SlimOrca), of input and output (Capybara), of plain texts in turn (LIMA, UltraChat); "
        "`system` or `system_prompt` beside it comes first; a last turn of the user and a first of the assistant "
        "are cut; turns with `weight` 0 or `train` false are context; rows with tools or pictures are left out.",
        _conversation,
        lambda row: conversation_column(row) is not None,
    ),
    _layout(
        "instruction",
        "Alpaca with `input`, `history` and `system`; Dolly with `context`; self-instruct, one row per entry of "
        "`instances`; LLaMA-Factory with `kto_tag`: rows whose flag is false are left out.",
        ("instruction",),
        ANSWERS,
    ),
    _layout(
        "prompt and completion",
        "TRL's standard and conversational forms, with `label`: rows whose flag is false are left out; "
        "a prompt in hh-rlhf's style is several turns.",
        ("prompt",),
        ANSWERS,
    ),
    _layout(
        "question and answer",
        "OpenOrca with `system_prompt`; GSM8K; MetaMath's `query`; `context` or `article` follows the question.",
        ("question", "query", "problem"),
        ANSWERS,
    ),
    _layout(
        "inputs and targets",
        "FLAN, xP3, Aya; P3's texts; Natural Instructions with `definition`.",
        ("inputs_pretokenized", "inputs", "input", "context"),
        ANSWERS,
    ),
    Layout(
        IN_ROLES,
        "demonstrations",
        (ROLE_PROMPTS, ROLE_ANSWERS),
        "A column per role, with `system`; CAMEL.",
        lambda row: (*(prompt_of(row, ROLE_PROMPTS) or ()), *(answer_of(row, ROLE_ANSWERS) or ())),
    ),
    Layout(
        "text with marked turns",
        "demonstrations",
        (("text",),),
        "Guanaco (### Human:), hh-rlhf, ChatML, or the Alpaca template in one text; other texts are left out.",
        _dialogue,
        _is_dialogue,
    ),
)
