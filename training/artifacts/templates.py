"""What a chat template does: the text that it writes, how its turns end, which roles it knows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from training.artifacts.conversations import DROPS, Message, Refusal, strings_pattern
from training.artifacts.errors import UserError
from training.artifacts.text import common_prefix

QUESTION, ANSWER, SECOND, SYSTEM = "qzxkq", "azxka", "szxks", "yzxky"  # words that no template writes by itself
LONE_QUESTION: list[Message] = [{"role": "user", "content": QUESTION}]
ANSWERED: list[Message] = [*LONE_QUESTION, {"role": "assistant", "content": ANSWER}]
SYSTEM_TURN: Message = {"role": "system", "content": SYSTEM}
NO_TEMPLATE = (
    "the tokenizer has no chat template: give one with `--chat-template FILE`, or with `--chat-template default` "
    "the ready one, to `python -m training sft` (a base model) or `adopt`"
)
GENERATION_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class Ending:
    """What follows the content of the last assistant turn.

    Attributes:
        text: all that the template writes after the content.
        id: the token that ends the turn; None where nothing can.
        written: whether the template writes that token. If not, the turn is closed with the end-of-sequence
            token in place of `text`.
        before: what the template writes between the content and that token.
        rest: what it writes after the token.
        rest_ids: token ids of `rest`.
    """

    text: str
    id: int | None
    written: bool
    before: str = ""
    rest: str = ""
    rest_ids: tuple[int, ...] = ()


class Template:
    """The chat template of a tokenizer, seen from outside: by what it writes for short conversations.

    Args:
        tokenizer: a transformers tokenizer.
        stop_ids: end-of-sequence ids of generation_config.json.

    Raises:
        UserError: there is no template.
    """

    def __init__(self, tokenizer: Any, stop_ids: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.source = template_source(tokenizer)
        self._given_ids = tuple(dict.fromkeys(int(i) for i in stop_ids))
        self._parts = False
        self._opening: list[Message] = []
        self._parts = self._needs_parts()
        self._opening = self._needed_opening()

    def texts(self, conversations: Sequence[Sequence[Message]], *, generation: bool = False) -> list[str | Refusal]:
        """What the template writes for each conversation; several times faster than one by one."""
        if not conversations:
            return []
        try:
            return list(self._write([self._plain(turns) for turns in conversations], generation))
        except Exception as error:
            # A template is a program by strangers: beside its own refusals it fails with any error of Python.
            if len(conversations) > 1:
                return [text for turns in conversations for text in self.texts([turns], generation=generation)]
            return [self._refusal(conversations[0], generation, error)]

    def marks(self, turns: Sequence[Message]) -> list[tuple[int, int]]:
        """Characters that the template marks as generated (`{% generation %}`), to the token; none where unknown."""
        try:
            batch = self.tokenizer.apply_chat_template(
                self._plain(turns),
                return_dict=True,
                return_assistant_tokens_mask=True,
                tokenizer_kwargs={"return_offsets_mapping": True},
            )
        except (ValueError, NotImplementedError):  # a tokenizer without offsets
            return []
        if turns[-1]["role"] != "assistant" and batch["assistant_masks"][-1]:
            return []  # transformers marks all that follows an answer whose last blank has no place in the tokens
        marks: list[tuple[int, int]] = []
        before = 0
        for marked, (start, end) in zip(batch["assistant_masks"], batch["offset_mapping"], strict=True):
            if marked and before:
                marks[-1] = (marks[-1][0], end)
            elif marked:
                marks.append((start, end))
            before = marked
        return marks

    @cached_property
    def marked(self) -> bool:
        """Whether the template marks what is generated, and the tokenizer can tell which tokens those are."""
        return GENERATION_MARK.search(self.source) is not None and self._marked_answers != 0

    @property
    def marks_every_turn(self) -> bool:
        """Whether the template marks earlier answers as well as the last."""
        return self._marked_answers == 2

    @cached_property
    def _marked_answers(self) -> int | None:
        """How many of two answers are marked; None where the template refuses such a conversation."""
        talk: list[Message] = [*self._answered, {"role": "user", "content": SECOND}, ANSWERED[1]]
        text = self._one(talk)
        if not text:
            return None
        marks = self.marks(talk)
        places = [match.span() for match in re.finditer(ANSWER, text)]
        return sum(any(start < last and first < end for start, end in marks) for first, last in places)

    def _write(self, conversations: list[list[dict[str, Any]]], generation: bool) -> list[str]:
        texts: list[str] = self.tokenizer.apply_chat_template(
            conversations, tokenize=False, add_generation_prompt=generation
        )
        return texts

    def _plain(self, turns: Sequence[Message]) -> list[dict[str, Any]]:
        """Roles and contents, in the form that the template reads: text, or text parts."""
        if not self._parts:
            return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        return [{"role": t["role"], "content": [{"type": "text", "text": t["content"]}]} for t in turns]

    def _refusal(self, turns: Sequence[Message], generation: bool, error: Exception) -> Refusal:
        """The true reason: the system role where the template takes the conversation without it."""
        if len(turns) > 1 and turns[0]["role"] == "system" and not self._opening:
            rest = self.texts([turns[1:]], generation=generation)[0]
            if isinstance(rest, str):
                return Refusal("system_role", "refuses")
            return rest
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Refusal("template", reason[:200])

    def _one(self, turns: Sequence[Message], generation: bool = False) -> str:
        """What the template writes, or nothing where it refuses."""
        text = self.texts([turns], generation=generation)[0]
        return text if isinstance(text, str) else ""

    def _needs_parts(self) -> bool:
        """Whether text is lost as a string and not as a text part: some templates loop over parts alone."""
        if self._hears_question():
            return False
        self._parts = True
        needed = self._hears_question()
        self._parts = False
        return needed

    def _hears_question(self) -> bool:
        """Whether a question is in the text, with or without a system turn before it."""
        return any(QUESTION in self._one(turns) for turns in (LONE_QUESTION, [SYSTEM_TURN, *LONE_QUESTION]))

    def _needed_opening(self) -> list[Message]:
        """A system turn where the template takes no question without one."""
        texts = self.texts([LONE_QUESTION, [SYSTEM_TURN, *LONE_QUESTION]], generation=True)
        return [SYSTEM_TURN] if isinstance(texts[0], Refusal) and isinstance(texts[1], str) else []

    @property
    def _question(self) -> list[Message]:
        """A short question that the template takes."""
        return [*self._opening, *LONE_QUESTION]

    @property
    def _answered(self) -> list[Message]:
        """The same with its answer."""
        return [*self._opening, *ANSWERED]

    @cached_property
    def system_role(self) -> Refusal | None:
        """Why the template takes no system turn; None if it does."""
        if QUESTION not in self.prompt:
            return None  # it takes no lone question, so nothing is known
        text = self.texts([[SYSTEM_TURN, *LONE_QUESTION]], generation=True)[0]
        if isinstance(text, Refusal):
            return text
        return None if SYSTEM in text else Refusal("system_role", DROPS)

    @cached_property
    def lost_system(self) -> tuple[str, ...]:
        """Of `first` and `later`, the system turns that the template leaves out without a word."""
        first = self.system_role is not None and self.system_role.detail == DROPS
        text = self._one([*self._answered, SYSTEM_TURN, {"role": "user", "content": SECOND}], generation=True)
        both = 1 + len(self._opening)
        return ("first",) * first + ("later",) * (SECOND in text and text.count(SYSTEM) < both)

    @cached_property
    def ending(self) -> Ending:
        """How the last assistant turn ends: by the template's own token, else by the end-of-sequence token."""
        written = self._after_answer() or ""
        eos = self.tokenizer.eos_token_id
        known = {*self._given_ids, *([] if eos is None else [int(eos)])}
        added = set(self._added.values())
        # Some templates end a last turn otherwise than an earlier one: what both write ends a turn.
        same = common_prefix(written, self._between_turns()) or written
        searches = ((same, known), (same, added), (written, known), (written, added))
        first = next(filter(None, (self._first_token(*search) for search in searches)), None)
        if first is not None and first[1] not in encode(self.tokenizer, ANSWER + written):
            first = None  # written, but read as plain text: some tokenizers know a token only after a space
        if first is None:
            closing = int(eos) if eos is not None else next(iter(self._given_ids), None)
            return Ending(written, closing, written=False)
        string, index, before = first
        rest = written[len(before) + len(string) :]
        encoded = encode(self.tokenizer, string + rest)
        return Ending(written, index, True, before, rest, tuple(encoded[encoded.index(index) + 1 :]))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn: the template's, the end-of-sequence token, generation_config's."""
        ids = [self.ending.id, self.tokenizer.eos_token_id, *self._given_ids]
        return tuple(dict.fromkeys(int(i) for i in ids if i is not None))

    @cached_property
    def prompt(self) -> str:
        """The generation prompt of a short question; nothing where the template refuses it."""
        return self._one(self._question, generation=True)

    @cached_property
    def unheard(self) -> str:
        """Whose words the template does not write, `user` or `assistant`; empty if it writes both, or refuses."""
        question: Message = {"role": "user", "content": SECOND}
        answer: Message = {"role": "assistant", "content": SECOND}
        first, other_question, other_answer = self.texts(
            [self._answered, [*self._opening, question, ANSWERED[1]], [*self._question, answer]]
        )
        if isinstance(first, Refusal):
            return ""
        return "user" if first == other_question else "assistant" if first == other_answer else ""

    @cached_property
    def writes_prompts(self) -> bool:
        """Whether a generation prompt depends on what the user says; true where the template refuses a lone turn."""
        question: Message = {"role": "user", "content": SECOND}
        first, other = self.texts([LONE_QUESTION, [question]], generation=True)
        return isinstance(first, Refusal) or first != other

    @cached_property
    def header(self) -> str:
        """What `add_generation_prompt` adds to a conversation."""
        without, prompt = self._one(self._question), self.prompt
        return prompt[len(without) :] if prompt.startswith(without) else ""

    @cached_property
    def opened(self) -> str:
        """What a generation prompt writes that a finished turn lacks, such as the start of a thought."""
        prompt, finished = self._headers
        return "" if prompt.lstrip() in finished else prompt[len(common_prefix(prompt, finished)) :]

    @cached_property
    def lead(self) -> str:
        """What the template writes between a generation prompt and the last answer: an empty thought, or a space."""
        prompt, finished = self._headers
        prompt = prompt.lstrip()  # some write fewer blank lines before it than before the header of a finished turn
        return finished.rpartition(prompt)[2] if prompt and prompt in finished else ""

    @cached_property
    def _headers(self) -> tuple[str, str]:
        """What stands before an answer: in a generation prompt, and in a finished turn (nothing where unknown)."""
        before, answer, _ = self._one(self._answered).rpartition(QUESTION)[2].partition(ANSWER)
        return self.prompt.rpartition(QUESTION)[2], before if answer else ""

    @cached_property
    def lead_mark(self) -> tuple[str, int] | None:
        """The last special token of the lead and its id, as in `<|channel|>final<|message|>`."""
        special = {string: self._added[string] for string in special_strings(self.tokenizer) if string in self.lead}
        last = max(special, key=self.lead.rindex, default=None)
        return None if last is None else (last, special[last])

    @cached_property
    def control_strings(self) -> tuple[str, ...]:
        """What no message may hold: special tokens, and other added tokens that the template marks turns with.

        Tokens of a model's thoughts, which occur in answers, do not mark turns.
        """
        strings = set(special_strings(self.tokenizer))
        for opening in ([], [SYSTEM_TURN]):
            talk = self._one([*opening, *ANSWERED, {"role": "user", "content": SECOND}])
            if QUESTION in talk and ANSWER in talk and SECOND in talk:
                before, _, after = talk.partition(QUESTION)
                header, _, after = after.partition(ANSWER)
                prompt = self.prompt.rpartition(QUESTION)[2]
                marks = [before, common_prefix(header, prompt), after.partition(SECOND)[0]]
                strings |= {string for string in self._added if any(string in mark for mark in marks)}
        return tuple(sorted(strings, key=lambda s: (-len(s), s)))

    @cached_property
    def _added(self) -> dict[str, int]:
        """Added tokens and their ids, blank ones left out: some vocabularies hold runs of spaces."""
        added = {str(token): int(index) for token, index in self.tokenizer.get_added_vocab().items()}
        for token in special_strings(self.tokenizer):
            added.setdefault(token, int(self.tokenizer.convert_tokens_to_ids(token)))
        return {token: index for token, index in added.items() if token.strip()}

    def _after_answer(self) -> str | None:
        """What the template writes after the last answer; None where the answer is not in its text."""
        texts = (self._one(turns) for turns in (ANSWERED, [SYSTEM_TURN, *ANSWERED]))
        return next((text.rpartition(ANSWER)[2] for text in texts if ANSWER in text), None)

    def _between_turns(self) -> str:
        """What the template writes after an answer that is not the last; nothing where it cannot be found."""
        text = self._one([*self._answered, {"role": "user", "content": SECOND}])
        return text.partition(ANSWER)[2].partition(SECOND)[0]

    def _first_token(self, text: str, ids: set[int]) -> tuple[str, int, str] | None:
        """The first of these tokens in a text: its string, its id, and the text before it."""
        by_string = {string: index for string, index in self._added.items() if index in ids}
        match = strings_pattern(tuple(by_string)).search(text) if by_string else None
        if match is None:
            return None
        return match.group(), by_string[match.group()], text[: match.start()]


def without_lead(text: str, lead: str) -> str:
    """A sampled text without what the template writes before an answer, whose blanks added tokens may have taken in."""
    parts = re.split(r"(\s+)", lead)  # words and blanks in turn
    pattern = "".join(f"({re.escape(part)})?" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    match = re.match(pattern, text)
    return text[match.end() :] if match else text


def template_source(tokenizer: Any) -> str:
    """The Jinja text of the chat template; of several named ones the one called `default`.

    Raises:
        UserError: there is none.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise UserError(NO_TEMPLATE)
    if isinstance(template, Mapping):
        if not template.get("default"):
            names = ", ".join(sorted(template))
            raise UserError(
                f"the tokenizer has chat templates named {names} and none named `default`: "
                "give one of them with `--chat-template FILE`"
            )
        template = template["default"]
    return str(template)


def stop_ids(tokenizer: Any, generation_eos: Sequence[int] = ()) -> tuple[int, ...]:
    """Ids that end an assistant's turn; without a template those that end any text.

    Args:
        generation_eos: end-of-sequence ids of generation_config.json.
    """
    if getattr(tokenizer, "chat_template", None):
        return Template(tokenizer, generation_eos).stop_ids
    return tuple(dict.fromkeys(int(i) for i in (tokenizer.eos_token_id, *generation_eos) if i is not None))


def template_hash(tokenizer: Any) -> str | None:
    """sha256 of the chat template, or None without one."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def special_strings(tokenizer: Any) -> list[str]:
    """Strings that the tokenizer reads as control tokens, longest first."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    return sorted((s for s in special if s.strip()), key=lambda s: (-len(s), s))


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text as it is, without tokens that the tokenizer would add."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]


def generation_eos(folder: Path) -> tuple[int, ...]:
    """End-of-sequence ids that a checkpoint's generation_config.json names."""
    try:
        value = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return ()
    return eos_ids(value)


def eos_ids(value: Any) -> tuple[int, ...]:
    """`eos_token_id` of a configuration, which is a number, a list or nothing, as ids."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(i for i in values if isinstance(i, int) and not isinstance(i, bool) and i >= 0)
