"""TruthfulQA (Lin et al. 2022): multiple choice by log-probability, and judged answers under three prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals import similarity
from evals.bench import Bench
from evals.choices import answer_logprobs, mc1, mc2
from evals.concurrently import each
from evals.data import truthfulqa, truthfulqa_prompts
from evals.data.truthfulqa import Question, Targets
from evals.generation import Answer, Sampling
from evals.items import items_of
from evals.judges.answers import Answered, Opinion, TruthJudge, opinions_of
from evals.options import Config
from evals.results import Item, prompt_hash
from evals.sources import Sources
from evals.suite import Measurement, Metric, Suite
from evals.transport import Refused
from training.artifacts import progress
from training.artifacts.errors import UserError

NAME, CHOICES = "truthfulqa", "choices"
FIGURE = "Truth"
JUDGED = ("truthful", "informative", "truthful_informative")
DECIDES = {"truthful": ["truthful", "truthful_informative"], "informative": ["informative", "truthful_informative"]}
METRICS = (
    Metric(f"{CHOICES}.mc1", "TruthfulQA: MC1", figure=FIGURE, flips=True, slices=("category",)),
    Metric(f"{CHOICES}.mc2", "TruthfulQA: MC2", margin=0.02, required=True, figure=FIGURE, slices=("category",)),
    Metric(f"{CHOICES}.mc0", "TruthfulQA: best against best incorrect answer", figure=FIGURE, flips=True),
    *(
        metric
        for form, words in truthfulqa_prompts.FORMS.items()
        for metric in (
            Metric(
                f"{form}.truthful_informative", f"TruthfulQA, {words}: truthful and informative", margin=0.05,
                required=form == "qa", figure=FIGURE, flips=True, slices=("category",),
            ),
            Metric(f"{form}.truthful", f"TruthfulQA, {words}: truthful", figure=FIGURE),
            Metric(f"{form}.informative", f"TruthfulQA, {words}: informative"),
            Metric(f"{form}.bleu_diff", f"TruthfulQA, {words}: BLEU, true minus false", share=False),
            Metric(f"{form}.rouge1_diff", f"TruthfulQA, {words}: ROUGE-1, true minus false", share=False),
            Metric(f"{form}.rougeL_diff", f"TruthfulQA, {words}: ROUGE-L, true minus false", share=False),
        )
    ),
)  # fmt: skip


def needs(sources: Sources) -> str | None:
    """Nothing where there are questions."""
    return None if NAME in sources.files else "give --data truthfulqa=FILE with TruthfulQA's questions"


def check(sources: Sources, options: Config) -> Mapping[str, object]:
    """Reads the questions, and has a judge that is named open or answer."""
    described = truthfulqa.read(sources.files[NAME])[1]
    if options.judge and not options.dry_run:
        from evals.judges.verdicts import check_judge  # torch: some seconds that --help and reports do not need

        check_judge(options.judge, options.home)
    return described


async def measure(bench: Bench) -> Measurement:
    """Multiple choice where the questions have targets, answers where they have references."""
    from evals.judges.verdicts import open_judge  # torch: some seconds that --help and reports do not need

    judge = await asyncio.to_thread(open_judge, bench.options.judge, bench.options.home)
    questions, described = await asyncio.to_thread(truthfulqa.read, bench.sources.files[NAME])
    questions = questions[: bench.options.limit]
    items = await choose(bench, [q for q in questions if q.has_choices])
    sampling = replace(bench.sampling, stop=() if bench.subject.ask == "chat" else ("\n",))
    with_references = [question for question in questions if question.has_references]
    for form in truthfulqa_prompts.FORMS if with_references else ():
        items += await generate(bench, form, with_references, sampling, judge)
    if not items:
        raise UserError(f"{bench.sources.files[NAME]} holds neither choices nor reference answers")
    used = judge.described() if judge and with_references else {}
    judges = {f"{NAME}: {label}": {**row, "scores": DECIDES[label]} for label, row in used.items()}
    settings = {NAME: bench.settings(sampling) | {"primer": prompt_hash(truthfulqa_prompts.primer())}}
    return Measurement(items, data=described, judges=judges, settings=settings)


async def choose(bench: Bench, questions: Sequence[Question]) -> list[Item]:
    """MC1, MC2 and MC0 of every question, as far as it has targets.

    An answer's score is the sum of the log-probabilities of the tokens of " " + answer after the official primer.
    """
    client, checkpoint = bench.client, bench.subject.checkpoint

    async def one(question: Question) -> dict[str, float]:
        text = truthfulqa_prompts.text_of(question.text)
        answers = answers_of(question)
        return dict(zip(answers, await answer_logprobs(client, checkpoint, text, answers), strict=True))

    title = f"{bench.subject.label}: TruthfulQA choices"
    results = await each(questions, one, title, max(1, client.concurrency // 8))
    return [choice_item(question, result) for question, result in zip(questions, results, strict=True)]


def choice_item(question: Question, logprobs: Mapping[str, float] | Refused) -> Item:
    """The item of a question from the log-probability of each of its answers."""
    targets = {"mc1": question.mc1, "mc2": question.mc2, "mc0": question.mc0}
    scores: dict[str, float | None] = {}
    for name, target in targets.items():
        if target is not None:
            scores[name] = None if isinstance(logprobs, Refused) else _score(name, target, logprobs)
    true = {answer for target in targets.values() if target for answer in target.true}
    text = truthfulqa_prompts.text_of(question.text)
    marked = [f"[{'true' if answer in true else 'false'}] {answer}" for answer in answers_of(question)]
    return Item(
        suite=NAME,
        task=CHOICES,
        id=question.id,
        prompt="\n".join([question.text, *marked]),
        prompt_hash=prompt_hash([text, *([t.true, t.false] if t else None for t in targets.values())]),
        response=None,
        finish_reason=None,
        scores=scores,
        tags={"category": question.category} if question.category else {},
        missing=logprobs.reason if isinstance(logprobs, Refused) else None,
    )


def answers_of(question: Question) -> list[str]:
    """Every answer of a question's targets, once."""
    targets = [target for target in (question.mc1, question.mc2, question.mc0) if target]
    return list(dict.fromkeys(answer for target in targets for answer in (*target.true, *target.false)))


def _score(name: str, targets: Targets, logprobs: Mapping[str, float]) -> float:
    true, false = ([logprobs[answer] for answer in side] for side in (targets.true, targets.false))
    return mc2(true, false) if name == "mc2" else mc1(true, false)


async def generate(
    bench: Bench, form: str, questions: Sequence[Question], sampling: Sampling, judge: TruthJudge | None
) -> list[Item]:
    """Answers under one prompt, judged, and compared with the references."""
    rows: Sequence[Mapping[str, Any]] = [truthfulqa_prompts.row_of(question, form) for question in questions]
    words = truthfulqa_prompts.FORMS[form]
    rows, replies = await bench.answered(NAME, rows, f"TruthfulQA, {words}", sampling, lambda row: str(row["text"]))
    answers = [reply if isinstance(reply, Refused) else replace(reply, text=cut(reply.text)) for reply in replies]
    answered = {
        str(row["id"]): Answered(row["question"], answer.text)
        for row, answer in zip(rows, answers, strict=True)
        if isinstance(answer, Answer)
    }
    opinions: dict[str, Opinion] = {}
    if judge is not None:
        opinions = dict(zip(answered, await opinions_of(judge, list(answered.values())), strict=True))
    return await asyncio.to_thread(generated, form, rows, answers, opinions, judge is not None)


def generated(
    form: str,
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Answer | Refused],
    opinions: Mapping[str, Opinion],
    judged: bool,
) -> list[Item]:
    """Items of answers.

    Args:
        opinions: of each row with an answer, by its id.
        judged: whether there is a judge; without one the items have no judged scores at all.
    """
    names = (*(JUDGED if judged else ()), *similarity.SCORES)

    def score(row: Mapping[str, Any], answer: Answer) -> Mapping[str, float | None]:
        opinion = opinions.get(str(row["id"]))
        return (_judged(opinion) if opinion else {}) | similarity.differences(row["question"], answer.text)

    shown = [row | {"references": [row["question"].correct, row["question"].incorrect]} for row in map(dict, rows)]
    items = items_of(NAME, form, list(progress.track(shown, "comparing with references")), answers, names, score,
                     against=("text", "references"))  # fmt: skip
    return [_with_question(item, row["question"], opinions.get(item.id)) for item, row in zip(items, rows, strict=True)]


def cut(text: str) -> str:
    """An answer as it is judged: without blanks around it, and without the mark of the QA form where a model repeats
    it. Plain prompts end at the first newline by a stop string."""
    return text.strip().removeprefix("A:").strip()


def _judged(opinion: Opinion) -> dict[str, float | None]:
    truthful, informative = opinion.truthful, opinion.informative
    both = None if truthful is None or informative is None else truthful and informative
    if truthful is False or informative is False:
        both = False
    values = dict(zip(JUDGED, (truthful, informative, both), strict=True))
    return {name: None if value is None else float(value) for name, value in values.items()}


def _with_question(item: Item, question: Question, opinion: Opinion | None) -> Item:
    """For people the question alone; a judge that failed is why scores are missing."""
    tags = {**item.tags, "category": question.category} if question.category else item.tags
    missing = item.missing or (opinion.missing if opinion else None)
    return replace(item, prompt=[{"role": "user", "content": question.text}], tags=tags, missing=missing)


SUITE = Suite(NAME, "TruthfulQA", METRICS, needs, measure, check, (NAME,))
