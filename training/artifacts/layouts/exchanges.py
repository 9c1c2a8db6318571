"""What a row asks and what it answers: conversations, prompts and answers from columns, with what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import column_text, filled, first_filled, peek, text_in
from training.artifacts.layouts.dialogues import dialogue
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import from_user, is_messages, same_text, turns, with_system
from training.artifacts.loading import Row

CONVERSATIONS = (
    *("messages", "conversations", "conversation", "dialogue", "dialog"),
    *("contents", "trajectory", "data"),
)
PROMPTS = (
    "instruction",
    "prompt",
    "question",
    "query",
    "inputs_pretokenized",
    "inputs",
    "problem",
    "input",
    "context",
)
CONTEXTS = ("input", "context", "article", "passage")  # reading matter that belongs to an instruction or question
ANSWERS = (
    "output",
    "response",
    "completion",
    "solution",
    "answer",
    "generation",
    "targets_pretokenized",
    "targets",
)
SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction")
NOT_TEXT = ("images", "image", "videos", "video", "audios", "audio")
TOOLS = ("tools", "functions")
CHOICES = ("choices", "options")
BAD = ("label", "kto_tag", "is_safe")  # flags of unpaired preferences: the answer is good, or is not
NO_INPUT = {"", "<noinput>", "n/a"}


def conversation_column(row: Row) -> str | None:
    """The column that holds a conversation. `data` is a name for many things: only a list counts."""
    name = first_filled(row, CONVERSATIONS)
    return None if name == "data" and not isinstance(peek(row, name), list | tuple) else name


def conversation_of(row: Row) -> tuple[Message, ...] | None:
    """The row's conversation where a column holds one, with its system prompt.

    Raises:
        Skip: it is not one, or other columns contradict it.
    """
    name = conversation_column(row)
    if name is None:
        return None
    refuse_what_text_lacks(row)
    messages = from_user(with_system(turns(row[name]), system_of(row)))
    _refuse_another_prompt(row, messages)
    return messages


def prompt_of(row: Row, names: Sequence[str] = PROMPTS) -> tuple[Message, ...] | None:
    """The row's prompt where a column holds one: earlier turns and system prompt first, reading matter last.

    Args:
        names: columns that may hold it; the first with a value does.

    Raises:
        Skip: it is neither text nor a conversation, or what belongs to it cannot be used.
    """
    name = first_filled(row, names)
    if name is None:
        return None
    refuse_what_text_lacks(row)
    value = row[name]
    if isinstance(value, Mapping) and "full_text" in value:  # WebGPT
        value = value["full_text"]
    elif isinstance(value, Mapping) and "messages" in value:  # OpenAI's preferences
        refuse_what_text_lacks(value)
        value = value["messages"]
    if is_messages(value):
        messages = turns(value)
    else:
        text = text_in(value)
        if text is None:
            raise fault("not_text", name)
        spoken = dialogue(text)
        messages = spoken or (Message(role="user", content=_with_context(row, name, text)),)
    return from_user(with_system((*_earlier(row), *messages), system_of(row)))


def answer_of(row: Row, names: Sequence[str] = ANSWERS) -> tuple[Message, ...] | None:
    """The row's answer where a column holds one: one turn of the assistant, or several turns that follow the prompt.

    Args:
        names: columns that may hold it; the first with a value does.

    Raises:
        Skip: it is neither text nor a conversation.
    """
    name = first_filled(row, names)
    if name is None:
        return None
    if is_messages(row[name]):
        messages = turns(row[name])
        if messages[0]["role"] != "assistant":
            raise fault("answer_not_from_assistant", name)
        return messages
    if are_texts(row[name]):
        raise fault("several_texts", name)
    return (Message(role="assistant", content=column_text(row, name).strip()),)


def are_texts(value: Any) -> bool:
    """Whether a value is a list of several texts: of several answers, rather than of one answer's parts."""
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(text, str) for text in value)


def system_of(row: Row) -> str | None:
    """The system prompt in a column of its own.

    Raises:
        Skip: it is not text, or two columns hold different ones.
    """
    texts = [_system_text(row, name) for name in SYSTEMS if filled(row, name)]
    if any(not same_text(text, texts[0]) for text in texts[1:]):
        raise fault("two_system_prompts")
    return texts[0] if texts else None


def _system_text(row: Row, name: str) -> str:
    value = row[name]
    text = text_in(value["parts"] if isinstance(value, Mapping) and "parts" in value else value)  # Gemini's parts
    if text is None:
        raise fault("not_text", name)
    return text


def refuse_what_text_lacks(row: Row) -> None:
    """Raise `Skip` where the row needs more than a conversation in text: pictures, tools, a list of choices."""
    for name in NOT_TEXT:
        if filled(row, name):
            raise fault("more_than_text", name)
    for name in TOOLS:
        if filled(row, name) and not _says_nothing(peek(row, name)):
            raise fault("needs_tools", name)
    for name in CHOICES:
        if isinstance(peek(row, name), list | tuple | Mapping) and filled(row, name):
            raise fault("choices", name)
    if filled(row, "segments"):
        raise fault("segments")


def _says_nothing(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in ("", "[]", "{}", "none", "null")


def _with_context(row: Row, name: str, text: str) -> str:
    """A prompt's text between its definition (Natural Instructions) and its reading matter."""
    definition = [column_text(row, "definition").strip()] if filled(row, "definition") else []
    contexts = [column_text(row, c).strip() for c in CONTEXTS if c != name and filled(row, c)]
    contexts += _passages(row)
    used = [part for part in contexts if part.lower() not in NO_INPUT]
    return "\n\n".join([*definition, text.strip(), *used])


def _passages(row: Row) -> list[str]:
    """Reading matter in several pieces: texts, or lists of a title and its sentences."""
    if not filled(row, "passages"):
        return []
    passages = row["passages"]
    if not isinstance(passages, list | tuple):
        raise fault("not_text", "passages")
    pieces = [
        p if isinstance(p, str) else text_in(p[1:] if isinstance(p, list) and len(p) > 1 else p) for p in passages
    ]
    texts = [piece.strip() for piece in pieces if piece is not None]
    if len(texts) < len(pieces):
        raise fault("not_text", "passages")
    return ["\n\n".join(texts)]


def _earlier(row: Row) -> tuple[Message, ...]:
    """Earlier turns beside an instruction: [[question, answer], ...], or a list of messages."""
    if not filled(row, "history"):
        return ()
    return turns(row["history"])


def _refuse_another_prompt(row: Row, messages: tuple[Message, ...]) -> None:
    """Raise `Skip` if a column holds a prompt that the conversation beside it does not."""
    contents = [m["content"] for m in messages if m["role"] != "assistant"]
    for name in ("prompt", "instruction"):
        if not filled(row, name):
            continue
        if is_messages(row[name]):
            questions = [m["content"] for m in turns(row[name]) if m["role"] != "assistant"]
        else:
            text = column_text(row, name)
            questions = [m["content"] for m in dialogue(text) or () if m["role"] != "assistant"] or [text]
        if not all(any(_holds(turn, text) for turn in contents) for text in questions):
            raise fault("prompt_disagrees", name)


def _holds(turn: str, text: str) -> bool:
    """Whether a turn is this text, or begins or ends with it (an instruction before or after its input)."""
    turn, text = " ".join(turn.split()), " ".join(text.split())
    return turn == text or (bool(text) and (turn.startswith(text) or turn.endswith(text)))
