"""Published layouts of TruthfulQA and RealToxicityPrompts give the same questions and prompts."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.data import realtoxicity, truthfulqa
from evals.data.realtoxicity import Prompt, balanced
from evals.data.truthfulqa import Targets
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
DATA = Path(os.environ.get("ALIGNLOOP_DATA", Path(__file__).parents[4] / "shared/data"))
published = pytest.mark.skipif(not (DATA / "truthfulqa").is_dir(), reason="no published data: set ALIGNLOOP_DATA")

QUESTION = "Do cats bark?"
MC1 = {"Cats meow.": 1, "Cats bark.": 0, "Only on Mondays.": 0}
MC2 = {"Cats meow.": 1, "No.": 1, "Cats bark.": 0, "Only on Mondays.": 0}
AUTHORS: dict[str, Any] = {"question": QUESTION, "mc1_targets": MC1, "mc2_targets": MC2}
LISTS = {
    "type": "Adversarial", "category": "Pets", "question": QUESTION, "best_answer": "Cats meow",
    "correct_answers": ["Cats meow", "No"], "incorrect_answers": ["Cats bark", "Only on Mondays"], "source": "x",
}  # fmt: skip


def write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_csv(path: Path, **changes: str) -> str:
    row = {
        "Type": "Adversarial", "Category": "Pets", "Question": QUESTION, "Best Answer": "Cats meow",
        "Correct Answers": "Cats meow; No", "Incorrect Answers": "Cats bark; Only on Mondays; ", "Source": "x",
    }  # fmt: skip
    row |= changes
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    return str(path)


def on_the_hub(targets: dict[str, int]) -> dict[str, Any]:
    return {"choices": list(targets), "labels": list(targets.values())}


def test_choices_are_the_same_in_every_layout(tmp_path: Path) -> None:
    hub = AUTHORS | {"mc1_targets": on_the_hub(MC1), "mc2_targets": on_the_hub(MC2)}
    pq.write_table(pa.Table.from_pylist([hub]), tmp_path / "hub.parquet")
    (tmp_path / "list.json").write_text(json.dumps([hub]))
    split = write(tmp_path / "split.jsonl", hub | {"split": "test"}, AUTHORS | {"question": "b", "split": "train"})
    sources = [
        str(tmp_path / "hub.parquet"),
        str(tmp_path / "list.json"),
        f"{split}@test",
        write(tmp_path / "authors.jsonl", AUTHORS),
        write(tmp_path / "hub.jsonl", hub),
        write_csv(tmp_path / "v1.csv"),
        write_csv(tmp_path / "v2025.csv", **{"Best Incorrect Answer": "Cats bark"}),
        write(tmp_path / "generation.jsonl", LISTS),
    ]
    for source in sources:
        (question,), _ = truthfulqa.read(source)
        assert question.text == QUESTION
        assert question.mc1 == Targets(("Cats meow.",), ("Cats bark.", "Only on Mondays."))
        assert question.mc2 == Targets(("Cats meow.", "No."), ("Cats bark.", "Only on Mondays."))
        assert question.id == truthfulqa.id_of(QUESTION)
        assert (question.mc0 is not None) == ("2025" in source)
    (question,), _ = truthfulqa.read(str(tmp_path / "v2025.csv"))
    assert question.mc0 == Targets(("Cats meow.",), ("Cats bark.",))
    assert (question.correct, question.incorrect) == (("Cats meow", "No"), ("Cats bark", "Only on Mondays"))


def test_files_of_a_folder_are_joined_by_question(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    other = {"Cats meow.": 1, "Cats sing.": 0}
    write(folder / "mc_task.jsonl", AUTHORS | {"mc1_targets": other}, AUTHORS | {"question": "Another?"})
    write(folder / "finetune_truth.jsonl", {"prompt": "Q: x\nA: y\nTrue:", "completion": " yes"})
    write_csv(folder / "TruthfulQA.csv")
    questions, described = truthfulqa.read(str(folder))
    assert [q.text for q in questions] == [QUESTION, "Another?"]
    # The task file's own choices go before those made of references.
    assert questions[0].mc1 == Targets(("Cats meow.",), ("Cats sing.",))
    assert [q.has_references for q in questions] == [True, False]
    assert {name: row["rows"] for name, row in described.items()} == {
        "truthfulqa:TruthfulQA.csv": 1, "truthfulqa:mc_task.jsonl": 2, "truthfulqa:finetune_truth.jsonl": 0,
    }  # fmt: skip
    write(folder / "mc_task_2025.jsonl", AUTHORS)
    with pytest.raises(UserError, match=r"mc_task.* hold the same question with different answers: give one edition"):
        truthfulqa.read(str(folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mc1_targets": {"a": 1, "b": 1, "c": 0}}, "not exactly one true answer"),
        ({"mc1_targets": {"a": 0, "c": 0}}, "lack true or false"),
        ({"mc2_targets": {"a": 1, "c": 1}}, "lack true or false"),
        ({"mc2_targets": {"choices": ["a", "b"], "labels": [1]}}, "not answers with a label each"),
        ({"mc2_targets": {"choices": "ab", "labels": [1, 0]}}, "not answers with a label each"),
        ({"mc2_targets": {"choices": ["a", "a"], "labels": [1, 0]}}, "hold an answer twice"),
        ({"mc2_targets": {"choices": ["a", "b"], "labels": [1, 0.4]}}, "not answers with a label each"),
        ({"mc2_targets": {"choices": ["a", 2], "labels": [1, 0]}}, "not answers with a label each"),
        ({"mc2_targets": {"a": "yes", "b": "no"}}, "not answers with a label each"),
        ({"mc2_targets": [1]}, "not answers with a label each"),
        ({"mc0_targets": {"a": 1, "b": 0, "c": 0}}, "not one true and one false"),
        ({"mc0_targets": {"a": 1, " ": 0}}, "lack true or false"),
        ({"question": " "}, "not text"),
        ({"question": None}, "not text"),
    ],
)
def test_a_question_that_cannot_be_scored_is_left_out(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    questions, described = truthfulqa.read(write(tmp_path / "a.jsonl", AUTHORS | change, AUTHORS | {"question": "b"}))
    assert [question.text for question in questions] == ["b"]
    assert [reason in key for key in described["truthfulqa"]["skipped"]] == [True]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has the columns text; this kind of data needs `question`"):
        truthfulqa.read(write(tmp_path / "a.jsonl", {"text": "x"}))
    with pytest.raises(UserError, match=r"no file of .* holds questions"):
        truthfulqa.read(str(Path(write(tmp_path / "f" / "a.jsonl", {"text": "x"})).parent))


@published
@pytest.mark.parametrize(
    ("name", "count", "with_mc0"),
    [
        ("TruthfulQA_v1_817.csv", 817, 0), ("mc_task_v1_817.jsonl", 817, 0),
        ("TruthfulQA_2025.csv", 790, 790), ("mc_task_2025.jsonl", 790, 790),
    ],
)  # fmt: skip
def test_published_questions_are_all_read(name: str, count: int, with_mc0: int) -> None:
    questions, described = truthfulqa.read(str(DATA / "truthfulqa" / name))
    assert (len(questions), described["truthfulqa"]["skipped"]) == (count, {})
    assert sum(question.mc0 is not None for question in questions) == with_mc0
    assert all(question.mc1 and question.mc2 for question in questions)


PROMPT = {"text": "The fox", "toxicity": 0.25, "threat": None}


@pytest.mark.parametrize(
    "row",
    [
        {"filename": "f", "begin": 1, "prompt": PROMPT, "continuation": {"text": " ran", "toxicity": 0.9}},
        {"prompt": json.dumps(PROMPT), "continuation": "x"},
        {"prompt.text": "The fox", "prompt.toxicity": "0.25", "continuation.toxicity": 0.9},
        {"prompt_text": "The fox", "prompt_toxicity": 0.25},
        {"prompt": "The fox", "prompt_toxicity": 0.25},
        {"prompt": "The fox", "toxicity": 0.25},
        {"text": "The fox", "toxicity": 0.25},
    ],
)
def test_prompts_are_the_same_in_every_layout(tmp_path: Path, row: dict[str, Any]) -> None:
    (prompt,) = realtoxicity.read(write(tmp_path / "a.jsonl", row)).records
    assert (prompt.text, prompt.toxicity, prompt.is_toxic, prompt.decile) == ("The fox", 0.25, False, 2)


def test_prompts_without_a_toxicity_and_repeated_ones_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": PROMPT | {"toxicity": value}} for value in (0.5, None, True, "nan", 1.5, 0.5)]
    loaded = realtoxicity.read(write(tmp_path / "a.jsonl", *rows, {"prompt": {"text": "", "toxicity": 0}}))
    assert [prompt.is_toxic for prompt in loaded.records] == [True]
    assert loaded.skipped == {
        "the prompt's toxicity is not a number from 0 to 1": 4,
        "the same prompt a second time": 1,
        "the prompt is not text": 1,
    }


def test_a_limit_is_spread_over_the_deciles() -> None:
    prompts = [Prompt(str(n), f"p{n}", n / 100) for n in range(100) if n < 3 or n >= 10]
    drawn = balanced(prompts, 33, 0)
    counts = Counter(prompt.decile for prompt in drawn)
    assert counts[0] == 3  # all that there are; the 30 others are shared by nine deciles
    assert sorted(counts.values()) == [3, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    assert drawn == balanced(prompts, 33, 0) != balanced(prompts, 33, 1)
    assert [p.id for p in drawn] == sorted((p.id for p in drawn), key=int)
    assert balanced(prompts, None, 0) == balanced(prompts, 1000, 0) == prompts
    assert Prompt("", "", 1.0).decile == 9


@published
def test_published_prompts_are_read() -> None:
    loaded = realtoxicity.read(str(DATA / "rtp"))
    assert (len(loaded.records), loaded.skipped) == (2392, {"the same prompt a second time": 4})
    assert set(Counter(p.decile for p in balanced(loaded.records, 100, 0)).values()) == {10}
