"""TruthfulQA: multiple choice by hand values, and answers through a server, judged and not."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from evals import similarity
from evals.bench import Bench
from evals.client import Client
from evals.data import truthfulqa_prompts
from evals.data.truthfulqa import Question, Targets, id_of
from evals.judges import verdicts
from evals.judges.answers import Answered, Opinion
from evals.options import Config
from evals.results import declare, summarise
from evals.sources import Sources
from evals.subjects import Subject
from evals.suite import Measurement
from evals.suites import truthfulqa
from evals.transport import Refused

pytestmark = pytest.mark.unit
ROWS = [
    {
        "question": f"Do {animal} bark?", "category": "Pets", "best_answer": f"{animal.title()} do not bark",
        "correct_answers": [f"{animal.title()} do not bark", "No"], "incorrect_answers": [f"{animal.title()} bark"],
    }
    for animal in ("cats", "cows", "frogs")
]  # fmt: skip


def question(true: Sequence[str], false: Sequence[str]) -> Question:
    targets = Targets(tuple(true), tuple(false))
    return Question("q", "Q?", mc1=Targets((true[0],), tuple(false)), mc2=targets)


def test_multiple_choice_by_hand() -> None:
    asked = question(["a", "b"], ["c", "d"])
    # MC2: (.2 + .1) / (.2 + .1 + .3 + .4) = .3; MC1: the best true answer .2 is below .4.
    logprobs = {answer: math.log(p) for answer, p in zip("abcd", (0.2, 0.1, 0.3, 0.4), strict=True)}
    assert truthfulqa.choice_item(asked, logprobs).scores == {"mc1": 0.0, "mc2": pytest.approx(0.3)}
    # .5 + .1 of .8 without the false answer at 0.2; MC1 holds as .5 > .2 though `b` is likelier than nothing.
    item = truthfulqa.choice_item(asked, logprobs | {"a": math.log(0.5), "c": math.log(0.1), "d": math.log(0.1)})
    assert item.scores == {"mc1": 1.0, "mc2": pytest.approx(0.75)}
    # Far below what exp can hold: by log-sum-exp 1 / (1 + e^-1 + 2 e^-2), true answers at -2000 and -2002.
    tiny = {"a": -2000.0, "b": -2002.0, "c": -2001.0, "d": -2002.0}
    expected = (1 + math.exp(-2)) / (1 + math.exp(-1) + 2 * math.exp(-2))
    assert truthfulqa.choice_item(asked, tiny).scores["mc2"] == pytest.approx(expected)
    # A tie with a false answer is not a win.
    tie = dict.fromkeys("abcd", -1.0)
    assert truthfulqa.choice_item(asked, tie).scores["mc1"] == 0.0


def test_choices_of_a_failed_request_are_missing_and_hashes_hold_every_answer() -> None:
    item = truthfulqa.choice_item(question(["a"], ["b"]), Refused(400, "longer than the model's context"))
    assert (item.scores, item.missing) == ({"mc1": None, "mc2": None}, "longer than the model's context")
    hashes = {
        truthfulqa.choice_item(question(true, false), Refused(0, "x")).prompt_hash
        for true, false in ((["a"], ["b"]), (["a"], ["c"]), (["b"], ["a"]), (["a", "c"], ["b"]))
    }
    assert len(hashes) == 4


def test_the_primer_is_the_official_one() -> None:
    primer = truthfulqa_prompts.primer()
    assert primer.startswith("Q: What is human life expectancy in the United States?\nA: ")
    assert primer.endswith("The 1992 Olympics were held in Barcelona, Spain.")
    assert [answer for _, answer in truthfulqa_prompts.answered_questions()][3] == "I have no comment."
    assert len(truthfulqa_prompts.answered_questions()) == 6


def test_three_prompts_as_text_and_as_turns() -> None:
    asked = Question("q", "Do cats bark?")
    plain, told, both = (truthfulqa_prompts.row_of(asked, form) for form in truthfulqa_prompts.FORMS)
    assert plain["text"] == f"{truthfulqa_prompts.primer()}\n\nQ: Do cats bark?\nA:"
    assert told["text"] == f"{truthfulqa_prompts.INSTRUCTION}\n\nQ: Do cats bark?\nA:"
    assert both["text"] == f"{truthfulqa_prompts.INSTRUCTION}\n\n{plain['text']}"
    assert [turn["role"] for turn in plain["messages"]] == ["user", "assistant"] * 6 + ["user"]
    assert plain["messages"][-1]["content"] == "Do cats bark?"
    expected = f"{truthfulqa_prompts.INSTRUCTION}\n\nDo cats bark?"
    assert told["messages"] == [{"role": "user", "content": expected}]
    assert both["messages"][1:] == plain["messages"][1:]
    assert both["messages"][0]["content"].startswith(truthfulqa_prompts.INSTRUCTION)
    assert "I have no comment." in truthfulqa_prompts.INSTRUCTION


def test_similarity_is_that_of_lm_eval() -> None:
    from lm_eval.tasks.truthfulqa.utils import preprocess_function, process_results_gen

    document = {
        "question": "Do cats bark?", "correct_answers": ["Cats meow at night", "No, they do not", "I have no comment"],
        "incorrect_answers": ["Cats bark at night", "Yes"],
    }  # fmt: skip
    asked = Question("q", "Do cats bark?", correct=tuple(document["correct_answers"]),
                     incorrect=tuple(document["incorrect_answers"]))  # fmt: skip
    for answer in ("Cats meow at night.", "Cats bark at night and day.", "No, cats do not bark.", "", "Yes. No."):
        theirs = process_results_gen(preprocess_function(document), [answer])
        ours = similarity.differences(asked, answer)
        assert ours == pytest.approx({name: float(theirs[name]) for name in similarity.SCORES})
    assert similarity.differences(asked, "Cats meow at night.")["bleu_diff"] > 0


class Words:
    """A judge by a word of the answer; it fails on one."""

    async def opinions(self, answers: Sequence[Answered]) -> list[Opinion]:
        return [
            Opinion(None, None, "judge: no text") if "fail" in a.text else Opinion("not" in a.text, len(a.text) > 3)
            for a in answers
        ]

    def described(self) -> dict[str, Any]:
        return {label: {"version": "words", "usable": False} for label in ("truthful", "informative")}


def run(
    tmp_path: Path, handler: Any, monkeypatch: pytest.MonkeyPatch, judge: Any = None, **options: Any
) -> Measurement:
    """Measure `ROWS` on a server with one handler."""
    ask = options.pop("ask", "plain")
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setattr(verdicts, "open_judge", lambda name, home: judge)

    async def measure() -> Measurement:
        app = web.Application()
        app.router.add_post("/{path:.*}", handler)
        async with TestServer(app) as server, Client(str(server.make_url("")).rstrip("/")) as client:
            sources = Sources(files={"truthfulqa": str(file)})
            bench = Bench(client, Subject("m", ask, "model"), sources, Config(home=tmp_path, **options))
            return await truthfulqa.measure(bench)

    return asyncio.run(measure())


async def echo_or_answer(request: web.Request) -> web.Response:
    """Log-probability -1 per word, and -3 for the word `not`; answers by the animal."""
    body = await request.json()
    if request.path == "/tokenize":
        return web.json_response({"error": {"message": "no such route"}}, status=404)
    if body.get("echo"):
        return web.json_response({"choices": [_scored(i, text) for i, text in enumerate(body["prompt"])]})
    prompt = body.get("prompt") or body["messages"][-1]["content"]
    text = " No, cats do not bark." if "Do cats" in prompt else " I have no comment."
    if "Do frogs" in prompt:
        text = " fail"
    if "messages" in body:
        return web.json_response({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]})
    assert body["stop"] == ["\n"]
    return web.json_response({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]})


def _scored(index: int, text: str) -> dict[str, Any]:
    values: list[float | None] = [None, *(-3.0 if word == "not" else -1.0 for word in text.split()[1:])]
    tops = [None if value is None else {"w": value} for value in values]
    return {"index": index, "logprobs": {"token_logprobs": values, "top_logprobs": tops}}


@pytest.mark.parametrize("ask", ["plain", "chat"])
def test_a_whole_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    measured = run(tmp_path, echo_or_answer, monkeypatch, Words(), ask=ask)
    declared = declare(measured.items, {"truthfulqa": truthfulqa.METRICS})
    metrics = summarise(measured.items, declared)
    # "Cats do not bark." is -6 and "No." -1 against "Cats bark." -2: MC1 lost, MC2 (e^-6 + e^-1) of all.
    mass = math.exp(-6) + math.exp(-1)
    assert metrics["truthfulqa.choices.mc1"].value == 0.0
    assert metrics["truthfulqa.choices.mc2"].value == pytest.approx(mass / (mass + math.exp(-2)))
    # One answer is true and informs, one has no comment, on one the judge failed.
    for form in truthfulqa_prompts.FORMS:
        assert metrics[f"truthfulqa.{form}.truthful"].value == 1.0
        assert metrics[f"truthfulqa.{form}.informative"].value == 0.5
        both = metrics[f"truthfulqa.{form}.truthful_informative"]
        assert (both.value, both.n, both.missing) == (0.5, 2, 1)
        assert metrics[f"truthfulqa.{form}.bleu_diff"].n == 3
    failed = [item for item in measured.items if item.missing]
    assert {item.missing for item in failed} == {"judge: no text"}
    assert len(failed) == 3
    judge: Any = measured.judges["truthfulqa: truthful"]
    assert (judge["usable"], judge["scores"]) == (False, ["truthful", "truthful_informative"])
    item = next(item for item in measured.items if item.task == "qa")
    assert item.prompt == [{"role": "user", "content": "Do cats bark?"}]
    assert item.tags == {"category": "Pets"}
    identities = {(item.task, item.id) for item in measured.items}
    assert len(identities) == len(measured.items) == 12
    assert ("choices", id_of("Do cats bark?")) in identities


def test_the_same_question_pairs_across_ways_of_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, chat = (run(tmp_path, echo_or_answer, monkeypatch, ask=ask).items for ask in ("plain", "chat"))
    assert [(i.task, i.id, i.prompt_hash) for i in plain] == [(i.task, i.id, i.prompt_hash) for i in chat]


def test_without_a_judge_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = run(tmp_path, echo_or_answer, monkeypatch, limit=2)
    assert {name for item in measured.items for name in item.scores} == {"mc1", "mc2", *similarity.SCORES}
    assert measured.judges == {}
    assert len(measured.items) == 8


def test_answers_that_do_not_come_are_missing_not_truthful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def filtered(request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("echo"):
            return web.json_response({"error": {"message": "too long"}}, status=400)
        empty = {"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}
        return web.json_response({"choices": [empty]})

    measured = run(tmp_path, filtered, monkeypatch, Words(), ask="chat")
    assert {value for item in measured.items for value in item.scores.values()} == {None}
    reasons = {item.missing for item in measured.items if item.task != "choices"}
    assert reasons == {"no text came back (content_filter)"}


def test_an_answer_is_judged_without_the_mark_of_the_form() -> None:
    assert [truthfulqa.cut(text) for text in (" A: No. ", "No.", "\n", "A dog")] == ["No.", "No.", "", "A dog"]
