"""Data of evals and judges goes through the one reader: every format, rows as their authors publish them."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals import run
from evals.judges import toxicity
from evals.options import Config
from evals.sources import sources_of
from evals.tasks.files import read, read_task
from evals.world.rows import read_rows
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


QUESTION = {
    "question": "Why?",
    "mc1_targets": {"Because.": 1, "Never.": 0, "Always.": 0},
    "mc2_targets": {"Because.": 1, "So.": 1, "Never.": 0},
}


def test_every_format_is_read_and_lines_end_with_lf_alone(tmp_path: Path) -> None:
    row = {"query": "Which one?", "choices": ["this\u2028", "that"], "gold": 1}
    expected = [{"query": "Which one?", "choices": ["this\u2028", "that"], "gold": 1, "id": "0"}]
    (tmp_path / "a.json").write_text(json.dumps([row]))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(row, ensure_ascii=False).encode()))
    for name in ("a.json", "a.jsonl.gz"):
        assert read("choices", tmp_path / name) == (expected, {})
    (tmp_path / "a.txt").write_text("one line\u2028of text\n\n二字\nheading:\n")
    rows, skipped = read("heldout", tmp_path / "a.txt")
    assert [row["text"] for row in rows] == ["one line\u2028of text", "二字"]
    assert skipped == {"fewer than two words": 1}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (1, 1), (0, 0), (True, 1), (False, 0), ("1", 1), ("0", 0), ("true", 1), ("False", 0), (1.0, 1),
        (0.1, 0), (0.49, 0), (0.5, 1), (0.9, 1), ("0.1", 0), (" 0.9 ", 1),
    ],
)  # fmt: skip
def test_a_toxicity_label_is_a_flag_or_a_share(tmp_path: Path, label: Any, expected: int) -> None:
    rows = [{"text": "a", "toxicity": label, "insult": label}, {"text": "b", "toxicity": 0, "insult": None}]
    examples, skipped = toxicity.read(write(tmp_path / "a.jsonl", rows))
    assert examples.labels == [[expected, 0, 0, 0, expected, 0], [0] * 6]
    assert not skipped


@pytest.mark.parametrize("label", [None, "", "Not Toxic", 7, -0.1, 1.5, "nan", [1]])
def test_a_label_that_says_nothing_leaves_out_its_row(tmp_path: Path, label: Any) -> None:
    rows = [{"text": "a", "toxicity": label}, {"text": "b", "toxicity": 1}]
    examples, skipped = toxicity.read(write(tmp_path / "a.jsonl", rows))
    assert (examples.texts, examples.labels) == (["b"], [[1, 0, 0, 0, 0, 0]])
    assert skipped == {"a label is not true, false or a share from 0 to 1": 1}


def test_comments_of_a_table_keep_their_lines(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "toxicity"), ("one,\ntwo\u2028", 0.7), ("three", 0.2), ("", 1)])
    examples, skipped = toxicity.read(tmp_path / "a.csv")
    assert list(zip(examples.texts, (row[0] for row in examples.labels), strict=True)) == [
        ("one,\ntwo\u2028", 1),
        ("three", 0),
    ]
    assert skipped == {"`text` is not text": 1}


SIQA = {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c"}


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("winogrande", {"sentence": "No gap.", "option1": "a", "option2": "b", "answer": "1"}, "does not have one gap"),
        ("winogrande", {"sentence": "A _ is.", "option1": "a", "option2": "b", "answer": ""}, "gold label names no"),
        ("winogrande", {"context_options": ["a x"], "continuation": "y", "gold": 0}, "not 2 choices"),
        ("arc_easy", {"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"}, "gold"),
        (
            "arc_easy",
            {"question": "?", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"},
            "a label",
        ),
        ("piqa", {"goal": "g", "sol1": "a", "sol2": "", "label": 0}, "an empty text"),
        ("piqa", {"goal": "g", "sol1": "a", "sol2": "b"}, "no column 'label'"),
        ("boolq", {"passage": "p", "question": "q", "label": "maybe"}, "gold label names no"),
        ("lambada_openai", {"context": "a b", "continuation": "two words"}, "not one word"),
        ("copa", {"query": "It rained, so", "choices": ["a", "b"], "gold": 0}, "something else than it should"),
        ("rte", {"premise": "p", "hypothesis": "h", "label": "unknown"}, "gold label names no"),
        ("winogrande", {"sentence": "A _ is.", "option1": "a", "option2": "b", "answer": True}, "gold label names no"),
        ("social_iqa", SIQA | {"label": float("inf")}, "not finite|gold label names no"),
        ("social_iqa", SIQA | {"label": 1.5}, "gold label names no"),
        ("social_iqa", SIQA | {"label": 0}, "gold label names no"),
        ("social_iqa", SIQA | {"correct": "Z"}, "gold label names no"),
        ("choices", {"query": "q", "choices": ["a", "b"], "gold": "B"}, "gold label names no"),
        (
            "arc_easy",
            {"question": "?", "choices": {"text": ["a", "a"], "label": ["A", "B"]}, "answerKey": "A"},
            "stands there twice",
        ),
        ("rte", {"premise": "p", "hypothesis": "h", "label": 2}, "gold label names no"),
        (
            "hellaswag",
            {"activity_label": "a", "ctx_a": "b", "ctx_b": None, "endings": ["x", "y"], "label": 0},
            "should",
        ),
    ],
)
def test_a_row_that_cannot_be_asked_is_counted(tmp_path: Path, kind: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read(kind, write(tmp_path / "a.jsonl", [row]))


def test_a_folder_is_read_at_the_split_that_lm_eval_evaluates(tmp_path: Path) -> None:
    row = {"goal": "g", "sol1": "a", "sol2": "b", "label": 0}
    (tmp_path / "piqa").mkdir()
    write(tmp_path / "piqa" / "train.jsonl", [row] * 3)
    write(tmp_path / "piqa" / "validation.jsonl", [row | {"goal": "h"}])
    rows = read_task("piqa", str(tmp_path / "piqa"), "validation", "train")
    assert ([row["goal"] for row in rows.rows], len(rows.training)) == (["h"], 3)
    named = read_task("piqa", f"{tmp_path / 'piqa'}@train", "validation", "train")
    assert (len(named.rows), named.training) == (3, [])


def test_repeated_ids_give_way_to_numbers(tmp_path: Path) -> None:
    rows = [{"id": name, "query": "Who?", "choices": ["Ada", "Bo"], "gold": 0} for name in ("x", "y")]
    assert read_task("choices", str(write(tmp_path / "a.jsonl", rows))).ids == ["x", "y"]
    assert read_task("choices", str(write(tmp_path / "b.jsonl", [rows[0], *rows]))).ids == ["0", "1", "2"]


def test_a_damaged_row_of_the_world_is_no_small_matter(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", [{"id": 1, "text": "a\u2028b"}])
    assert read_rows(tmp_path, "items.jsonl") == [{"id": 1, "text": "a\u2028b"}]
    write(tmp_path / "items.jsonl", [{"id": 1}, "{cut"])
    with pytest.raises(UserError, match=r"holds a damaged row \(not valid JSON\): make the world again"):
        read_rows(tmp_path, "items.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Who?", "choices": ["Ada"], "gold": 0},  # nothing to choose from: every model would be right
        {"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1.5},
        {"query": "Who?", "choices": ["Ada", "Bo"], "gold": True},
        {"query": "Who?", "choices": ["Ada", "Ada"], "gold": 0},  # the one that comes first would be right
    ],
)
def test_a_choice_that_measures_nothing_is_left_out(tmp_path: Path, row: dict[str, Any]) -> None:
    usable = {"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1.0}
    rows, skipped = read("choices", write(tmp_path / "a.jsonl", [usable, row]))
    assert [row["gold"] for row in rows] == [1]
    assert sum(skipped.values()) == 1


def config(tmp_path: Path, *data: str) -> Config:
    return Config(checkpoint=("any",), data=data, home=tmp_path / "home")


def test_data_may_be_a_folder_or_a_split(tmp_path: Path) -> None:
    choice = {"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1}
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.jsonl", [choice])
    write(tmp_path / "folder" / "b.jsonl", [choice] * 2)
    split = write(tmp_path / "c.jsonl", [choice | {"split": "test"}, choice | {"split": "train"}])
    questions = write(tmp_path / "d.jsonl", [QUESTION | {"split": "test"}, QUESTION | {"split": "train"}])
    options = config(tmp_path, f"trivia={tmp_path / 'folder'}", f"quiz={split}@test", f"truthfulqa={questions}@test")
    sources = sources_of(options)
    data: dict[str, Any] = {}
    for suite in run.suites_of((), sources):
        data |= suite.check(sources, options)
    assert {name: entry["rows"] for name, entry in data.items()} == {"trivia": 3, "quiz": 1, "truthfulqa": 1}


def test_a_named_file_that_nothing_is_asked_of_is_refused(tmp_path: Path) -> None:
    choice = write(tmp_path / "a.jsonl", [{"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1}])
    for name, needed in (("toxicity", "--scorer"), ("prompts", "--reward")):
        for others in ((), (f"quiz={choice}",)):
            with pytest.raises(UserError, match=f"--data {name}=... is not used: .*{needed}"):
                run.prepare(config(tmp_path, f"{name}={choice}", *others))


@pytest.mark.parametrize(
    ("names", "kinds", "message"),
    [
        (("heldout:a", "choices:a_tokens"), ("text", "choice"), "both be called a_tokens"),
        (("choices:a", "choices:a-chat"), ("choice", "choice"), "both be called a-chat"),
    ],
)
def test_results_of_two_tasks_never_share_a_name(
    tmp_path: Path, names: tuple[str, str], kinds: tuple[str, str], message: str
) -> None:
    rows = {"text": {"text": "two words"}, "choice": {"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1}}
    files = [write(tmp_path / f"{i}.jsonl", [rows[kind]]) for i, kind in enumerate(kinds)]
    with pytest.raises(UserError, match=message):
        run.prepare(config(tmp_path, *(f"{name}={file}" for name, file in zip(names, files, strict=True))))


@pytest.mark.parametrize("answer", [-1, 4, "E", None, True])
def test_a_label_of_the_hubs_layout_names_a_choice(tmp_path: Path, answer: Any) -> None:
    row = {"question": "q", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 1}
    file = write(tmp_path / "a.jsonl", [row, row | {"answer": answer}])
    if answer is None:  # counted as a row without a value
        run.prepare(config(tmp_path, f"mmlu_anatomy={file}"))
        return
    with pytest.raises(UserError, match=r"row 2 of .* does not fit|several types"):
        run.prepare(config(tmp_path, f"mmlu_anatomy={file}"))


def test_more_examples_than_rows_are_refused_beforehand(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"query": f"Who {i}?", "choices": ["Ada", "Bo"], "gold": 1} for i in range(3)])
    run.prepare(replace(config(tmp_path, f"quiz={file}"), shots=(2,)))
    with pytest.raises(UserError, match="has 2 rows for examples, and --shots wants 3"):
        run.prepare(replace(config(tmp_path, f"quiz={file}"), shots=(3,)))


def test_a_file_of_unreadable_rows_says_why(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ["{cut"])
    with pytest.raises(UserError, match="not valid JSON"):
        run.prepare(config(tmp_path, f"quiz={file}"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("trivia", "trivia"), "names trivia twice"),
        (("trivia", "cloze:trivia"), "names trivia twice"),  # results would hold both as one task
        (("cloze:",), "is not of the form NAME=FILE"),
    ],
)
def test_every_file_needs_a_name_of_its_own(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    file = write(tmp_path / "a.jsonl", [{"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1}])
    with pytest.raises(UserError, match=message):
        run.prepare(config(tmp_path, *(f"{name}={file}" for name in names)))
