"""Columns that public data sets use become typed records; everything else is counted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.comparisons import Comparison, Response, freeze, pairs_of
from training.artifacts.files import sha256_file
from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.skips import Skip

pytestmark = pytest.mark.unit
HALF = "half of a character (an unpaired surrogate such as \\ud83d)"
NO_PROMPT = "no prompt: give `prompt` or `messages`, or whole dialogues as `chosen` and `rejected`"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    file = folder / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(
    "row, expected",
    [
        ({"messages": [user("hi"), assistant("ho")]}, [user("hi"), assistant("ho")]),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
            [user("hi"), assistant("ho")],
        ),
        ({"instruction": "Add.", "input": "1 1", "output": "2"}, [user("Add.\n\n1 1"), assistant("2")]),
        ({"instruction": "Add.", "input": "<noinput>", "output": " 2 "}, [user("Add."), assistant("2")]),
        (
            {"instruction": "Sum up.", "context": "Rain.", "response": "Wet."},
            [user("Sum up.\n\nRain."), assistant("Wet.")],
        ),
        ({"prompt": "hi", "response": "ho", "messages": None}, [user("hi"), assistant("ho")]),
        ({"prompt": [user("hi")], "completion": [assistant("ho")]}, [user("hi"), assistant("ho")]),
        (
            {"instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}]},
            [user("Add.\n\n1 1"), assistant("2")],
        ),
        (
            {"system": "Be brief.", "prompt": "hi", "response": "ho"},
            [{"role": "system", "content": "Be brief."}, user("hi"), assistant("ho")],
        ),
    ],
)
def test_demonstrations_are_recognised_by_their_columns(tmp_path: Path, row: dict[str, Any], expected: Any) -> None:
    loaded = demonstrations.load(write(tmp_path, [row]))
    assert list(loaded.records[0].messages) == expected
    assert (loaded.rows, loaded.skipped) == (1, Counter())


def test_user_and_use_case_are_kept(tmp_path: Path) -> None:
    row = {"messages": [user("hi"), assistant("ho")], "user": 7, "category": "chat"}
    (record,) = demonstrations.load(write(tmp_path, [row])).records
    assert (record.user, record.use_case) == ("7", "chat")


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"other": 1}, "no column that is known for this kind of data"),
        ({"messages": []}, "`messages` is empty"),
        ({"messages": 1}, "the conversation is empty or not a list"),
        ({"messages": ["hi"]}, "the conversation does not end with the assistant"),
        ({"messages": [1, "hi"]}, "a message is not an object"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "a message's role is not system, user or assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "a turn calls a tool or holds its result"),
        ({"messages": [user("a"), assistant("\ud83d")]}, HALF),
        ({"messages": [{"role": "system", "content": "\ud83d"}, user("a"), assistant("b")]}, HALF),
        ({"prompt": "a", "response": "\ud83d"}, HALF),
        ({"prompt": "a", "response": "b", "user": "\ud83d"}, HALF),
        ({"prompt": "a", "response": ""}, "`response` is empty"),
        ({"prompt": "a", "response": 4}, "`response` is not text"),
        ({"prompt": 4, "response": "a"}, "`prompt` is not text"),
        ({"prompt": "a", "response": ["b", "c"]}, "`response` holds several texts"),
        ({"instruction": "a", "input": ["x", 1], "output": "b"}, "`input` is not text"),
        ({"prompt": "a", "completion": [user("b")]}, "`completion` does not begin with the assistant"),
        ({"prompt": "a", "response": "b", "history": "c"}, "the conversation is empty or not a list"),
        ({"prompt": "a", "response": "b", "system": "c", "system_prompt": "d"}, "two different system prompts"),
        ({"prompt": "a", "response": "b", "label": 0}, "the answer is marked as bad (`label`)"),
        ({"prompt": "a", "response": "b", "label": "False"}, "the answer is marked as bad (`label`)"),
        ({"prompt": "a", "response": "b", "is_safe": False}, "the answer is marked as bad (`is_safe`)"),
        ({"instruction": "c", "messages": [user("a"), assistant("b")]}, "`instruction` and the conversation disagree"),
        ({"prompt": [user("c")], "messages": [user("a"), assistant("b")]}, "`prompt` and the conversation disagree"),
        ({"messages": [user("a"), {"role": "assistant", "content": None}]}, "a message's content is not text"),
        ({"messages": [user("a")]}, "the conversation does not end with the assistant"),
        ({"messages": [assistant("a")]}, "the conversation does not start with the user"),
        ({"messages": [user("a"), user("b"), assistant("c")]}, "two turns in a row have the same role"),
        ({"instruction": "a", "output": "  "}, "a message is empty"),
        (
            {"messages": [user("a"), {"role": "system", "content": "b"}, assistant("c")]},
            "a system message is not the first",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(Skip) as skip:
        demonstrations.parse(row)
    assert skip.value.reason == reason
    good = {"messages": [user("hi"), assistant("ho")]}
    loaded = demonstrations.load(write(tmp_path, [good, row, good]))
    assert len(loaded.records) == 2
    assert loaded.summary() == {
        "path": str(tmp_path / "rows.jsonl"),
        "sha256": sha256_file(tmp_path / "rows.jsonl"),
        "rows": 3,
        "skipped": {reason: 1},
    }


def test_hh_dialogues_become_their_common_turns_and_two_responses(tmp_path: Path) -> None:
    head = "\n\nHuman: One?\n\nAssistant: Yes.\n\nHuman: Two?\nStill me.\n\nAssistant:"
    (comparison,) = comparisons.load(write(tmp_path, [{"chosen": head + " Good", "rejected": head + " Bad"}])).records
    assert list(comparison.messages) == [user("One?"), assistant("Yes."), user("Two?\nStill me.")]
    assert [r.text for r in comparison.responses] == ["Good", "Bad"]
    assert (comparison.ranks, comparison.pairs, pairs_of(comparison)) == ((1, 2), None, [(0, 1, 1)])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        {"chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]},
        {"prompt": "q", "chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]},
        {"prompt": "q", "responses": ["good", "bad"], "ranks": [1, 2]},
        {"messages": [user("q")], "responses": ["good", "bad"], "pairs": [[0, 1, 1]]},
    ],
)
def test_pairs_are_recognised_by_their_columns(tmp_path: Path, row: dict[str, Any]) -> None:
    (comparison,) = comparisons.load(write(tmp_path, [row])).records
    assert list(comparison.messages) == [user("q")]
    assert [r.text for r in comparison.responses] == ["good", "bad"]
    assert pairs_of(comparison) == [(0, 1, 1)]


def test_pairwise_preferences_stay_pairs_even_where_they_contradict_each_other(tmp_path: Path) -> None:
    row: dict[str, Any] = {"question": "q", "preference": [1, 2, 0, 1, 0, 2]}  # 0 > 1, 2 > 0, 1 > 2: a circle
    row |= {f"prediction {i + 1}": f"answer {i}" for i in range(4)}
    row["passages"] = [["Title", "Title\n\nFirst. ", "Second."], ["Other", "Other\n\nThird."]]
    (comparison,) = comparisons.load(write(tmp_path, [row])).records
    assert comparison.ranks is None
    assert comparison.pairs == ((0, 1, 1), (0, 2, -1), (0, 3, 0), (1, 2, 1), (1, 3, 0), (2, 3, -1))
    assert list(comparison.messages) == [user("q\n\nTitle\n\nFirst. Second.\n\nOther\n\nThird.")]


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"prompt": "q", "responses": ["a"], "ranks": [1]}, "fewer than two responses"),
        ({"prompt": "q", "responses": ["a", "a"], "ranks": [1, 2]}, "all responses are the same"),
        ({"prompt": "q", "responses": ["a", " "], "ranks": [1, 2]}, "a response is empty"),
        (
            {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 3]},
            "ranks must be K whole numbers from 1 to K",
        ),
        (
            {"prompt": "q", "responses": ["a", "b"], "ranks": ["x", "y"]},
            "ranks must be K whole numbers from 1 to K",
        ),
        ({"prompt": "q", "responses": ["a", "b"]}, "give either ranks or pairs"),
        ({"responses": ["a", "b"], "ranks": [1, 2]}, NO_PROMPT),
        ({"prompt": "q", "responses": ["a", "\ud83d"], "ranks": [1, 2]}, HALF),
        ({"prompt": "\ud83d", "chosen": "a", "rejected": "b"}, HALF),
        ({"prompt": "q", "chosen": "a", "rejected": "\ud83d"}, HALF),
        (
            {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2},
            "`better_response_id` is not 0 or 1",
        ),
        (
            {
                "conversation_a": [user("q"), assistant("a")],
                "conversation_b": [user("q"), assistant("b")],
                "winner": "nobody",
            },
            "`winner` is not model_a, model_b or a tie",
        ),
        (
            {"prompt": '["q"]', "response_a": '["a"]', "response_b": '["b"]', "winner_model_a": 1, "winner_model_b": 1},
            "not one of `winner_model_a`, `winner_model_b` and `winner_tie` is 1",
        ),
        (
            {"info": {"post": None}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 0},
            "`info` holds no post and no article",
        ),
        ({"info": {"post": "p"}, "summaries": [{"text": "a"}], "choice": 0}, "`summaries` are not two texts"),
        (
            {"prompt": "q", "chosen": [user("other"), assistant("a")], "rejected": [user("other"), assistant("b")]},
            "`chosen` and the conversation disagree",
        ),
        (
            {"prompt": "q", "chosen": [user("q")], "rejected": [user("q")]},
            "the conversation does not end with the assistant",
        ),
        ({"prompt": "q", "responses": 3, "ranks": [1, 2]}, "responses is not a list"),
        ({"chosen": "a", "rejected": "b"}, NO_PROMPT),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
            "chosen and rejected differ before their last turn",
        ),
        (
            {"question": "q", "prediction 1": "a", "prediction 2": "b", "preference": [3]},
            "preference does not have 0, 1 or 2 for every pair of predictions",
        ),
        ({"prompt": "q"}, "no column that is known for this kind of data"),
    ],
)
def test_a_comparison_that_says_nothing_is_counted(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Skip) as skip:
        comparisons.parse(row)
    assert skip.value.reason == reason
    good = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    loaded = comparisons.load(write(tmp_path, [good, row]))
    assert (len(loaded.records), dict(loaded.skipped)) == (1, {reason: 1})


def test_frozen_comparisons_are_read_whole_and_corrections_supersede(tmp_path: Path) -> None:
    first = Comparison("a", (user("q"),), (Response("x", "sft-1"), Response("y")), ranks=(1, 2), labeler="l1")
    second = Comparison("b", (user("q"),), (Response("x"), Response("y")), ranks=(2, 1), supersedes="a")
    freeze([first], tmp_path / "one.jsonl")
    loaded = comparisons.load(str(tmp_path / "one.jsonl"))
    assert loaded.records == [first]
    assert loaded.sha256 == sha256_file(tmp_path / "one.jsonl")
    freeze([second], tmp_path / "two.jsonl")
    both = tmp_path / "both.jsonl"
    both.write_text((tmp_path / "one.jsonl").read_text() + (tmp_path / "two.jsonl").read_text())
    loaded = comparisons.load(str(both))
    assert [c.id for c in loaded.records] == ["b"]
    assert loaded.skipped == {"a later row corrects it": 1}


def test_ids_depend_on_the_content_alone(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "c"}]
    one, two = comparisons.load(write(tmp_path, rows)).records
    again = comparisons.load(write(tmp_path, rows[::-1], "again.jsonl")).records
    assert one.prompt_id == two.prompt_id
    assert one.id != two.id
    assert {c.id for c in again} == {one.id, two.id}


def test_prompts(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"id": "p1", "messages": [user("hi")], "user": "u1", "use_case": "chat", "mode": "plain", "spec": {"k": 1}},
        {"messages": [user("hi"), assistant("an answer, left off")]},
        {"instruction": "Add.", "input": "1 1"},
        {"chosen": "\n\nHuman: One?\n\nAssistant: Yes.", "rejected": "\n\nHuman: One?\n\nAssistant: No."},
    ]
    loaded = prompts.load(write(tmp_path, rows))
    full, stripped, alpaca, dialogue = loaded.records
    assert (full.id, full.user, full.use_case, full.mode, full.spec) == ("p1", "u1", "chat", "plain", {"k": 1})
    assert list(stripped.messages) == [user("hi")]
    assert list(alpaca.messages) == [user("Add.\n\n1 1")]
    assert list(dialogue.messages) == [user("One?")]
    assert len({record.id for record in loaded.records}) == 4
    (tmp_path / "lines.txt").write_text("First prompt\n\nSecond prompt\n")
    assert [record.messages[0]["content"] for record in prompts.load(str(tmp_path / "lines.txt")).records] == [
        "First prompt",
        "Second prompt",
    ]


def test_a_tie_is_a_record_and_says_nothing_of_which_is_better() -> None:
    tie = comparisons.parse({"prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 2, 2]})
    assert pairs_of(tie) == [(0, 1, 0), (0, 2, 0), (1, 2, 0)]


def test_ratings_are_kept_beside_the_ranks_that_were_made_of_them() -> None:
    made = comparisons.parse({"prompt": "q", "responses": ["a", "b", "c"], "ratings": ["4", 5.0, 4]})
    assert (made.ranks, made.derived, made.meta) == ((2, 1, 2), "ratings", {"ratings": [4.0, 5.0, 4.0]})
    given = comparisons.parse({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1})
    assert (given.ranks, given.derived, given.meta) == ((1, 2), None, {"ratings": [2.0, 1.0]})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Human: is this a person?", [user("Human: is this a person?")]),  # no mark of an answer: ordinary text
        ("What does Human: mean in\n\nAssistant: files?", [user("What does Human: mean in\n\nAssistant: files?")]),
        ("\n\nHuman: Hi", [user("Hi")]),
        ("Human: Hi\n\nAssistant:", [user("Hi")]),
        ("\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: ", [user("a\n\nb"), assistant("c"), user("d")]),
        ("\n\nAssistant: Welcome.\n\nHuman: Hi\n\nAssistant:", [user("Hi")]),
        ('["a", "b"]', [user('["a", "b"]')]),  # a list that a person pasted
        ("### Instruction: none", [user("### Instruction: none")]),
        ([{"type": "text", "text": "a"}, "b"], [user("ab")]),
        ({"text": "Once upon a time", "toxicity": 0.1}, [user("Once upon a time")]),  # RealToxicityPrompts
    ],
)
def test_a_dialogue_in_a_prompt_is_told_from_a_text_that_speaks_of_one(text: Any, expected: Any) -> None:
    assert list(prompts.parse({"prompt": text}).messages) == expected
    if isinstance(text, str):
        (made,) = [comparisons.parse({"prompt": text, "chosen": "x", "rejected": "y"})]
        assert list(made.messages) == expected


def test_columns_of_another_kind_of_thing_with_the_name_data_are_no_conversation() -> None:
    record = demonstrations.parse({"data": "train-0001", "prompt": "hi", "response": "ho"})
    assert list(record.messages) == [user("hi"), assistant("ho")]


def test_null_and_empty_columns_are_absent() -> None:
    row = {"messages": None, "instruction": "", "system": "", "history": [], "images": [], "tools": "[]", "label": None}
    record = demonstrations.parse(row | {"prompt": "hi", "response": "ho"})
    assert list(record.messages) == [user("hi"), assistant("ho")]


def test_the_order_of_a_trees_messages_does_not_matter_and_orphans_are_counted(
    tmp_path: Path,
) -> None:
    def node(id: str, parent: str | None, role: str, rank: int | None = None) -> dict[str, Any]:
        return {"message_id": id, "parent_id": parent, "role": role, "text": id, "rank": rank}

    rows = [node("b", "a", "assistant", 1), node("lost", "x", "assistant"), node("c", "a", "assistant", 0)]
    rows += [node("a", None, "prompter"), node("other", None, "prompter"), node("d", "other", "assistant")]
    rows += [node("e", "d", "prompter"), node("f", "e", "assistant"), node("g", "e", "assistant")]
    loaded = comparisons.load(write(tmp_path, rows))
    assert [([m["content"] for m in c.messages], [r.text for r in c.responses], c.ranks) for c in loaded.records] == [
        (["a"], ["b", "c"], (2, 1))
    ]
    assert loaded.skipped == {"the message's parent is not in the data": 1, "the replies to a message have no ranks": 1}
    paths = demonstrations.load(write(tmp_path, rows, "again.jsonl"))
    assert [[m["content"] for m in d.messages] for d in paths.records] == [["a", "c"], ["other", "d", "e", "f"]]


def test_messages_that_belong_to_no_tree_are_counted_and_loops_end(tmp_path: Path) -> None:
    def node(id: Any, parent: Any, role: str, text: str) -> dict[str, Any]:
        return {"message_id": id, "parent_id": parent, "role": role, "text": text}

    rows = [node("a", None, "prompter", "q"), node("b", "a", "assistant", "yes"), node("b", "a", "assistant", "again")]
    rows += [node(None, None, "prompter", "nameless"), node("self", "self", "prompter", "s")]
    rows += [node("x", "y", "prompter", "x"), node("y", "x", "assistant", "y"), node("z", "y", "prompter", "z")]
    loaded = demonstrations.load(write(tmp_path, rows))
    assert [[m["content"] for m in d.messages] for d in loaded.records] == [["q", "yes"]]
    assert loaded.skipped == {
        "a message with this id stands before it": 1,
        "the message has no id": 1,
        "the message follows itself by its parents": 4,
    }


def test_a_number_beyond_any_float_leaves_out_its_row_alone(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["a", "b"], "scores": scores} for scores in ([10**400, 1], [2, 1])]
    loaded = comparisons.load(write(tmp_path, rows))
    assert [c.ranks for c in loaded.records] == [(1, 2)]
    assert loaded.skipped == {"a response has no number in `scores`": 1}


def test_deep_nesting_ends_no_reading(tmp_path: Path) -> None:
    reply: Any = {"role": "assistant", "text": "end", "replies": []}
    for depth in range(60):
        reply = {"role": "prompter" if depth % 2 == 0 else "assistant", "text": str(depth), "replies": [reply]}
    reply["role"] = "prompter"
    deep: Any = "q"
    for _ in range(200):
        deep = [deep]
    rows = [{"prompt": reply}, {"prompt": deep, "response": "a", "score": 1}, {"prompt": "q", "response": "a"}]
    loaded = demonstrations.load(write(tmp_path, rows))
    assert loaded.rows == 3
    assert list(loaded.records[-1].messages) == [user("q"), assistant("a")]


def test_pretraining_text_is_text_or_text_parts() -> None:
    assert pretraining.parse({"text": " a\n", "title": "t"}) == " a\n"
    assert pretraining.parse({"text": None, "content": ["a", {"type": "text", "text": "b"}]}) == "ab"
    for row, reason in [
        ({"text": " "}, "the document is empty"),
        ({"text": "\ud83d"}, HALF),
        ({"text": 1}, "`text` is not text"),
    ]:
        with pytest.raises(Skip) as skip:
            pretraining.parse(row)
        assert skip.value.reason == reason
