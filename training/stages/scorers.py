"""Reward models as PPO uses them: named, weighted, and through text where their tokenizer is not the policy's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.artifacts.templates import ANSWERED
from training.data import reading
from training.data.usage import SourceUsage
from training.models import forward, templates
from training.rl.episodes import Reward
from training.stages.four_models import Scorer

Messages = Sequence[Mapping[str, str]]
Prompts = Mapping[tuple[int, ...], Messages]  # conversations by the policy's token ids
PART = 1024  # prompts that are rendered at once


def rewards_of(scorers: Sequence[Scorer], renderer: Renderer, prompts: Callable[[], Prompts]) -> tuple[Reward, ...]:
    """The reward models of a run.

    Args:
        renderer: the policy's.
        prompts: gives the conversations of all its prompts; called where a reward model reads text.

    Raises:
        UserError: two have the same name, or one cannot read a prompt.
    """
    names = Counter(name_of(scorer) for scorer in scorers)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UserError(f"--reward: two reward models are named {twice}: rename one of the folders")
    conversations = {} if all(scorer.reads_ids for scorer in scorers) else prompts()
    return tuple(_reward(scorer, renderer, conversations) for scorer in scorers)


def name_of(scorer: Scorer) -> str:
    """A checkpoint's id, or the last part of a folder's or a hub id's name."""
    checkpoint = scorer.source.checkpoint
    return checkpoint.id if checkpoint else Path(scorer.source.path).absolute().name  # of `.` too


def conversations_of(selections: Sequence[reading.Selection], renderer: Renderer, longest: int) -> Prompts:
    """The conversations of all prompts of at most `longest` tokens, by the token ids that the renderer gives them."""
    conversations: dict[tuple[int, ...], Messages] = {}
    for selection in selections:
        unread = [SourceUsage(source, "") for source in selection.sources]
        for part in _parts(reading.entries(selection, reading.PROMPTS, unread)):
            for messages, row in zip(part, renderer.prompts(part, longest=longest), strict=True):
                ids = getattr(row, "ids", None)  # a refusal has none
                if ids is not None:
                    conversations[tuple(ids)] = messages
    return conversations


def _reward(scorer: Scorer, renderer: Renderer, conversations: Prompts) -> Reward:
    source = scorer.source
    extend = renderer.extend if scorer.reads_ids else through_text(renderer, scorer, conversations)
    return Reward(name_of(scorer), source.model, scorer.weight, source.reward_offset, extend)


def through_text(
    renderer: Renderer, scorer: Scorer, conversations: Prompts
) -> Callable[[list[int], list[int]], list[int] | None]:
    """The row that a reward model with another tokenizer reads: the conversation with the response's text, rendered
    by its own chat template; None where that refuses the text, or it is longer than the model takes.

    Raises:
        UserError: it cannot read one of the conversations.
    """
    own = templates.renderer_for(scorer.source)
    own.require_end()
    name, context = name_of(scorer), forward.context_of(scorer.source.model)
    answered = [[*messages, *ANSWERED[1:]] for messages in conversations.values()]
    refusal = next((row for row in own.render(answered, longest=context) if isinstance(row, Refusal)), None)
    if refusal is not None:
        raise UserError(f"{name} cannot read a prompt ({sentence(refusal)}): leave the prompt out, or the reward model")

    def extend(prompt: list[int], response: list[int]) -> list[int] | None:
        answer = {"role": "assistant", "content": renderer.answer(response)}
        [row] = own.render([[*conversations[tuple(prompt)], answer]])
        return None if isinstance(row, Refusal) or len(row.ids) > context else list(row.ids)

    return extend


def _parts(entries: Iterator[Any]) -> Iterator[list[Messages]]:
    while part := [entry.record.messages for entry in islice(entries, PART)]:
        yield part
