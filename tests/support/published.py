"""Small data sets in the layouts of published ones, rows written anew, with the records that must come of them.

`DATA_SETS` is for every reader: `training`, `service import prompts` and `evals` must make the same records of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Turn = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Judged:
    """What a comparison must hold."""

    messages: list[Turn]
    texts: list[str]
    ranks: list[int] | None = None
    pairs: list[tuple[int, int, int]] | None = None
    derived: str | None = None
    all_bad: bool = False
    labeler: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: of the published data set or tool.
        layouts: names of the layouts that its rows fit, by kind.
        rows: as they are published.
        demonstrations, comparisons, prompts, pretraining: the records of each kind, None where it is not read as such.
        skipped: kind -> reason -> number of rows.
        ignored: kind -> columns that hold values which nothing reads.
    """

    name: str
    layouts: Mapping[str, str]
    rows: Rows
    demonstrations: list[list[Turn]] | None = None
    comparisons: list[Judged] | None = None
    prompts: list[list[Turn]] | None = None
    pretraining: list[str] | None = None
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ignored: Mapping[str, set[str]] = field(default_factory=dict)

    def write(self, folder: Path) -> str:
        """The rows as a JSONL file in `folder`."""
        file = folder / f"{self.name.replace(' ', '_').replace('/', '_')}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        return str(file)


def system(text: str) -> Turn:
    return {"role": "system", "content": text}


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def context(text: str) -> Turn:
    """A turn of the assistant that is never a target."""
    return {"role": "assistant", "content": text, "weight": 0}


def _said(name: str, text: str) -> dict[str, str]:
    return {"from": name, "value": text}


def _node(id: str, parent: str | None, role: str, text: str, rank: int | None = None) -> dict[str, Any]:
    return {"message_id": id, "parent_id": parent, "user_id": f"u-{id}", "role": role, "text": text, "rank": rank,
            "lang": "en", "deleted": False, "review_result": True, "message_tree_id": "m1"}  # fmt: skip


_OASST_FLAT: Rows = [
    _node("m1", None, "prompter", "How do I boil an egg?"),
    _node("m2", "m1", "assistant", "In water.", 2),
    _node("m3", "m1", "assistant", "Eight minutes in boiling water.", 0),
    _node("m4", "m1", "assistant", "Ask a cook.", 1),
    _node("m5", "m3", "prompter", "And a soft one?"),
    _node("m6", "m5", "assistant", "Five minutes.", 0),
    _node("m7", "m5", "assistant", "Twenty minutes.", 1),
    _node("m8", "m5", "assistant", "(spam)") | {"deleted": True},
]


def _nested(id: str) -> dict[str, Any]:
    node = next(row for row in _OASST_FLAT if row["message_id"] == id)
    return node | {"replies": [_nested(row["message_id"]) for row in _OASST_FLAT if row["parent_id"] == id]}


_EGG = [user("How do I boil an egg?"), assistant("Eight minutes in boiling water."), user("And a soft one?")]
_OASST_COMPARISONS = [
    Judged(_EGG[:1], ["In water.", "Eight minutes in boiling water.", "Ask a cook."], [3, 1, 2], user="u-m1"),
    Judged(_EGG, ["Five minutes.", "Twenty minutes."], [1, 2], user="u-m1"),
]
_DELETED = {"the message was deleted or rejected in review": 1}
_OASST = {"demonstrations": _DELETED, "comparisons": _DELETED, "prompts": _DELETED}

_HH_PROMPT = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a river.\n\nAssistant:"
_HH_TURNS = [user("Hi"), assistant("Hello."), user("Name a river.")]

DATA_SETS: tuple[DataSet, ...] = (
    # Demonstrations
    DataSet(
        "Alpaca",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {"instruction": "Add.", "input": "1 1", "output": "2"},
            {"instruction": "Name a color.", "input": "", "output": "Red."},
            {"instruction": "Name a bird.", "input": "<noinput>", "output": "Owl."},
        ],
        [
            [user("Add.\n\n1 1"), assistant("2")],
            [user("Name a color."), assistant("Red.")],
            [user("Name a bird."), assistant("Owl.")],
        ],
        prompts=[[user("Add.\n\n1 1")], [user("Name a color.")], [user("Name a bird.")]],
        ignored={"prompts": {"output"}},
    ),
    DataSet(
        "LLaMA-Factory Alpaca",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {
                "instruction": "And the next?",
                "input": "Only the name.",
                "output": "Venus.",
                "system": "You know the planets.",
                "history": [["Which planet is first?", "Mercury."]],
            },
            {"instruction": "Is it far?", "output": "No.", "kto_tag": True},
            {"instruction": "Is it near?", "output": "Who cares.", "kto_tag": False},
        ],
        [
            [
                system("You know the planets."),
                user("Which planet is first?"),
                assistant("Mercury."),
                user("And the next?\n\nOnly the name."),
                assistant("Venus."),
            ],
            [user("Is it far?"), assistant("No.")],
        ],
        prompts=[
            [
                system("You know the planets."),
                user("Which planet is first?"),
                assistant("Mercury."),
                user("And the next?\n\nOnly the name."),
            ],
            [user("Is it far?")],
            [user("Is it near?")],
        ],
        skipped={"demonstrations": {"the answer is marked as bad (`kto_tag`)": 1}},
        ignored={"prompts": {"output", "kto_tag"}},
    ),
    DataSet(
        "Dolly",
        {"demonstrations": "instruction"},
        [
            {"instruction": "When did it open?", "context": "It opened in 1901.", "response": "1901", "category": "qa"},
            {"instruction": "Name a fruit.", "context": "", "response": "Pear", "category": "brainstorming"},
        ],
        [
            [user("When did it open?\n\nIt opened in 1901."), assistant("1901")],
            [user("Name a fruit."), assistant("Pear")],
        ],
    ),
    DataSet(
        "self-instruct",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {
                "id": "seed_task_0",
                "name": "sums",
                "instruction": "Add.",
                "instances": [{"input": "1 1", "output": "2"}, {"input": "1 2", "output": "3"}],
                "is_classification": False,
            },
            {
                "id": "seed_task_1",
                "name": "tree",
                "instruction": "Name a tree.",
                "instances": [{"input": "", "output": "Oak"}],
                "is_classification": False,
            },
        ],  # fmt: skip
        [
            [user("Add.\n\n1 1"), assistant("2")],
            [user("Add.\n\n1 2"), assistant("3")],
            [user("Name a tree."), assistant("Oak")],
        ],
        prompts=[[user("Add.\n\n1 1")], [user("Add.\n\n1 2")], [user("Name a tree.")]],
        ignored={"demonstrations": {"id", "name", "is_classification"}},
    ),
    DataSet(
        "dolly_hhrlhf",
        {"demonstrations": "prompt and completion"},
        [
            {
                "prompt": "Below is an instruction that describes a task. Write a response that appropriately "
                "completes the request.\n\n### Instruction:\nName a lake.\n\n### Response:\n",
                "response": "Lake Constance.",
            },
            {
                "prompt": "Below is an instruction that describes a task, paired with an input that provides further "
                "context.\n\n### Instruction:\nTranslate.\n\n### Input:\nbonjour\n\n### Response:\n",
                "response": "hello",
            },
        ],
        [
            [user("Name a lake."), assistant("Lake Constance.")],
            [user("Translate.\n\nbonjour"), assistant("hello")],
        ],
    ),
    DataSet(
        "ShareGPT",
        {"demonstrations": "conversation"},
        [
            {"id": "a1", "conversations": [_said("human", "Hi"), _said("gpt", "Hello."), _said("human", "Bye")]},
            {"id": "a2", "conversations": [_said("gpt", "Welcome."), _said("human", "Hi"), _said("gpt", "Hello.")]},
            {"conversations": [_said("system", "Be brief."), _said("user", "Hi"), _said("chatgpt", "Hello.")]},
            {
                "conversations": [
                    _said("human", "Time?"),
                    _said("function_call", "{}"),
                    _said("observation", "9"),
                    _said("gpt", "Nine."),
                ],
                "tools": "[...]",
            },
        ],  # fmt: skip
        [
            [user("Hi"), assistant("Hello.")],
            [user("Hi"), assistant("Hello.")],
            [system("Be brief."), user("Hi"), assistant("Hello.")],
        ],
        skipped={"demonstrations": {"the row needs tools (`tools`)": 1}},
    ),
    DataSet(
        "ShareGPT with system",
        {"demonstrations": "conversation"},
        [
            {"system": "Be kind.", "conversations": [_said("human", "Hi"), _said("gpt", "Hello.")], "tools": "[]"},
            {"system": "", "conversations": [_said("human", "Hi"), _said("gpt", "Good day.")]},
            {"system": "A", "conversations": [_said("system", "B"), _said("human", "Hi"), _said("gpt", "Hello.")]},
        ],
        [
            [system("Be kind."), user("Hi"), assistant("Hello.")],
            [user("Hi"), assistant("Good day.")],
        ],
        skipped={"demonstrations": {"two different system prompts": 1}},
    ),
    DataSet(
        "OpenHermes",
        {"demonstrations": "conversation"},
        [
            {
                "system_prompt": "You are a guide.",
                "conversations": [
                    {"from": "human", "value": "Where?", "weight": None},
                    {"from": "gpt", "value": "Here.", "weight": None},
                ],
                "source": "guides",
                "views": None,
            }
        ],
        [[system("You are a guide."), user("Where?"), assistant("Here.")]],
        ignored={"demonstrations": {"source"}},
    ),
    DataSet(
        "SlimOrca",
        {"demonstrations": "conversation"},
        [
            {
                "conversations": [
                    {"from": "system", "value": "Think.", "weight": None},
                    {"from": "human", "value": "2 + 2?", "weight": 0.0},
                    {"from": "gpt", "value": "4", "weight": 1.0},
                ]
            }
        ],
        [[system("Think."), user("2 + 2?"), assistant("4")]],
    ),
    DataSet(
        "OpenOrca",
        {"demonstrations": "question and answer", "prompts": "prompt"},
        [
            {"id": "niv.1", "system_prompt": "Explain.", "question": "Why is ice cold?", "response": "No heat."},
            {"id": "niv.2", "system_prompt": "", "question": "Is it wet?", "response": "Yes."},
        ],
        [
            [system("Explain."), user("Why is ice cold?"), assistant("No heat.")],
            [user("Is it wet?"), assistant("Yes.")],
        ],
        prompts=[[system("Explain."), user("Why is ice cold?")], [user("Is it wet?")]],
    ),
    DataSet(
        "OpenAI messages",
        {"demonstrations": "conversation", "prompts": "conversation"},
        [
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    user("Capital of Peru?"),
                    {"role": "assistant", "content": "Cusco.", "weight": 0},
                    user("Are you sure?"),
                    {"role": "assistant", "content": "Lima.", "weight": 1},
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Count "}, {"type": "text", "text": "to 2"}]},
                    {"role": "assistant", "content": ["1, ", {"type": "text", "text": "2"}]},
                ]
            },
            {
                "messages": [
                    user("Weather?"),
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "sun"},
                    assistant("Sunny."),
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
                    assistant("A cat."),
                ]
            },
        ],  # fmt: skip
        [
            [
                system("Be brief."),
                user("Capital of Peru?"),
                context("Cusco."),
                user("Are you sure?"),
                assistant("Lima."),
            ],
            [user("Count to 2"), assistant("1, 2")],
        ],
        prompts=[
            [system("Be brief."), user("Capital of Peru?"), assistant("Cusco."), user("Are you sure?")],
            [user("Count to 2")],
        ],
        skipped={
            kind: {"a turn calls a tool or holds its result": 1, "a message holds something other than text": 1}
            for kind in ("demonstrations", "prompts")
        },
    ),
    DataSet(
        "axolotl conversations",
        {"demonstrations": "conversation"},
        [
            {
                "conversations": [
                    _said("human", "Hi") | {"train": False},
                    _said("assistant", "Hey") | {"train": False},
                    _said("human", "How are you?") | {"train": None},
                    _said("assistant", "Well.") | {"train": True},
                ]
            },
            {"conversations": [{"role": "user", "value": "Go."}, {"role": "model", "value": "Gone."}]},
            {"conversations": [_said("human", "Hi") | {"train": True}, _said("assistant", "Hey")]},
            {"conversations": [_said("human", "Hi"), _said("assistant", "Hey") | {"train_detail": [{"train": True}]}]},
            {"segments": [{"label": False, "text": "<s>Hi\n"}, {"label": True, "text": "Hello</s>"}], "messages": [1]},
        ],
        [
            [user("Hi"), context("Hey"), user("How are you?"), assistant("Well.")],
            [user("Go."), assistant("Gone.")],
        ],
        skipped={
            "demonstrations": {
                "a user's turn is marked to be learned": 1,
                "`train_detail` marks parts of a turn": 1,
                "`segments` hold finished text without roles": 1,
            }
        },
    ),
    DataSet(
        "TRL prompt and completion",
        {"demonstrations": "prompt and completion", "prompts": "prompt"},
        [
            {"prompt": "The sky is", "completion": " blue."},
            {"prompt": [user("What is red?")], "completion": [assistant("Blood.")]},
            {"prompt": "The sea is", "completion": " green.", "label": True},
            {"prompt": [user("What is it?")], "completion": [assistant("Shut up.")], "label": False},
        ],
        [
            [user("The sky is"), assistant("blue.")],
            [user("What is red?"), assistant("Blood.")],
            [user("The sea is"), assistant("green.")],
        ],
        prompts=[[user("The sky is")], [user("What is red?")], [user("The sea is")], [user("What is it?")]],
        skipped={"demonstrations": {"the answer is marked as bad (`label`)": 1}},
    ),
    DataSet(
        "UltraChat 200k",
        {"demonstrations": "conversation"},
        [
            {"prompt": "Hi", "prompt_id": "p1", "messages": [user("Hi"), assistant("Hello.")]},
            {"prompt": "Something else", "prompt_id": "p2", "messages": [user("Hi"), assistant("Hello.")]},
        ],
        [[user("Hi"), assistant("Hello.")]],
        skipped={"demonstrations": {"`prompt` and the conversation disagree": 1}},
    ),
    DataSet(
        "UltraChat",
        {"demonstrations": "conversation"},
        [{"id": "0", "data": ["Hi", "Hello.", "A fruit?", "Fig."]}],
        [[user("Hi"), assistant("Hello."), user("A fruit?"), assistant("Fig.")]],
    ),
    DataSet(
        "LIMA",
        {"demonstrations": "conversation"},
        [{"conversations": ["Hi", "Hello."], "source": "x"}, {"conversations": ["A", "B", "C", "D"], "source": "y"}],
        [[user("Hi"), assistant("Hello.")], [user("A"), assistant("B"), user("C"), assistant("D")]],
    ),
    DataSet(
        "Capybara",
        {"demonstrations": "conversation", "prompts": "conversation"},
        [{"source": "s", "conversation": [{"input": "Hi", "output": "Hello."}, {"input": "Go", "output": "Gone."}]}],
        [[user("Hi"), assistant("Hello."), user("Go"), assistant("Gone.")]],
        prompts=[[user("Hi"), assistant("Hello."), user("Go")]],
    ),
    DataSet(
        "WildChat",
        {"demonstrations": "conversation"},
        [
            {
                "conversation_hash": "h",
                "conversation": [
                    {"role": "user", "content": "Hi", "toxic": False, "redacted": False, "language": "English"},
                    {"role": "assistant", "content": "Hello.", "toxic": False, "redacted": False},
                ],
                "toxic": False,
                "redacted": False,
            }
        ],
        [[user("Hi"), assistant("Hello.")]],
        ignored={"demonstrations": {"conversation_hash", "toxic", "redacted"}},
    ),
    DataSet(
        "Magpie",
        {"demonstrations": "conversation"},
        [
            {
                "instruction": "Name a star.",
                "response": "Vega.",
                "conversations": [_said("human", "Name a star."), _said("gpt", "Vega.")],
            }
        ],
        [[user("Name a star."), assistant("Vega.")]],
        ignored={"demonstrations": {"response"}},
    ),
    DataSet(
        "GSM8K",
        {"demonstrations": "question and answer"},
        [{"question": "2 and 3?", "answer": "2 + 3 = 5\n#### 5"}, {"question": "Half of 8?", "answer": "#### 4"}],
        [[user("2 and 3?"), assistant("2 + 3 = 5\n#### 5")], [user("Half of 8?"), assistant("#### 4")]],
    ),
    DataSet(
        "FLAN",
        {"demonstrations": "inputs and targets", "prompts": "prompt"},
        [
            {"inputs": "Say yes.", "targets": "yes", "task": "t"},
            {"definition": "Negate.", "inputs": "hot", "targets": "cold"},
        ],
        [[user("Say yes."), assistant("yes")], [user("Negate.\n\nhot"), assistant("cold")]],
        prompts=[[user("Say yes.")], [user("Negate.\n\nhot")]],
    ),
    DataSet(
        "CAMEL",
        {"demonstrations": "two messages"},
        [{"role_1": "Physicist", "topic": "light", "message_1": "How fast is light?", "message_2": "300,000 km/s."}],
        [[user("How fast is light?"), assistant("300,000 km/s.")]],
    ),
    DataSet(
        "guanaco",
        {"demonstrations": "text with marked turns"},
        [
            {"text": "### Human: Hi### Assistant: Hello.### Human: A cat?### Assistant: Tom."},
            {"text": "A text without marks."},
        ],
        [[user("Hi"), assistant("Hello."), user("A cat?"), assistant("Tom.")]],
        pretraining=[
            "### Human: Hi### Assistant: Hello.### Human: A cat?### Assistant: Tom.",
            "A text without marks.",
        ],
        skipped={"demonstrations": {"no column that is known for this kind of data": 1}},
    ),
    DataSet(
        "context qa",
        {"demonstrations": "question and answer"},
        [
            {"article": "It rained.", "question": "Was it dry?", "answer": "No."},
            {"question": "Which?", "choices": ["a", "b"], "answer": "b"},
        ],
        [[user("Was it dry?\n\nIt rained."), assistant("No.")]],
        skipped={"demonstrations": {"a question with a list of choices (`choices`) has more than one rendering": 1}},
    ),
    # Comparisons
    DataSet(
        "hh-rlhf",
        {"comparisons": "chosen and rejected", "prompts": "chosen and rejected"},
        [
            {"chosen": f"{_HH_PROMPT} The Rhine.", "rejected": f"{_HH_PROMPT} No."},
            {"chosen": "\n\nHuman: A\n\nAssistant: B", "rejected": "\n\nHuman: C\n\nAssistant: D"},
        ],
        comparisons=[Judged(_HH_TURNS, ["The Rhine.", "No."], [1, 2])],
        prompts=[_HH_TURNS],
        skipped={kind: {"chosen and rejected differ before their last turn": 1} for kind in ("comparisons", "prompts")},
    ),
    DataSet(
        "Dahoas full-hh-rlhf",
        {"comparisons": "chosen and rejected", "demonstrations": "prompt and completion", "prompts": "prompt"},
        [{"prompt": _HH_PROMPT, "response": " The Rhine.", "chosen": " The Rhine.", "rejected": " No."}],
        [[*_HH_TURNS, assistant("The Rhine.")]],
        [Judged(_HH_TURNS, ["The Rhine.", "No."], [1, 2])],
        [_HH_TURNS],
        ignored={"comparisons": {"response"}, "demonstrations": {"chosen", "rejected"}},
    ),
    DataSet(
        "TRL preference",
        {"comparisons": "chosen and rejected"},
        [
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            {"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
            {"chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]},
        ],
        comparisons=[
            Judged([user("The sky is")], ["blue.", "green."], [1, 2]),
            Judged([user("The sky is")], ["blue.", "green."], [1, 2]),
            Judged([user("q")], ["good", "bad"], [1, 2]),
            Judged([user("q")], ["good", "bad"], [1, 2]),
        ],
    ),
    DataSet(
        "UltraFeedback binarized",
        {"comparisons": "chosen and rejected", "demonstrations": "conversation"},
        [
            {
                "prompt": "Name a sea.",
                "prompt_id": "p1",
                "chosen": [user("Name a sea."), assistant("The North Sea.")],
                "rejected": [user("Name a sea."), assistant("No.")],
                "messages": [user("Name a sea."), assistant("The North Sea.")],
                "score_chosen": 8.5,
                "score_rejected": 3.0,
            },
            {
                "prompt": "Name a lake.",
                "prompt_id": "p2",
                "chosen": [user("Name a lake."), assistant("Como.")],
                "rejected": [user("Name a lake."), assistant("Garda.")],
                "messages": [user("Name a lake."), assistant("Como.")],
                "score_chosen": 7.0,
                "score_rejected": 7.0,
            },
            {
                "prompt": "Name a hill.",
                "prompt_id": "p3",
                "chosen": [user("Name a hill."), assistant("x")],
                "rejected": [user("Name a hill."), assistant("y")],
                "messages": [user("Name a hill."), assistant("x")],
                "score_chosen": 1.0,
                "score_rejected": 7.0,
            },
            {
                "prompt": "Name a city.",
                "prompt_id": "p4",
                "chosen": [user("Name a town."), assistant("x")],
                "rejected": [user("Name a town."), assistant("y")],
                "messages": [user("Name a town."), assistant("x")],
                "score_chosen": 2.0,
                "score_rejected": 1.0,
            },
        ],
        [
            [user("Name a sea."), assistant("The North Sea.")],
            [user("Name a lake."), assistant("Como.")],
            [user("Name a hill."), assistant("x")],
        ],
        [
            Judged([user("Name a sea.")], ["The North Sea.", "No."], [1, 2]),
            Judged([user("Name a lake.")], ["Como.", "Garda."], [1, 1]),
        ],
        skipped={
            "comparisons": {
                "the chosen response has the lower score": 1,
                "`chosen` and the conversation disagree": 1,
            },
            "demonstrations": {"`prompt` and the conversation disagree": 1},
        },
    ),
    DataSet(
        "UltraFeedback",
        {"comparisons": "list of judged responses", "prompts": "prompt"},
        [
            {
                "source": "s",
                "instruction": "Name a metal.",
                "models": ["a", "b", "c"],
                "completions": [
                    {
                        "model": "a",
                        "response": "Iron.",
                        "overall_score": 8.0,
                        "fine-grained_score": 4.0,
                        "annotations": {"helpfulness": {"Rating": "5"}},
                    },
                    {
                        "model": "b",
                        "response": "Wood.",
                        "overall_score": 2.0,
                        "fine-grained_score": 5.0,
                        "annotations": {"helpfulness": {"Rating": "1"}},
                    },
                    {
                        "model": "c",
                        "response": "Gold.",
                        "overall_score": 8.0,
                        "fine-grained_score": 4.5,
                        "annotations": {"helpfulness": {"Rating": "4"}},
                    },
                ],
                "correct_answers": ["None"],
            },
            {
                "instruction": "Name a gas.",
                "completions": [
                    {"response": "Stone.", "annotations": {"truth": {"Rating": "1"}, "help": {"Rating": "2"}}},
                    {"response": "Neon.", "annotations": {"truth": {"Rating": "5"}, "help": {"Rating": "4"}}},
                ],
            },
            {
                "instruction": "Name an acid.",
                "completions": [{"response": "A", "overall_score": 3.0}, {"response": "B", "overall_score": None}],
            },
        ],  # fmt: skip
        comparisons=[
            Judged([user("Name a metal.")], ["Iron.", "Wood.", "Gold."], [1, 3, 1], derived="ratings"),
            Judged([user("Name a gas.")], ["Stone.", "Neon."], [2, 1], derived="ratings"),
        ],
        prompts=[[user("Name a metal.")], [user("Name a gas.")], [user("Name an acid.")]],
        skipped={"comparisons": {"a response has no number in `overall_score`": 1}},
        ignored={"comparisons": {"source", "models", "correct_answers"}},
    ),
    DataSet(
        "Nectar",
        {"comparisons": "list of judged responses", "prompts": "prompt"},
        [
            {
                "prompt": "\n\nHuman: Name a tree.\n\nAssistant: ",
                "answers": [
                    {"answer": f"Answer {place}", "model": "m", "rank": float(place)} for place in (3, 1, 2, 4, 7, 5, 6)
                ],
                "turns": 1,
                "num_responses": 7,
                "source": ["s"],
                "good_natured": True,
            }
        ],
        comparisons=[
            Judged(
                [user("Name a tree.")], [f"Answer {place}" for place in (3, 1, 2, 4, 7, 5, 6)], [3, 1, 2, 4, 7, 5, 6]
            )
        ],
        prompts=[[user("Name a tree.")]],
        ignored={"comparisons": {"turns", "num_responses", "source", "good_natured"}},
    ),
    DataSet(
        "HelpSteer2",
        {"comparisons": "responses and ratings", "demonstrations": "prompt and completion"},
        [
            {"prompt": "Name a fish.", "response": "Cod.", "helpfulness": 4, "correctness": 4, "verbosity": 1},
            {"prompt": "Name a fish.", "response": "A dog.", "helpfulness": 0, "correctness": 0, "verbosity": 1},
            {
                "prompt": "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a bee.",
                "response": "Maya.",
                "helpfulness": 3,
                "correctness": 4,
                "verbosity": 1,
            },
            {
                "prompt": "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a bee.",
                "response": "Willi.",
                "helpfulness": 3,
                "correctness": 2,
                "verbosity": 1,
            },
        ],
        [
            [user("Name a fish."), assistant("Cod.")],
            [user("Name a fish."), assistant("A dog.")],
            [user("Hi"), assistant("Hello."), user("Name a bee."), assistant("Maya.")],
            [user("Hi"), assistant("Hello."), user("Name a bee."), assistant("Willi.")],
        ],
        [
            Judged([user("Name a fish.")], ["Cod.", "A dog."], [1, 2], derived="ratings"),
            Judged(
                [user("Hi"), assistant("Hello."), user("Name a bee.")], ["Maya.", "Willi."], [1, 1], derived="ratings"
            ),
        ],
        ignored={"comparisons": {"correctness", "verbosity"}},
    ),
    DataSet(
        "HelpSteer2 preference",
        {"comparisons": "HelpSteer2 preference"},
        [
            {
                "split": "train",
                "prompt": "q",
                "response_1": "a",
                "response_2": "b",
                "preference_strength": -2,
                "preference_statement": "s",
                "preference_elaboration": "e",
            },
            {"split": "train", "prompt": "q", "response_1": "a", "response_2": "c", "preference_strength": 3},
            {"split": "val", "prompt": "q", "response_1": "a", "response_2": "d", "preference_strength": 0},
        ],  # fmt: skip
        comparisons=[
            Judged([user("q")], ["a", "b"], [1, 2]),
            Judged([user("q")], ["a", "c"], [2, 1]),
            Judged([user("q")], ["a", "d"], [1, 1]),
        ],
    ),
    DataSet(
        "HelpSteer3 preference",
        {"comparisons": "HelpSteer3 preference", "prompts": "HelpSteer3 preference"},
        [
            {
                "domain": "general",
                "language": "english",
                "context": [user("Hi"), assistant("Hello."), user("A moon?")],
                "response1": "Io.",
                "response2": "Mars.",
                "overall_preference": -1,
            }
        ],
        comparisons=[Judged([user("Hi"), assistant("Hello."), user("A moon?")], ["Io.", "Mars."], [1, 2])],
        prompts=[[user("Hi"), assistant("Hello."), user("A moon?")]],
    ),
    DataSet(
        "SHP",
        {"comparisons": "SHP", "prompts": "SHP"},
        [
            {
                "post_id": "p1",
                "domain": "d_train",
                "history": "How to peel it?",
                "human_ref_A": "By hand.",
                "human_ref_B": "With a knife.",
                "labels": 1,
                "score_A": 10,
                "score_B": 3,
            },
            {
                "post_id": "p1",
                "domain": "d_train",
                "history": "How to peel it?",
                "human_ref_A": "Not.",
                "human_ref_B": "With a knife.",
                "labels": 0,
                "score_A": 2,
                "score_B": 3,
            },
        ],  # fmt: skip
        comparisons=[
            Judged([user("How to peel it?")], ["By hand.", "With a knife."], [1, 2]),
            Judged([user("How to peel it?")], ["Not.", "With a knife."], [2, 1]),
        ],
        prompts=[[user("How to peel it?")], [user("How to peel it?")]],
        ignored={"comparisons": {"post_id", "domain", "score_A", "score_B"}},
    ),
    DataSet(
        "PKU-SafeRLHF",
        {"comparisons": "PKU-SafeRLHF"},
        [
            {
                "prompt": "q",
                "response_0": "a",
                "response_1": "b",
                "is_response_0_safe": True,
                "is_response_1_safe": False,
                "better_response_id": 1,
                "safer_response_id": 0,
            },
            {
                "prompt": "q",
                "response_0": "a",
                "response_1": "c",
                "is_response_0_safe": True,
                "is_response_1_safe": True,
                "better_response_id": 0,
                "safer_response_id": 0,
            },
        ],  # fmt: skip
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1]), Judged([user("q")], ["a", "c"], [1, 2])],
        ignored={"comparisons": {"is_response_0_safe", "is_response_1_safe", "safer_response_id"}},
    ),
    DataSet(
        "summarize_from_feedback",
        {"comparisons": "summarize_from_feedback", "prompts": "summarize_from_feedback"},
        [
            {
                "info": {
                    "id": "t3_1",
                    "post": "My bike broke.",
                    "title": "Bike",
                    "subreddit": "advice",
                    "site": None,
                    "article": None,
                },
                "summaries": [
                    {"text": " It broke.", "policy": "sup", "note": "n"},
                    {"text": " Broken bike, what now?", "policy": "ref", "note": "n"},
                ],
                "choice": 1,
                "worker": "w1",
                "batch": "batch3",
                "split": "train",
                "extra": {"confidence": 8},
            },
        ],  # fmt: skip
        comparisons=[
            Judged(
                [user("SUBREDDIT: r/advice\n\nTITLE: Bike\n\nPOST: My bike broke.\n\nTL;DR:")],
                ["It broke.", "Broken bike, what now?"],
                [2, 1],
                labeler="w1",
            )
        ],
        prompts=[[user("SUBREDDIT: r/advice\n\nTITLE: Bike\n\nPOST: My bike broke.\n\nTL;DR:")]],
        ignored={"comparisons": {"batch", "split", "extra"}},
    ),
    DataSet(
        "OASST messages",
        {"comparisons": "OASST", "demonstrations": "conversation", "prompts": "conversation"},
        [*_OASST_FLAT[4:], *_OASST_FLAT[:4]],  # in any order
        [[*_EGG, assistant("Five minutes.")]],
        _OASST_COMPARISONS,
        [_EGG],
        skipped=_OASST,
    ),
    DataSet(
        "OASST trees",
        {"comparisons": "OASST", "demonstrations": "conversation", "prompts": "conversation"},
        [{"message_tree_id": "m1", "tree_state": "ready_for_export", "prompt": _nested("m1")}],
        [[*_EGG, assistant("Five minutes.")]],
        _OASST_COMPARISONS,
        [_EGG],
        skipped=_OASST,
    ),
    DataSet(
        "Chatbot Arena",
        {"comparisons": "Arena votes", "prompts": "Arena votes"},
        [
            {
                "question_id": f"q{i}",
                "model_a": "m",
                "model_b": "n",
                "winner": winner,
                "judge": f"arena_user_{i}",
                "conversation_a": [user("Hi"), assistant("A")],
                "conversation_b": [user("Hi"), assistant(f"B{i}")],
                "turn": 1,
                "anony": True,
                "language": "English",
            }
            for i, winner in enumerate(("model_a", "model_b", "tie", "tie (bothbad)"))
        ]
        + [
            {
                "winner": "both_bad",
                "model_a": "m",
                "model_b": "n",
                "conversation_a": json.dumps([user("Hi"), assistant("A")]),
                "conversation_b": json.dumps([user("Hi"), assistant("C")]),
            },
            {
                "winner": "model_a",
                "conversation_a": [user("Hi"), assistant("A"), user("Go"), assistant("A2")],
                "conversation_b": [user("Hi"), assistant("B"), user("Go"), assistant("B2")],
                "turn": 2,
            },
            {
                "winner": "model_a",
                "conversation_a": [user("Hi"), assistant("A"), user("Go"), assistant("A2")],
                "conversation_b": [user("Hi"), assistant("B"), user("Go"), assistant("B2")],
                "turn": 1,
            },
        ],  # fmt: skip
        comparisons=[
            Judged([user("Hi")], ["A", "B0"], [1, 2], labeler="arena_user_0"),
            Judged([user("Hi")], ["A", "B1"], [2, 1], labeler="arena_user_1"),
            Judged([user("Hi")], ["A", "B2"], [1, 1], labeler="arena_user_2"),
            Judged([user("Hi")], ["A", "B3"], [1, 1], all_bad=True, labeler="arena_user_3"),
            Judged([user("Hi")], ["A", "C"], [1, 1], all_bad=True),
            Judged([user("Hi")], ["A", "B"], [1, 2]),
        ],
        prompts=[[user("Hi")]] * 6,
        skipped={
            kind: {"conversation_a and conversation_b differ before their last turn": 1}
            for kind in ("comparisons", "prompts")
        },
    ),
    DataSet(
        "Arena 55k",
        {"comparisons": "Arena votes in columns", "prompts": "Arena votes in columns"},
        [
            {
                "id": 1,
                "model_a": "m",
                "model_b": "n",
                "prompt": '["Hi"]',
                "response_a": '["A"]',
                "response_b": '["B"]',
                "winner_model_a": 0,
                "winner_model_b": 1,
                "winner_tie": 0,
            },
            {
                "id": 2,
                "model_a": "m",
                "model_b": "n",
                "prompt": '["Hi","Go"]',
                "response_a": '["A","C"]',
                "response_b": '["B","D"]',
                "winner_model_a": 0,
                "winner_model_b": 0,
                "winner_tie": 1,
            },
        ],  # fmt: skip
        comparisons=[Judged([user("Hi")], ["A", "B"], [2, 1])],
        prompts=[[user("Hi")]],
        skipped={kind: {"a battle over several turns has no one prompt": 1} for kind in ("comparisons", "prompts")},
    ),
    DataSet(
        "Orca DPO pairs",
        {"comparisons": "chosen and rejected", "prompts": "prompt"},
        [
            {"system": "Explain.", "question": "Why?", "chosen": "Because of x.", "rejected": "No."},
            {"system": "", "input": "How?", "chosen": "So.", "rejected": "No.", "status": "tie"},
        ],
        comparisons=[
            Judged([system("Explain."), user("Why?")], ["Because of x.", "No."], [1, 2]),
            Judged([user("How?")], ["So.", "No."], [1, 1]),
        ],
        prompts=[[system("Explain."), user("Why?")], [user("How?")]],
    ),
    DataSet(
        "LLaMA-Factory preferences",
        {"comparisons": "chosen and rejected"},
        [
            {"instruction": "Add.", "input": "1 1", "chosen": "2", "rejected": "3"},
            {
                "conversations": [_said("human", "Hi"), _said("gpt", "Hello."), _said("human", "A day?")],
                "chosen": _said("gpt", "Monday."),
                "rejected": _said("gpt", "No."),
                "system": "Be brief.",
            },
        ],
        comparisons=[
            Judged([user("Add.\n\n1 1")], ["2", "3"], [1, 2]),
            Judged([system("Be brief."), user("Hi"), assistant("Hello."), user("A day?")], ["Monday.", "No."], [1, 2]),
        ],
    ),
    DataSet(
        "axolotl preferences",
        {"comparisons": "chosen and rejected"},
        [
            {
                "messages": [system("Be brief."), user("A day?")],
                "chosen": assistant("Monday."),
                "rejected": assistant("No."),
            },
            {
                "system": "Be brief.",
                "prompt": "A day?",
                "chosen": [user("A day?"), assistant("Monday.")],
                "rejected": [user("A day?"), assistant("No.")],
            },
        ],  # fmt: skip
        comparisons=[Judged([system("Be brief."), user("A day?")], ["Monday.", "No."], [1, 2])] * 2,
    ),
    DataSet(
        "argilla preferences",
        {"comparisons": "chosen_response and rejected_response"},
        [
            {
                "instruction": "q",
                "chosen_response": "good",
                "rejected_response": "bad",
                "chosen_avg_rating": 4.5,
                "rejected_avg_rating": 2.0,
            }
        ],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "distilabel",
        {"comparisons": "responses and ratings"},
        [{"instruction": "q", "generations": ["a", "b", "c"], "ratings": [3, 5, 3], "rationales": ["", "", ""]}],
        comparisons=[Judged([user("q")], ["a", "b", "c"], [2, 1, 2], derived="ratings")],
        ignored={"comparisons": {"rationales"}},
    ),
    DataSet(
        "stack exchange",
        {"comparisons": "list of judged responses"},
        [
            {
                "qid": 4,
                "question": "q",
                "answers": [
                    {"answer_id": 7, "text": "a", "pm_score": 2, "selected": False},
                    {"answer_id": 9, "text": "b", "pm_score": 5, "selected": True},
                ],
            }
        ],
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1], derived="ratings")],
    ),
    DataSet(
        "stack exchange paired",
        {"comparisons": "response_j and response_k"},
        [{"qid": 4, "question": "q", "response_j": "good", "response_k": "bad"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "CValues",
        {"comparisons": "pos_resp and neg_resp"},
        [{"prompt": "q", "pos_resp": "good", "neg_resp": "bad", "pos_type": "x", "neg_type": "y"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "HALOs",
        {"comparisons": "preferred and dispreferred"},
        [{"prompt": "q", "preferred": "good", "dispreferred": "bad"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "WebGPT comparisons",
        {"comparisons": "WebGPT comparisons", "prompts": "prompt"},
        [
            {
                "question": {"dataset": "eli5", "id": "1", "full_text": "Why?"},
                "quotes_0": {"title": ["t"]},
                "answer_0": "So [1].",
                "score_0": -0.5,
                "answer_1": "Thus.",
                "score_1": 0.5,
            },
            {
                "question": {"dataset": "eli5", "id": "2", "full_text": "How?"},
                "answer_0": "So.",
                "score_0": 0.0,
                "answer_1": "Thus.",
                "score_1": 0.0,
            },
        ],  # fmt: skip
        comparisons=[
            Judged([user("Why?")], ["So [1].", "Thus."], [2, 1]),
            Judged([user("How?")], ["So.", "Thus."], [1, 1]),
        ],
        prompts=[[user("Why?")], [user("How?")]],
        ignored={"comparisons": {"quotes_0"}},
    ),
    DataSet(
        "UltraInteract pairs",
        {"comparisons": "chosen and rejected"},
        [{"task": "math", "trajectory": [_said("user", "Solve x.")], "chosen": "x = 1", "rejected": "x = 2"}],
        comparisons=[Judged([user("Solve x.")], ["x = 1", "x = 2"], [1, 2])],
    ),
    DataSet(
        "AlpacaFarm",
        {"comparisons": "AlpacaFarm"},
        [
            {"instruction": "Add.", "input": "1 1", "output_1": "2", "output_2": "3", "preference": 1},
            {"instruction": "Add.", "input": "", "output_1": "2", "output_2": "3", "preference": 2},
        ],
        comparisons=[Judged([user("Add.\n\n1 1")], ["2", "3"], [1, 2]), Judged([user("Add.")], ["2", "3"], [2, 1])],
    ),
    DataSet(
        "two responses and a winner",
        {"comparisons": "two responses and a winner"},
        [{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "B"}],
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1])],
    ),
    DataSet(
        "FG-QA",
        {"comparisons": "predictions", "prompts": "prompt"},
        [
            {
                "question": "q",
                "passages": [["Title", "Title\n\nFirst. ", "Second."]],
                "gold": "g",
                "prediction 1": "a",
                "prediction 2": "b",
                "prediction 3": "c",
                "preference": [1, 2, 0],
            }
        ],
        comparisons=[
            Judged([user("q\n\nTitle\n\nFirst. Second.")], ["a", "b", "c"], pairs=[(0, 1, 1), (0, 2, -1), (1, 2, 0)])
        ],
        ignored={"comparisons": {"gold"}},
    ),
    DataSet(
        "KTO as comparisons",
        {"comparisons": "responses and ratings"},
        [
            {"prompt": "q", "completion": "bad", "label": False},
            {"prompt": "other", "completion": "alone", "label": True},
            {"prompt": "q", "completion": "good", "label": True},
        ],
        comparisons=[Judged([user("q")], ["bad", "good"], [2, 1], derived="ratings")],
        skipped={"comparisons": {"fewer than two responses": 1}},
    ),
    DataSet(
        "our rows",
        {"comparisons": "comparison"},
        [
            {
                "id": "c1",
                "messages": [user("q")],
                "responses": [{"text": "a"}, {"text": "b"}, {"text": "c"}],
                "ranks": [1.0, 2.0, 2.0],
                "labeler": "l1",
                "split": "train",
            },
            {"prompt": "q", "responses": ["a", "b"], "pairs": [[0, 1, 0]]},
        ],  # fmt: skip
        comparisons=[
            Judged([user("q")], ["a", "b", "c"], [1, 2, 2], labeler="l1"),
            Judged([user("q")], ["a", "b"], pairs=[(0, 1, 0)]),
        ],
        ignored={"comparisons": {"split"}},
    ),
    DataSet(
        "responses without judgment",
        {"comparisons": "responses"},
        [
            {"prompt": "q", "responses": ["a", "b"]},
            {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 2]},
        ],
        comparisons=[Judged([user("q")], ["a", "b"], [1, 2])],
        skipped={"comparisons": {"give either ranks or pairs": 1}},
    ),
    # Pretraining
    DataSet(
        "text",
        {"pretraining": "document"},
        [{"text": "One.", "url": "u"}, {"content": [{"type": "text", "text": "Two."}]}, {"text": " "}],
        pretraining=["One.", "Two."],
        skipped={"pretraining": {"the document is empty": 1}},
        ignored={"pretraining": {"url"}},
    ),
)
