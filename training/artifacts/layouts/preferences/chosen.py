"""A better and a worse response: hh-rlhf, TRL, Orca pairs, LLaMA-Factory, axolotl, UltraFeedback binarized."""

from __future__ import annotations

from training.artifacts.comparisons import Comparison
from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import Layout, column_text, filled, number
from training.artifacts.layouts.dialogues import dialogue
from training.artifacts.layouts.exchanges import PROMPTS, are_texts, conversation_of, prompt_of, system_of
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import is_messages, plain, same_text, turns, with_system
from training.artifacts.layouts.preferences.record import comparison, question_of
from training.artifacts.loading import Row
from training.artifacts.text import common_prefix

NAMES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),  # argilla
    ("response_j", "response_k"),  # stack exchange, paired
    ("pos_resp", "neg_resp"),  # CValues
    ("preferred_output", "non_preferred_output"),  # OpenAI
    ("preferred", "dispreferred"),  # HALOs
)
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)


def _read(row: Row, better: str, worse: str) -> Comparison:
    """A comparison of the two columns. Raises `Skip`."""
    scores = _scores(row)
    if filled(row, "status") and row["status"] == "tie":  # distilabel's second opinion
        scores = scores or (0.0, 0.0)
    if scores and scores[0] < scores[1]:
        raise fault("lower_score_chosen")
    if any(are_texts(row[name]) for name in (better, worse)):
        return _several(row, better, worse)
    prompt, texts = _prompt_and_texts(row, better, worse)
    ranks = (1, 1) if scores and scores[0] == scores[1] else (1, 2)
    return comparison(row, prompt, texts, ranks=ranks, meta={"ratings": list(scores)} if scores else None)


def _several(row: Row, better: str, worse: str) -> Comparison:
    """Several better or worse responses to the row's prompt: each better one beats each worse one."""
    sides = [row[name] if are_texts(row[name]) else [column_text(row, name)] for name in (better, worse)]
    ranks = (*[1] * len(sides[0]), *[1 + len(sides[0])] * len(sides[1]))
    return comparison(row, question_of(row), [*sides[0], *sides[1]], ranks=ranks)


def _scores(row: Row) -> tuple[float, float] | None:
    for names in SCORES:
        if all(filled(row, name) for name in names):
            chosen, rejected = (number(row[name]) for name in names)
            if chosen is not None and rejected is not None:
                return chosen, rejected
    return None


def _prompt_and_texts(row: Row, better: str, worse: str) -> tuple[tuple[Message, ...], list[str]]:
    """The common prompt and both last turns."""
    prompt = _prompt(row)
    dialogues = [_dialogue(row, name, prompt) for name in (better, worse)]
    if None in dialogues:
        return _implicit(*(column_text(row, name) for name in (better, worse)))
    first, second = (plain(messages) for messages in dialogues if messages is not None)
    if any(not messages or messages[-1]["role"] != "assistant" for messages in (first, second)):
        raise fault("not_to_assistant")
    if first[:-1] != second[:-1]:
        raise fault("different_prompts", f"{better} and {worse}")
    return first[:-1], [first[-1]["content"], second[-1]["content"]]


def _dialogue(row: Row, name: str, prompt: tuple[Message, ...] | None) -> tuple[Message, ...] | None:
    """A whole dialogue: from the column alone, or from the row's prompt and the column; None for text alone."""
    if is_messages(row[name]):
        spoken = turns(row[name])
    else:
        text = column_text(row, name)
        spoken = dialogue(text) or (Message(role="assistant", content=text.strip()),)
        if spoken[-1]["role"] != "assistant":
            raise fault("empty_response")
    if spoken[0]["role"] != "assistant":
        messages = with_system(spoken, system_of(row))
        if prompt is not None and not _agree(prompt, messages):
            raise fault("prompt_disagrees", name)
        return messages
    if prompt is None:
        if is_messages(row[name]):
            raise fault("no_prompt")
        return None
    return (*prompt, *spoken)


def _prompt(row: Row) -> tuple[Message, ...] | None:
    """The prompt in columns of its own. UltraFeedback binarized repeats the chosen dialogue in `messages`."""
    messages = prompt_of(row) if any(filled(row, name) for name in PROMPTS) else conversation_of(row)
    if messages is None or messages[-1]["role"] != "assistant":
        return messages
    return messages[:-1]


def _agree(prompt: tuple[Message, ...], messages: tuple[Message, ...]) -> bool:
    """Whether everything that the prompt says is said in the dialogue too."""
    contents = [m["content"] for m in messages if m["role"] != "assistant"]
    questions = [m["content"] for m in prompt if m["role"] != "assistant"]
    return all(any(same_text(turn, text) for turn in contents) for text in questions)


def _implicit(better: str, worse: str) -> tuple[tuple[Message, ...], list[str]]:
    """TRL's implicit prompt: what both texts begin with, up to a blank, where words are parted by blanks."""
    common = common_prefix(better, worse)
    blank = max(common.rfind(" "), common.rfind("\n"))
    prompt = common if blank < 0 and not common.isascii() else common[: max(blank, 0)]
    if not prompt.strip():
        raise fault("no_prompt")
    return (Message(role="user", content=prompt.strip()),), [text[len(prompt) :].strip() for text in (better, worse)]


def _layout(better: str, worse: str) -> Layout:
    return Layout(
        f"{better} and {worse}",
        "comparisons",
        ((worse,), (better,)),
        "Whole dialogues (lists of messages, or hh-rlhf's text), or answers to `prompt`, `instruction`, `question`, "
        "`input`, `messages` or `conversations`, each with `system`; TRL's implicit prompt. Dialogues that differ "
        "before their last turn are left out, and so is a chosen response with the lower score.",
        lambda row: _read(row, better, worse),
    )


LAYOUTS = tuple(_layout(better, worse) for better, worse in NAMES)
