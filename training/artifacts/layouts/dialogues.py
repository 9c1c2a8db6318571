"""Dialogues that a data set holds as one text, with marks where each turn begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.artifacts.conversations import Message

ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Style:
    """One way to mark turns. `contains` is what every such text has, found fast; `begins` matches at its start."""

    name: str
    contains: str
    begins: re.Pattern[str]
    turn: re.Pattern[str]  # its first group names the role
    end: str = ""  # closes each turn


STYLES = (
    Style(
        "hh-rlhf",
        "Human:",
        re.compile(r"\n\n(?:Human|Assistant):|\s*Human:.*?\n\nAssistant:", re.DOTALL),
        re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):"),
    ),
    Style(
        "HelpSteer2",
        "<extra_id_1>",
        re.compile(r"(?s:.*?)<extra_id_1>(?:User|Assistant)\n"),
        re.compile(r"<extra_id_[01]>(System|User|Assistant)\n"),
    ),
    Style("guanaco", "### Human:", re.compile(r"\s*### Human:"), re.compile(r"\s*### (Human|Assistant):")),
    Style(
        "ChatML",
        "<|im_start|>user\n",
        re.compile(r"\s*<\|im_start\|>"),
        re.compile(r"\s*<\|im_start\|>(system|user|assistant)\n"),
        "<|im_end|>",
    ),
)
ALPACA = re.compile(
    r"\s*(?:Below is an instruction that describes a task[^\n]*\n+)?### Instruction:\n(?P<instruction>.*?)"
    r"(?:\n+### Input:\n(?P<input>.*?))?\n+### Response:(?P<response>.*)",
    re.DOTALL,
)


def dialogue(text: str) -> tuple[Message, ...] | None:
    """The turns of a text in one of the styles, without a last turn of the assistant that is still to be written.

    None for any other text.
    """
    alpaca = ALPACA.fullmatch(text) if "### Instruction:" in text else None
    if alpaca is not None:
        parts = (alpaca["instruction"], alpaca["input"] or "")
        question = "\n\n".join(part.strip() for part in parts if part.strip())
        return _finished([("user", question), ("assistant", alpaca["response"])])
    for style in STYLES:
        if style.contains in text and style.begins.match(text):
            return _cut(style, text)
    return None


def _cut(style: Style, text: str) -> tuple[Message, ...]:
    head, *parts = style.turn.split(text)
    spoken = [("user", head)] if head.strip() else []  # HelpSteer2 marks turns from the second on
    spoken += [(ROLES[name.lower()], text) for name, text in zip(parts[::2], parts[1::2], strict=True)]
    return _finished([(role, text.strip().removesuffix(style.end)) for role, text in spoken])


def _finished(spoken: list[tuple[str, str]]) -> tuple[Message, ...]:
    if spoken and spoken[-1][0] == "assistant" and not spoken[-1][1].strip():
        spoken = spoken[:-1]
    messages = tuple(Message(role=role, content=text.strip()) for role, text in spoken)
    return tuple(m for m in messages if m["role"] != "system" or m["content"])
