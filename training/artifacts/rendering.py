"""The one renderer: conversations as token ids with what is learned, for training, scoring, sampling and serving.

What is trained is what is sampled: a row is the ids of the generation prompt, then those of the answer, then its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from training.artifacts.checkpoints import System
from training.artifacts.conversations import (
    Message,
    Refusal,
    find_control_string,
    find_lost_system,
    merge_system,
    read_messages,
)
from training.artifacts.drafts import Draft, Drafter
from training.artifacts.encoding import Encoded, Encoder
from training.artifacts.errors import UserError
from training.artifacts.templates import Ending, Template, without_lead

AT_ONCE = 256  # conversations rendered and encoded together
# Every turn's place costs a rendering of all before it: the length of longer conversations is looked at first.
MANY_TURNS = 64
NO_END = (
    "nothing ends an assistant's turn: the chat template writes no token after it and the tokenizer has no "
    "end-of-sequence token; use `--chat-template default`, or give the tokenizer an eos_token"
)


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids.

    Attributes:
        ids: token ids, shape (tokens,).
        mask: 1 where a token is learned: an assistant's text and the token that ends its turn, not what the
            template writes after that; shape (tokens,).
        context_turns: assistant turns that are context only, though they have weight, because the template
            writes earlier turns otherwise than they are sampled.
    """

    ids: list[int]
    mask: list[int]
    context_turns: int = 0


class Renderer:
    """Renders conversations with a tokenizer's chat template.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        system: `merge` puts a system turn that the template refuses before the first user turn's text.
        stop_ids: end-of-sequence ids of generation_config.json, or a manifest's stop ids.
        size: number of token ids that the model has weights for; a tokenizer may have been given more.

    Attributes:
        stop_ids: ids that end an assistant's turn; none where nothing can (see `require_end`).
        control_strings: what no message may hold.
        size: as given, None where the tokenizer has no more ids than that.
        merges_system: whether system turns are merged.
        lost_system: which system turns are refused, as the template leaves them out: of `first` and `later`.

    Raises:
        UserError: the tokenizer has no chat template.
    """

    def __init__(
        self, tokenizer: Any, *, system: System = "keep", stop_ids: Sequence[int] = (), size: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.template = Template(tokenizer, stop_ids)
        self.stop_ids: tuple[int, ...] = self.template.stop_ids
        self.control_strings: tuple[str, ...] = self.template.control_strings
        self.merges_system: bool = system == "merge" and self.template.system_role is not None
        self.lost_system: tuple[str, ...] = self.template.lost_system
        self._ending: Ending = self.template.ending
        self._drafter = Drafter(self.template)
        self._encoder = Encoder(tokenizer, self.control_strings)
        self.size = size if size is not None and len(tokenizer) > size else None

    def require_end(self) -> None:
        """Raise `UserError` where nothing can end an assistant's turn: such a model cannot be trained."""
        if self._ending.id is None:
            raise UserError(NO_END)

    def render(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], *, learn: bool = False, longest: int | None = None
    ) -> list[Rendered | Refusal]:
        """Conversations as token ids; one that ends with the assistant is the sampled prompt, the answer and its end.

        Args:
            learn: find what is learned, and refuse a conversation in which that is nothing. Otherwise masks are 0.
            longest: greatest number of tokens.
        """
        return [row for part in _parts(conversations) for row in self._rows(part, learn, longest)]

    def prompts(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], *, longest: int | None = None
    ) -> list[Rendered | Refusal]:
        """Conversations as token ids that end with the header of an assistant's turn; all masks are 0."""
        return [row for part in _parts(conversations) for row in self._prompts(part, longest)]

    def extend(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[int]:
        """The row that a reward model reads for a sampled response: what `render` gives for its text."""
        response = list(response_ids)
        if response and response[-1] in self.stop_ids:
            response.pop()
        end = [] if self._ending.id is None else [self._ending.id]
        return [*prompt_ids, *response, *end, *self._ending.rest_ids]

    def answer(self, response_ids: Sequence[int]) -> str:
        """The content of a sampled response, without what the template writes around it."""
        ids = list(response_ids)
        finished = bool(ids) and ids[-1] in self.stop_ids
        if finished:
            ids.pop()
        mark, lead = self.template.lead_mark, self.template.lead
        if mark is not None and mark[1] in ids:  # its text would stay when its special tokens are left out
            ids = ids[len(ids) - ids[::-1].index(mark[1]) :]
            lead = lead.rpartition(mark[0])[2]
        text = without_lead(self._encoder.text(ids, self.template.prompt), lead)
        return text.removesuffix(self._ending.before if finished else "")

    def usable(self, conversation: Any) -> list[Message] | Refusal:
        """The conversation as the template is given it: plain turns without control strings."""
        turns = read_messages(conversation)
        if isinstance(turns, Refusal):
            return turns
        forged = find_control_string(turns, self.control_strings)
        if forged is not None:
            return forged
        if self.merges_system:
            turns = merge_system(turns)
        return find_lost_system(turns, self.lost_system) or turns

    def _prompts(self, conversations: Sequence[Any], longest: int | None) -> Iterator[Rendered | Refusal]:
        usable = [self._open(conversation) for conversation in conversations]
        texts = iter(self.template.texts([t for t in usable if not isinstance(t, Refusal)], generation=True))
        written = [turns if isinstance(turns, Refusal) else next(texts) for turns in usable]
        encoded = iter(self._encoder.encode([text for text in written if isinstance(text, str)]))
        for text in written:
            if isinstance(text, Refusal):
                yield text
            else:
                ids = next(encoded).ids
                yield self._limited(Rendered(ids, [0] * len(ids)), longest)

    def _open(self, conversation: Any) -> list[Message] | Refusal:
        """`usable`, and not ended by the assistant already."""
        turns = self.usable(conversation)
        if not isinstance(turns, Refusal) and turns[-1]["role"] == "assistant":
            return Refusal("malformed", "ends with the assistant: nothing is left to answer")
        if not isinstance(turns, Refusal) and not self.template.writes_prompts:
            return Refusal("template", "it does not write what the user says")
        return turns

    def _rows(self, conversations: Sequence[Any], learn: bool, longest: int | None) -> Iterator[Rendered | Refusal]:
        usable = [self._not_endless(self.usable(conversation), longest) for conversation in conversations]
        drafts = self._drafter.drafts(usable, learn)
        texts = [(d.text, d.prompt if not d.spans else None) for d in drafts if isinstance(d, Draft)]
        encoded = self._encoder.encode_answers(texts)
        for draft in drafts:
            if isinstance(draft, Refusal):
                yield draft
                continue
            row = self._limited(self._row(draft, next(encoded)), longest)
            if learn and isinstance(row, Rendered) and not any(row.mask[1:]):
                yield Refusal("nothing_to_learn")
            else:
                yield row

    def _not_endless(self, turns: list[Message] | Refusal, longest: int | None) -> list[Message] | Refusal:
        """The turns, refused at once where they are many and what the row begins with is twice as long as allowed."""
        if isinstance(turns, Refusal) or longest is None or len(turns) <= MANY_TURNS:
            return turns
        answered = turns[-1]["role"] == "assistant"
        text = self.template.texts([turns[:-1] if answered else turns], generation=answered)[0]
        if isinstance(text, str) and len(self._encoder.ids(text)) > 2 * longest:
            return Refusal("too_long", str(longest))
        return turns

    def _row(self, draft: Draft, encoded: Encoded) -> Rendered:
        """Ids and mask."""
        ids = encoded.ids
        if draft.prompt is None:
            mask = self._mask(draft, encoded)
            return Rendered(ids, mask, draft.context_turns)
        start = encoded.tokens_before(len(draft.prompt))
        if start is None:
            # A token lies across the end of the prompt. Sampled, the answer starts with a token of its own.
            encoded = self._encoder.encode([draft.prompt])[0]
            start = len(encoded.ids)
            ids = [*encoded.ids, *self._encoder.continuation(draft.answer)]
        mask = self._mask(draft, encoded)
        if not self._ending.written and self._ending.id is not None:
            ids = [*ids, self._ending.id]
        end = len(ids) - len(self._ending.rest_ids)  # of what is sampled
        mask += [0] * (len(ids) - len(mask))
        if draft.learned:
            first = end - 1 if draft.marked and any(mask[start:]) else start
            mask[first:end] = [1] * (end - first)
        return Rendered(ids, mask, draft.context_turns)

    def _limited(self, row: Rendered, longest: int | None) -> Rendered | Refusal:
        """The row if the model can read it."""
        if longest is not None and len(row.ids) > longest:
            return Refusal("too_long", str(longest))
        if self.size is not None and (last := max(row.ids, default=0)) >= self.size:
            return Refusal("unknown_token", str(self.tokenizer.convert_ids_to_tokens(last)))
        return row

    def _mask(self, draft: Draft, encoded: Encoded) -> list[int]:
        """1 for the tokens of the spans; a turn that has no place in the tokens is counted as context."""
        mask = [0] * len(encoded.ids)
        for span in draft.spans:
            first = encoded.tokens_before(span.start)
            if first is None:
                first = encoded.first_inside(span.start)
            last = encoded.tokens_through(span.end, whole=span.closed)
            if first is None or last is None:
                draft.context_turns += 1  # a tokenizer that knows no places, and a token across the turn's border
                continue
            if not span.closed and last < len(mask) and encoded.ids[last] in self.stop_ids:
                last += 1  # the next turn's header ends this one
            mask[first:last] = [1] * (last - first)
        return mask


def _parts(conversations: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(conversations), AT_ONCE):
        yield conversations[start : start + AT_ONCE]


def show(tokenizer: Any, rendered: Rendered) -> Text:
    """The conversation as the model reads it, learned tokens green, others grey."""
    text = Text()
    start = 0
    for index in range(1, len(rendered.ids) + 1):
        if index == len(rendered.ids) or rendered.mask[index] != rendered.mask[start]:
            piece = tokenizer.decode(rendered.ids[start:index], skip_special_tokens=False)
            text.append(piece, style="green" if rendered.mask[start] else "grey50")
            start = index
    return text
