"""Any task of lm-eval on a local file in the hub's columns: generated text, corpus scores, directions, names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.suites import tax
from evals.tasks import names, squad
from evals.tasks.build import Built, Spec, build, quiet, spec_of
from evals.tasks.plan import specs
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


class Writer:
    """A model that writes given texts in order, and finds every continuation as likely as it is short."""

    tokenizer_name = "writer"

    def __init__(self, texts: Sequence[str | None] = ()) -> None:
        self.texts = list(texts)
        self.failures: dict[tuple[str, int], str] = {}
        self.lengths: dict[tuple[str, int], dict[int, int]] = {}
        self.settings: list[Any] = []

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        self.settings = [request.args[1] for request in requests]
        for request, text in zip(requests, self.texts, strict=True):
            if text is None:
                self.failures[request.task_name, request.doc_id] = "no answer"
        return [text or "" for text in self.texts]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        for request in requests:
            self.lengths.setdefault((request.task_name, request.doc_id), {})[request.idx] = len(request.args[1].split())
        return [(-float(len(request.args[1])), False) for request in requests]

    def apply_chat_template(self, messages: Sequence[Any], add_generation_prompt: bool = True) -> str:
        turns = "".join(f"[{message['role']}]{message['content']}" for message in messages)
        return turns + ("[assistant]" if add_generation_prompt else "")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where lm-eval's list of tasks is kept: made once, which takes seconds."""
    folder = tmp_path_factory.mktemp("tasks")
    names.task_files(folder)
    return folder


def built(name: str, rows: Sequence[Any], folder: Path, home: Path, shots: tuple[int, ...] = (0,)) -> list[Built]:
    quiet()
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build(spec_of(name, name, str(file), home), shots, home)


def measured(task: Built, model: Writer, form: tax.Form = "raw", limit: int | None = None) -> Any:
    name = task.name if form == "raw" else f"{task.name}-chat"
    return tax._measure_task(task, name, model, form, limit)


def test_translation_is_scored_by_the_corpus(tmp_path: Path, home: Path) -> None:
    import sacrebleu

    english = [
        f"the {word} house is very old and stands on a hill" for word in ["red", "blue", "big", "new", "low"]
    ] * 2
    rows = [{"translation": {"fr": f"phrase {n}", "en": text}} for n, text in enumerate(english)]
    texts = [text if n % 2 else text.replace("very old", "quite new") for n, text in enumerate(english)]
    (task,) = built("wmt14-fr-en", rows, tmp_path, home)
    assert task.task.config.doc_to_target == ' {{translation["en"]}}'
    result = measured(task, Writer(texts))
    bleu = result.figures["wmt14-fr-en.bleu"]
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(texts, [[f" {text}" for text in english]]).score)
    assert bleu.low < bleu.value < bleu.high
    assert (bleu.n, bleu.missing) == (10, 0)
    assert [item.scores["bleu"] == pytest.approx(100) for item in result.items] == [n % 2 == 1 for n in range(10)]
    directions = {metric.name: (metric.better, metric.margin, metric.required) for metric in result.metrics}
    assert directions == {
        "wmt14-fr-en.bleu": ("higher", 2.0, True),
        "wmt14-fr-en.chrf": ("higher", 2.0, False),
        "wmt14-fr-en.ter": ("lower", 2.0, False),
    }


def test_a_request_that_fails_is_missing_in_items_and_corpus(tmp_path: Path, home: Path) -> None:
    import sacrebleu

    rows: list[Any] = [{"translation": {"fr": "x", "en": f"one two three four five {n}"}} for n in range(10)]
    texts: list[str | None] = [f"one two three four five {n}" for n in range(10)]
    texts[3] = None
    (task,) = built("wmt14-fr-en", rows, tmp_path, home)
    result = measured(task, Writer(texts))
    bleu = result.figures["wmt14-fr-en.bleu"]
    assert (bleu.n, bleu.missing) == (9, 1)
    assert bleu.value == pytest.approx(100)  # an empty text in its place would lower it
    assert result.items[3].missing == "no answer"
    assert set(result.items[3].scores.values()) == {None}
    assert (
        sacrebleu.corpus_bleu([text or "" for text in texts], [[row["translation"]["en"] for row in rows]]).score < 99
    )


def test_summaries(tmp_path: Path, home: Path) -> None:
    rows = [{"id": str(n), "article": f"a fox ran {n}", "highlights": "the fox ran far away"} for n in range(10)]
    (task,) = built("cnn_dailymail_abisee", rows, tmp_path, home)
    result = measured(task, model := Writer(["the fox ran far away"] * 5 + ["the fox ate"] * 5))
    assert {settings["max_gen_toks"] for settings in model.settings} == {128}
    assert result.items[0].scores["rouge1"] == pytest.approx(1)
    assert result.items[9].scores["rouge1"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert result.figures == {}  # ROUGE is a mean over items
    assert next(metric for metric in result.metrics if metric.name.endswith("rouge1")).better == "higher"
    assert next(metric for metric in result.metrics if metric.name.endswith("summary_length")).better is None


def squad_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": str(n), "title": "Fox", "context": "The red fox ran.", "question": f"Who ran {n}?",
            "answers": {"text": ["The red fox"] if n % 2 == 0 else [], "answer_start": [0] if n % 2 == 0 else []},
        }
        for n in range(10)
    ]  # fmt: skip


def test_questions_with_and_without_an_answer(tmp_path: Path, home: Path) -> None:
    (task,) = built("squadv2", squad_rows(), tmp_path, home)
    result = measured(task, Writer([" red fox" if n % 2 == 0 else ("" if n < 5 else "a dog") for n in range(10)]))
    # All five with an answer are right ("the" does not count); of the others two of five are left unanswered.
    assert result.figures["squadv2.exact"].value == pytest.approx(70)
    assert result.figures["squadv2.HasAns_f1"].value == pytest.approx(100)
    assert result.figures["squadv2.NoAns_exact"].value == pytest.approx(40)
    assert result.figures["squadv2.exact"].low < 70 < result.figures["squadv2.exact"].high
    assert result.items[0].scores["HasAns_exact"] == 100
    assert "NoAns_exact" not in result.items[0].scores  # it does not apply, which is not a zero
    assert (result.items[0].id, result.items[7].scores["NoAns_f1"]) == ("0", 0.0)


def test_squad_scores_by_hand() -> None:
    assert squad.f1("the red fox", "red dog") == pytest.approx(0.5)
    assert (squad.f1("", ""), squad.f1("", "fox"), squad.f1("a", "the")) == (1.0, 0.0, 1.0)
    references = [{"id": "1", "answers": {"text": ["fox", "red fox!"]}}, {"id": "2", "answers": {"text": []}}]
    predictions = [
        {"id": "1", "prediction_text": "Red fox", "no_answer_probability": 0.1},
        {"id": "2", "prediction_text": "dog", "no_answer_probability": 0.9},
    ]
    scores = squad.compute(predictions, references)
    assert scores["exact"] == scores["f1"] == 50
    assert scores["best_exact"] == 100  # left unanswered above 0.1, both are right
    assert (scores["HasAns_exact"], scores["NoAns_exact"]) == (100, 0)


def test_drop(tmp_path: Path, home: Path) -> None:
    nobody = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    rows = [
        {
            "section_id": "s", "query_id": f"q{n}", "passage": "It rained 3 days.", "question": "How long?",
            "answer": nobody | {"number": "3"},
            "validated_answers": {"number": ["", "3"], "date": [nobody["date"]] * 2, "spans": [["3 days"], []]},
        }
        for n in range(10)
    ]  # fmt: skip
    (task,) = built("drop", rows, tmp_path, home)
    result = measured(task, model := Writer([" 3"] * 6 + [" 4"] * 4))
    assert [item.scores["em"] for item in result.items] == [1.0] * 6 + [0.0] * 4
    assert model.settings[0]["until"] == ["."]


def test_sums_are_read_by_two_filters_and_with_examples(tmp_path: Path, home: Path) -> None:
    rows = [{"question": f"How much is {n} + 1?", "answer": f"It is <<{n}+1>>.\n#### {n + 1}"} for n in range(10)]
    plain, five = built("gsm8k", rows, tmp_path, home, shots=(0, 5))
    assert (plain.name, five.name) == ("gsm8k", "gsm8k-5shot")
    texts = [f"So\n#### {n + 1}" if n < 4 else f"I say {n + 1}" for n in range(10)]
    result = measured(five, model := Writer(texts))
    first = result.items[0]
    assert first.scores == {"exact_match_strict-match": 1.0, "exact_match_flexible-extract": 1.0}
    assert result.items[9].scores == {"exact_match_strict-match": 0.0, "exact_match_flexible-extract": 1.0}
    assert first.prompt.count("Question:") == 6
    assert first.prompt.count("How much is 0 + 1?") == 1
    assert model.settings[0]["until"] == ["Question:", "</s>", "<|im_end|>"]
    assert measured(plain, Writer(texts)).items[0].prompt_hash != first.prompt_hash


def test_chat_puts_examples_into_turns(tmp_path: Path, home: Path) -> None:
    rows = [{"goal": f"goal {n}", "sol1": f"a {n}", "sol2": f"be {n}", "label": n % 2} for n in range(4)]
    (task,) = built("piqa", rows, tmp_path, home, shots=(1,))
    (raw, chat) = (measured(task, Writer(), form) for form in ("raw", "chat"))  # type: ignore[arg-type]
    assert {item.task for item in chat.items} == {"piqa-1shot-chat"}
    assert {item.task for item in raw.items} == {"piqa-1shot"}
    prompt = chat.items[0].prompt
    assert prompt.startswith("[user]Question: goal ")
    assert prompt.split("\n-")[0].endswith("[user]Question: goal 0\nAnswer:[assistant]")
    assert prompt.endswith("-a 0\n-be 0")  # no space: the turn begins with the answer
    assert chat.items[0].prompt_hash != raw.items[0].prompt_hash


def test_the_hash_covers_every_choice_and_the_gold(tmp_path: Path, home: Path) -> None:
    row = {"goal": "g", "sol1": "a", "sol2": "b", "label": 0}
    hashes = set()
    for change in ({}, {"sol2": "c"}, {"label": 1}, {"goal": "h"}):
        (task,) = built("piqa", [row | change], tmp_path, home)
        hashes.add(measured(task, Writer()).items[0].prompt_hash)
    schema = {"sentence": "A _ is.", "option1": "x", "option2": "y", "answer": "1"}
    for change in ({}, {"option2": "z"}, {"answer": "2"}):
        (task,) = built("winogrande", [schema | change], tmp_path, home)
        hashes.add(measured(task, Writer()).items[0].prompt_hash)
    assert len(hashes) == 7


def test_choices_by_characters_and_by_tokens(tmp_path: Path, home: Path) -> None:
    # The writer's log-probability is minus the length, so the shortest wins in sum, and all are equal per character.
    row = {"question": "?", "choices": {"text": ["ab", "a b c d e f"], "label": ["A", "B"]}, "answerKey": "B"}
    (task,) = built("arc_easy", [row], tmp_path, home)
    scores = measured(task, Writer()).items[0].scores
    # Sums -3 and -12; per token -3 and -12 / 6 = -2.
    assert (scores["accuracy"], scores["accuracy_by_tokens"]) == (0.0, 1.0)
    assert scores["accuracy_by_characters"] == 1.0  # -3 / 2 and -12 / 11: without the space before it


def test_limit(tmp_path: Path, home: Path) -> None:
    rows = [{"goal": f"goal {n}", "sol1": "a", "sol2": "b", "label": 0} for n in range(5)]
    (task,) = built("piqa", rows, tmp_path, home)
    assert [item.id for item in measured(task, Writer(), limit=2).items] == ["0", "1"]


def test_an_unknown_task_is_answered_with_the_nearest(tmp_path: Path, home: Path) -> None:
    with pytest.raises(UserError, match=r"has no task 'helaswag': did you mean .*hellaswag"):
        specs({}, ["helaswag"], home)
    with pytest.raises(UserError, match="mmlu is a group of several lm-eval tasks"):
        specs({}, ["mmlu"], home)
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n')
    hint = r"nonsense is neither a task of lm-eval nor .* \(it has text\); .* heldout:nonsense="
    with pytest.raises(UserError, match=hint):
        specs({"nonsense": str(file)}, [], home)
    with pytest.raises(UserError, match="two tasks are called drop"):
        specs({"drop": str(file), "choices:drop": str(file)}, [], home)


@pytest.mark.parametrize("name", ["wikitext", "my_text", "heldout:my_text"])
def test_plain_text_of_any_name_is_measured_in_bits_per_byte(name: str, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the first line of it\nand the second one\n")
    (spec,) = specs({name: str(file)}, [], home)
    (task,) = build(spec, [0], home)
    assert (task.name, task.kind, len(task.ids)) == (name.removeprefix("heldout:"), "heldout", 2)


def test_a_file_that_does_not_fit_names_the_columns(tmp_path: Path, home: Path) -> None:
    with pytest.raises(UserError, match=r"does not fit lm-eval's task gsm8k .* needs the columns question, answer"):
        built("gsm8k", [{"problem": "x", "solution": "y"}], tmp_path, home)
    with pytest.raises(UserError, match=r"does not fit lm-eval's task squadv2 .* title, context, question, answers"):
        built("squadv2", [{"problem": "x"}], tmp_path, home)


def test_a_task_of_the_hub_without_the_hub_says_which_file_to_bring(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    # What HF_HUB_OFFLINE sets at the import.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"gsm8k needs the data set openai/gsm8k, configuration main, split test") as e:
        build(Spec("gsm8k", "hub", "gsm8k"), (0,), home)
    assert "give --data gsm8k=FILE with the columns question, answer" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_row_without_a_needed_column_is_counted(tmp_path: Path, home: Path) -> None:
    rows = [{"question": "1 + 1?", "answer": "#### 2"}, {"question": None, "answer": "#### 3"}, {"question": "2?"}]
    (task,) = built("gsm8k", rows, tmp_path, home)
    assert task.summary["skipped"] == {"no column 'question'": 1, "no column 'answer'": 1}
    assert len(measured(task, Writer(["#### 2"])).items) == 1


def test_the_list_of_tasks_is_kept(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = names.task_files(home)
    assert len(known) > 5000
    monkeypatch.setattr(names, "_index", lambda: pytest.fail("made again"))
    assert names.task_files(home) == known
    for task in ("squadv2", "drop", "wmt14-fr-en", "cnn_dailymail_abisee", "gsm8k"):
        assert (names.tasks_folder() / known[task]).is_file()
