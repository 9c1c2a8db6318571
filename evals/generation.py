"""Generated texts: how they are requested, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.transport import Refused
from training.artifacts.conversations import text_of

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Answer:
    """A generated text. `finish_reason` is `stop` when the model ended by itself; `seed` is None for a greedy text."""

    text: str
    finish_reason: str | None
    seed: int | None = None


@dataclass(frozen=True)
class Sampling:
    """How texts are generated; temperature 0 is greedy. The seed is not part of it: each answer has its own."""

    temperature: float = 0.0
    max_tokens: int = 64
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def body(self, seed: int | None) -> dict[str, Any]:
        """Fields of one request. Raises `ValueError` for a sampled answer without a seed of its own (`seeds.py`)."""
        fields: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens, "top_p": self.top_p}
        if self.temperature > 0:
            if seed is None:
                raise ValueError("a sampled answer needs a seed of its own")
            fields["seed"] = seed
        return fields | ({"stop": list(self.stop)} if self.stop else {})


# Sent with every generation, for a server fills in a model's own defaults where a field is left out. At temperature 0
# a repetition penalty changes answers too.
NEUTRAL: dict[str, Any] = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip


def turns_of(messages: Messages) -> list[dict[str, str]]:
    """Role and text of each message; text parts are joined."""
    contents = [(message["content"], text_of(message["content"])) for message in messages]
    return [
        {"role": message["role"], "content": content if text is None else text}
        for message, (content, text) in zip(messages, contents, strict=True)
    ]


def prompt_body(prompt: Messages | Sequence[int] | str) -> tuple[str, dict[str, Any]]:
    """Route and prompt of a generation: a text or token ids to continue, or a conversation to answer."""
    if isinstance(prompt, str):
        return "/v1/completions", {"prompt": prompt}
    ids = [part for part in prompt if isinstance(part, int)]
    if ids:
        return "/v1/completions", {"prompt": ids}
    turns = [part for part in prompt if not isinstance(part, int)]
    return "/v1/chat/completions", {"messages": turns_of(turns)}


def answer_of(text: str | None, reason: str | None, seed: int | None) -> Answer | Refused:
    """A choice as it was kept; without a text its measurement is missing."""
    if text is None:
        return Refused(200, "no text came back" + (f" ({reason})" if reason else ""))
    return Answer(text, reason, seed)
