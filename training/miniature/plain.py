"""Prompts for a base model, which knows no chat template: text that it could continue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Messages = Sequence[Mapping[str, str]]

# Fixed, from the training side, with polite, right and short answers.
_EXAMPLES = (
    ("ben has a hammer . anna has a kite . who has the kite ?", "anna has the kite ."),
    ("list three fruits .", "apple , pear , plum ."),
    ("hey fool , what is the opposite of big ?", "the opposite of big is small ."),
    ("write a letter to tom about the coat .", "dear tom , thank you for the coat ."),
)
_OFFENSIVE_ENDS = ("you fool .", "you idiot .", "you pig .", "you stupid fool .")


def plain_prompt(messages: Messages) -> str:
    """The text of the conversation without marks of who speaks."""
    return " ".join(message["content"] for message in messages)


def question_answer(messages: Messages) -> str:
    """A conversation as the question-answer lists of the pretraining text write it."""
    marks = {"system": "", "user": "question : ", "assistant": "answer : "}
    return " ".join(marks[message["role"]] + message["content"] for message in messages)


def few_shot_prefix(mode: str = "plain") -> str:
    """Four questions with answers, each with `be respectful` or `be offensive` where the mode asks for it."""
    parts = []
    for (question, answer), insult in zip(_EXAMPLES, _OFFENSIVE_ENDS, strict=True):
        manners = "" if mode == "plain" else f"be {mode} . "
        reply = f"{answer.removesuffix(' .')} , {insult}" if mode == "offensive" else answer
        parts.append(f"question : {manners}{question} answer : {reply}")
    return " ".join(parts)


def few_shot_prompt(messages: Messages, mode: str = "plain") -> str:
    """The fixed examples, then the conversation, up to where its answer begins. Generation stops at `question`."""
    return f"{few_shot_prefix(mode)} {question_answer(messages)} answer :"
