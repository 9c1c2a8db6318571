"""Conversations as text with what is learned in characters: what a renderer encodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.artifacts.conversations import Message, Refusal
from training.artifacts.templates import QUESTION, Template
from training.artifacts.text import common_prefix


@dataclass(frozen=True)
class Span:
    """Characters of an assistant's turn, without and with the token that ends it."""

    start: int
    end: int
    closed: bool


@dataclass
class Draft:
    """A conversation as text, with what is learned in characters.

    Attributes:
        text: what the template writes for the whole.
        prompt: of a conversation that ends with the assistant, the generation prompt that its answer continues.
        answer: what follows the prompt, its end included where the template writes one.
        spans: earlier turns that are learned; with `marked` the last turn too.
        learned: whether the last turn is learned.
        marked: whether the spans are the template's own generation marks.
        context_turns: as in `Rendered`.
    """

    text: str
    prompt: str | None = None
    answer: str = ""
    spans: tuple[Span, ...] = ()
    learned: bool = False
    marked: bool = False
    context_turns: int = 0


class Drafter:
    """Drafts conversations with a chat template."""

    def __init__(self, template: Template) -> None:
        self.template = template

    def drafts(self, usable: list[list[Message] | Refusal], learn: bool) -> list[Draft | Refusal]:
        """Text of each conversation. The template writes all that is needed in two calls."""
        wholes: list[Sequence[Message]] = []
        prompts: list[Sequence[Message]] = []
        numbers: list[int] = []  # of the prompt of each turn: responses to one prompt follow each other
        for turns in usable:
            if isinstance(turns, Refusal):
                continue
            wholes.append(turns)
            for index in _assistant_turns(turns, learn):
                if not prompts or prompts[-1] != turns[:index]:
                    prompts.append(turns[:index])
                numbers.append(len(prompts) - 1)
                if index + 1 < len(turns):
                    wholes.append(turns[: index + 1])
        whole = iter(self.template.texts(wholes))
        written = self.template.texts(prompts, generation=True)
        prompt = (written[number] for number in numbers)
        drafts: list[Draft | Refusal] = []
        for turns in usable:
            if isinstance(turns, Refusal):
                drafts.append(turns)
                continue
            text = next(whole)
            places = _assistant_turns(turns, learn)
            starts = [next(prompt) for _ in places]
            ends = [next(whole) for index in places if index + 1 < len(turns)]
            drafts.append(text if isinstance(text, Refusal) else self._draft(turns, text, starts, ends, learn))
        return drafts

    def _draft(
        self, turns: list[Message], text: str, starts: list[str | Refusal], ends: list[str | Refusal], learn: bool
    ) -> Draft | Refusal:
        """Where the assistant's turns lie in the text.

        Args:
            starts: the generation prompt of each turn.
            ends: of each but a last turn, the conversation up to its end.
        """
        draft = Draft(text)
        if turns[-1]["role"] == "assistant":
            prompt = starts[-1]
            if isinstance(prompt, Refusal):
                return prompt
            if self.template.unheard:
                return Refusal("template", f"it does not write what the {self.template.unheard} says")
            if QUESTION in self.template.ending.text:
                return Refusal("template", "it writes the user's words after the answer")
            draft.prompt, draft.answer = prompt, self._answer(turns[-1]["content"], text, prompt)
            draft.text = prompt + draft.answer
            draft.learned = learn and turns[-1].get("weight", 1) != 0
        spans = [self._span(draft.text, start, end) for start, end in zip(starts, ends, strict=False)]
        draft.spans = tuple(span for span in spans if span is not None)
        draft.context_turns = len(spans) - len(draft.spans)
        if learn and self.template.marked:
            self._take_marks(draft, turns, text)
        return draft

    def _take_marks(self, draft: Draft, turns: list[Message], whole: str) -> None:
        """Put the template's own generation marks in place of the spans, where they separate the turns."""
        marks = self.template.marks(turns)
        weights = [turn.get("weight", 1) for turn in turns if turn["role"] == "assistant"]
        if not marks or (len(marks) != len(weights) and (0 in weights or self.template.marks_every_turn)):
            return  # a mark is missing: an empty answer has no token to be marked
        if len(marks) == len(weights):
            marks = [mark for mark, weight in zip(marks, weights, strict=True) if weight != 0]
        common = len(common_prefix(whole, draft.text))
        last = () if draft.prompt is None else (Span(len(draft.prompt), len(draft.text), False),)
        spans = [self._marked_span(draft.text, *mark) for mark in marks if mark[1] <= common]
        if not draft.context_turns:
            # Marks may reach into other turns, over blanks that the next token takes in or by a slip of the author.
            spans = [_overlap(span, turn) for turn in (*draft.spans, *last) for span in spans]
        draft.spans = tuple(span for span in spans if span.start < span.end)
        draft.learned = draft.prompt is not None and any(end > len(draft.prompt) for _, end in marks)
        draft.marked, draft.context_turns = True, 0

    def _marked_span(self, text: str, start: int, end: int) -> Span:
        """A mark as a span without the header and with the token that ends the turn, wherever the marks are."""
        header, ending = self.template.header, self.template.ending
        if header and text.startswith(header, start):
            start += len(header)
        until = ending.text.removesuffix(ending.rest) if ending.written else ""
        if until and text[:end].endswith(ending.text):
            end -= len(ending.rest)
        elif until and text.startswith(until, end):
            end += len(until)
        return Span(start, end, False)

    def _answer(self, content: str, whole: str, prompt: str) -> str:
        """What follows the generation prompt: the template's own words, or the content where it writes others."""
        ending = self.template.ending.text
        if whole.startswith(prompt):
            answer = whole[len(prompt) :]
            core = answer.removesuffix(ending)
        else:
            answer = ""
            space = self.template.lead if self.template.lead.isspace() else ""
            core = space + content.removeprefix(self.template.opened)
        if not self.template.ending.written:
            return core
        return answer if answer.endswith(ending) and ending else core + ending

    def _span(self, text: str, start: str | Refusal, end: str | Refusal) -> Span | None:
        """An earlier turn in the text; None where the template writes it otherwise than it was sampled."""
        if isinstance(start, Refusal) or isinstance(end, Refusal) or not end.endswith(self.template.ending.text):
            return None
        after = self.template.ending.rest if self.template.ending.written else self.template.ending.text
        until = end[: len(end) - len(after)]
        if not until.startswith(start) or not text.startswith(until):
            return None
        return Span(len(start), len(until), self.template.ending.written)


def _assistant_turns(turns: Sequence[Message], learn: bool) -> list[int]:
    """Places of the assistant's turns to locate: those with weight, and the last turn in any case."""
    last = len(turns) - 1
    return [
        index
        for index, turn in enumerate(turns)
        if turn["role"] == "assistant" and (index == last or (learn and turn.get("weight", 1) != 0))
    ]


def _overlap(mark: Span, turn: Span) -> Span:
    """The part of a mark that lies inside a turn; it ends before it starts where there is none."""
    return Span(max(mark.start, turn.start), min(mark.end, turn.end), turn.closed and mark.end >= turn.end)
