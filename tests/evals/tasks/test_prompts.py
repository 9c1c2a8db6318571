"""Benchmark files ask what lm-eval's own task asks of the hub's rows: contexts, continuations, right answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.build import Built, Spec, build, quiet, spec_of
from evals.tasks.layouts import OFFICIAL, NotOfficial, official
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
ARC = {"text": ["this", "that", "both"], "label": ["A", "B", "C"]}
FIVE = {"label": list("ABCDE"), "text": ["bank", "library", "mall", "store", "new york"]}

# Task -> a row as the hub has it, and the same row as it is published elsewhere.
SAME: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "hellaswag",
        {
            "ind": 3, "activity_label": "Running", "ctx_a": "A man runs [step] fast.", "ctx_b": "he", "ctx": "",
            "endings": ["stops.", "flies. [title] x", "sits  down.", "eats."], "source_id": "s", "split": "val",
            "split_type": "indomain", "label": "1",
        },
        [
            {"activity_label": "Running", "ctx_a": "A man runs [step] fast.", "ctx_b": "he",
             "endings": ["stops.", "flies. [title] x", "sits  down.", "eats."], "label": 1},
            {"query": "Running: A man runs fast. He", "choices": ["stops.", "flies.. x", "sits down.", "eats."],
             "gold": 1},
        ],
    ),
    (
        "winogrande",
        {"sentence": "Sarah was better than Maria so _ got the easier cases.", "option1": "Sarah", "option2": "Maria",
         "answer": "2"},
        [
            {"qID": "3", "sentence": "Sarah was better than Maria so _ got the easier cases.", "option1": "Sarah",
             "option2": "Maria", "answer": "2"},
            {"context_options": ["Sarah was better than Maria so Sarah", "Sarah was better than Maria so Maria"],
             "continuation": "got the easier cases.", "gold": 1},
        ],
    ),
    (
        "winogrande",
        {"sentence": "Under_scores beat dashes, as the _ are wide.", "option1": "first", "option2": "last",
         "answer": "1"},
        [],
    ),
    (
        "wsc273",
        {"text": "The trophy doesn't fit into the brown suitcase because it is too large.", "pronoun": "it",
         "pronoun_loc": 55, "quote": "", "quote_loc": 0, "options": ["The trophy", "The suitcase"], "label": 0,
         "source": ""},
        [
            {"context_options": [
                "The trophy doesn't fit into the brown suitcase because the trophy",
                "The trophy doesn't fit into the brown suitcase because the suitcase"],
             "continuation": "is too large.", "gold": 0},
        ],
    ),
    (
        "wsc273",
        {"text": "Ann told Beth. Her voice was calm.", "pronoun": "Her", "pronoun_loc": 15, "quote": "",
         "quote_loc": 0, "options": ["The ann", "The beth"], "label": 1, "source": ""},
        [
            {"context_options": ["Ann told Beth. The ann's", "Ann told Beth. The beth's"],
             "continuation": "voice was calm.", "gold": 1},
        ],
    ),
    *(
        (
            name,
            {"id": "Q1", "question": "Which?", "choices": ARC, "answerKey": "B"},
            [
                {"id": "Q1", "answerKey": "B", "question": {"stem": "Which?", "choices": [
                    {"text": t, "label": k} for t, k in zip(ARC["text"], ARC["label"], strict=True)]}},
                {"query": "Question: Which?", "choices": ARC["text"], "gold": 1},
                {"query": "Question: Which?\nAnswer:", "choices": ARC["text"], "gold": 1},
            ],
        )
        for name in ("arc_easy", "arc_challenge")
    ),
    (
        "piqa",
        {"goal": "To open it", "sol1": "pull.", "sol2": "push.", "label": 1},
        [{"query": "Question: To open it\n", "choices": ["pull.", "push."], "gold": 1}],
    ),
    (
        "boolq",
        {"question": "is it so", "passage": "It -- It is so.", "idx": 0, "label": 1},
        [
            {"question": "is it so", "title": "It", "passage": "It -- It is so.", "answer": True},
            {"query": "Passage: It -- It is so.\nQuestion: is it so?", "choices": ["no", "yes"], "gold": 1},
        ],
    ),
    ("lambada_openai", {"text": "she saw the fox"}, [{"context": "she saw the", "continuation": "fox"}]),
    (
        "openbookqa",
        {"id": "7", "question_stem": "The sun is", "choices": ARC, "answerKey": "C"},
        [
            {"id": "7", "answerKey": "C", "question": {"stem": "The sun is", "choices": [
                {"text": t, "label": k} for t, k in zip(ARC["text"], ARC["label"], strict=True)]}},
            {"query": "The sun is", "choices": ARC["text"], "gold": 2},
        ],
    ),
    (
        "commonsense_qa",
        {"id": "a", "question": "Where is money?", "question_concept": "money", "choices": FIVE, "answerKey": "A"},
        [{"id": "a", "answerKey": "A", "question": {"stem": "Where is money?", "question_concept": "money", "choices": [
            {"text": t, "label": k} for t, k in zip(FIVE["text"], FIVE["label"], strict=True)]}}],
    ),
    (
        "social_iqa",
        {"context": "Ann left.", "question": "Why?", "answerA": "rain", "answerB": "work", "answerC": "fun",
         "label": "2"},
        [{"context": "Ann left.", "question": "Why?", "answerA": "rain", "answerB": "work", "answerC": "fun",
          "correct": "B"}],
    ),
    (
        "copa",
        {"premise": "The tap ran.", "choice1": "The sink filled.", "choice2": "It rained.", "question": "effect",
         "idx": 1, "label": 0},
        [{"query": "The tap ran, therefore", "choices": ["the sink filled.", "it rained."], "gold": 0}],
    ),
    (
        "copa",
        {"premise": "The tap ran.", "choice1": "It was open.", "choice2": "It rained.", "question": "cause",
         "idx": 1, "label": 1},
        [{"query": "The tap ran, because", "choices": ["it was open.", "it rained."], "gold": 1}],
    ),
    (
        "rte",
        {"sentence1": "It rains.", "sentence2": "It is wet.", "idx": 0, "label": 1},
        [{"premise": "It rains.", "hypothesis": "It is wet.", "label": "not_entailment", "idx": 0}],
    ),
    (
        "sglue_rte",
        {"premise": "It rains.", "hypothesis": "It is wet.", "idx": 0, "label": 0},
        [{"sentence1": "It rains.", "sentence2": "It is wet.", "label": "entailment"}],
    ),
    ("sst2", {"sentence": "a stirring film", "idx": 0, "label": 1}, [{"text": "a stirring film", "label": 1}]),
]  # fmt: skip
CASES = [(task, hub, row) for task, hub, rows in SAME for row in (hub, *rows)]


def requests_of(task: Any) -> tuple[list[Any], Any]:
    """Every request of the first document, and its right answer."""
    task.build_all_requests(limit=None, rank=0, world_size=1)
    document = task.eval_docs[0]
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    return [instance.args for instance in task.instances], gold


def ours(task: str, rows: Sequence[Mapping[str, Any]], folder: Path, shots: int = 0) -> Built:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build(spec_of(task, task, str(file), folder), (shots,), folder)[0]


def of_lm_eval(task: str, hub: Sequence[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """lm-eval's task as it builds it, where the hub gives these rows for every split."""
    import datasets
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    rows = datasets.Dataset.from_list(list(hub))
    splits = datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), rows))
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: splits)
    known = official(task)
    assert known is not None
    config = load_yaml(Path(str(lm_eval.tasks.__file__)).parent / known.yaml, resolve_func=True)
    config.pop("tag", None)
    assert config["task"] == known.task
    return ConfigurableTask(config=config)


@pytest.mark.parametrize(("task", "hub", "row"), CASES, ids=[f"{i}-{task}" for i, (task, _, _) in enumerate(CASES)])
def test_every_layout_gives_the_official_prompt(
    task: str, hub: dict[str, Any], row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "Under_scores" in str(hub):
        with pytest.raises(UserError, match="does not have one gap"):
            ours(task, [row], tmp_path)
        return
    quiet()
    expected = requests_of(of_lm_eval(task, [hub], monkeypatch))
    assert requests_of(ours(task, [row], tmp_path).task) == expected
    assert len(expected[0]) >= 1


def test_every_benchmark_has_a_case() -> None:
    assert {official(task).task for task, _, _ in SAME} == set(OFFICIAL)  # type: ignore[union-attr]


def test_an_underscore_before_the_gap_of_a_gauntlet_row(tmp_path: Path) -> None:
    row = {"context_options": ["a_b c so first", "a_b c so last"], "continuation": "ran.", "gold": 0}
    assert requests_of(ours("winogrande", [row], tmp_path).task) == (
        [("a_b c so first", " ran."), ("a_b c so last", " ran.")],
        0,
    )


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        (
            "commonsense_qa",
            {"query": "Where?\nA. x\nB. y\nAnswer:", "choices": ["A", "B"], "gold": 0},
            "four of",
        ),
        ("siqa", {"query": "Context: c\nAnswer:", "choices": ["A", "B"], "gold": 1}, "two of"),
    ],
)
def test_a_file_with_fewer_choices_is_said_to_be_our_prompt(
    task: str, row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(NotOfficial):
        official(task).columns(row)  # type: ignore[union-attr]
    built = ours(task, [row], tmp_path)
    assert (built.name, built.kind) == (task, "choices")
    assert reason in built.summary["note"]
    assert requests_of(built.task)[0] == [(row["query"], f" {choice}") for choice in row["choices"]]


def test_another_file_is_our_multiple_choice_and_says_so(tmp_path: Path) -> None:
    built = ours("trivia", [{"query": "Who?", "choices": ["Ada", "Bo"], "gold": 1}], tmp_path)
    assert requests_of(built.task) == ([("Who?", " Ada"), ("Who?", " Bo")], 1)
    assert "of our own" in built.summary["note"]


def test_ours_ask_what_they_should(tmp_path: Path) -> None:
    cloze = ours("cloze", [{"prompt": "the fox ", "answer": "runs", "skill": "verbs"}], tmp_path)
    assert requests_of(cloze.task)[0] == [("the fox", " runs")]
    text = ours("heldout", [{"text": "the fox runs ."}], tmp_path)
    assert requests_of(text.task)[0] == [("the fox runs .",)]


def test_few_shot_examples_never_include_the_item_itself(tmp_path: Path) -> None:
    rows = [{"goal": f"goal {n}", "sol1": f"one {n}", "sol2": f"two {n}", "label": n % 2} for n in range(4)]
    built = ours("piqa", rows, tmp_path, shots=3)
    assert built.name == "piqa-3shot"
    built.task.build_all_requests(limit=None, rank=0, world_size=1)
    for number, instance in enumerate(built.task.instances[::2]):
        context = instance.args[0]
        for other in range(4):
            assert context.count(f"goal {other}\n") == 1  # three examples and the item, once each
        assert context.endswith(f"Question: goal {number}\nAnswer:")


def test_few_shot_examples_are_those_of_lm_eval_where_the_split_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    train = [{"goal": f"train {n}", "sol1": f"a {n}", "sol2": f"b {n}", "label": n % 2} for n in range(9)]
    rows = [{"goal": f"goal {n}", "sol1": f"one {n}", "sol2": f"two {n}", "label": n % 2} for n in range(5)]
    folder = tmp_path / "piqa"
    folder.mkdir()
    for name, content in (("train", train), ("validation", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    reference = of_lm_eval("piqa", rows, monkeypatch)
    reference.dataset["train"] = datasets.Dataset.from_list(train)
    reference.__init__(config=reference.dump_config())  # its sampler reads the split when it is made
    reference.set_config("num_fewshot", 2)
    reference.set_fewshot_seed(1234)  # of `lm_eval` without an option
    built = build(Spec("piqa", "piqa", "piqa", str(folder)), (2,), tmp_path)[0]
    for task in (reference, built.task):
        task.build_all_requests(limit=None, rank=0, world_size=1)
    prompts = [instance.args for instance in built.task.instances]
    assert prompts == [instance.args for instance in reference.instances]
    assert prompts[0][0].count("train ") == 2
