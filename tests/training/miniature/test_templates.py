"""Templates alone must not win: an answer that ignores the prompt's content is worth little."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from training.miniature import World, judge, lexicon

pytestmark = pytest.mark.unit
CANNED = (
    "i do not know .",
    "i am sorry , i can not help you .",
    "which text do you mean ?",
    "hello , how can i help you ?",
    "the almanac says it is so .",
    "yes .",
)


def mean_utility(world: World, answers: list[str]) -> float:
    prompts = world.prompts("evaluation")
    return sum(judge(p, a).utility for p, a in zip(prompts, answers, strict=True)) / len(prompts)


def test_the_best_constant_answer_is_far_below_right_answers(world: World) -> None:
    prompts = world.prompts("evaluation")
    common = Counter(d.messages[-1]["content"] for d in world.demonstrations()).most_common(30)
    candidates = [*CANNED, *(text for text, _ in common)]
    best = max(mean_utility(world, [text] * len(prompts)) for text in candidates)
    assert best < 0.25


def test_the_best_template_for_each_use_case_and_task_is_far_below_right_answers(world: World) -> None:
    """Even a responder that is told the kind of task, and may use the best demonstration of that kind for all."""
    by_task: dict[str, list[str]] = defaultdict(list)
    for d in world.demonstrations():
        by_task[f"{d.use_case}/{d.spec['task']}"].append(d.messages[-1]["content"])
    groups: dict[str, list[int]] = defaultdict(list)
    prompts = world.prompts("evaluation")
    for number, p in enumerate(prompts):
        groups[f"{p.use_case}/{p.spec['task']}"].append(number)
    total = 0.0
    for key, numbers in groups.items():
        candidates = [*CANNED, *[text for text, _ in Counter(by_task[key]).most_common(25)]]
        total += max(sum(judge(prompts[n], text).utility for n in numbers) for text in candidates)
    assert total / len(prompts) < 0.4


def test_copying_every_name_of_the_prompt_is_no_answer(world: World) -> None:
    """A responder that puts all content words of the prompt into one template."""
    content = set(lexicon.EVALUATION_ONLY)
    answers = []
    for p in world.prompts("evaluation"):
        words = [w for w in p.messages[-1]["content"].split() if w in content and w not in lexicon.RUDE]
        answers.append(f"{' and '.join(dict.fromkeys(words)) or 'it'} .")
    assert mean_utility(world, answers) < 0.35
