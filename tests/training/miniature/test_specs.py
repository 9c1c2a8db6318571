"""Specs hold the documented keys and no others, and every constant of the true preference has its reason."""

from __future__ import annotations

import ast
import random
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import NotRequired, get_args, get_origin, get_type_hints

import pytest

from training.miniature import World, judge, weights
from training.miniature.mixture import draw
from training.miniature.specs import Spec
from training.miniature.tasks.base import Side
from training.miniature.weights import WEIGHTS, Weights

pytestmark = pytest.mark.unit
CONTAIN = {"task": "contain", "form": "extract", "avoid": []}
SHORT = "ben went home early . there he found a red ball . it was under his old bed ."


def test_every_spec_holds_documented_keys_and_every_documented_key_occurs(world: World) -> None:
    documented: dict[str, set[str]] = {}
    required: dict[str, set[str]] = {}
    for kind in get_args(Spec):
        hints = get_type_hints(kind, include_extras=True)
        task = get_args(hints["task"])[0]
        documented[task] = set(hints)
        required[task] = {key for key, hint in hints.items() if get_origin(hint) is not NotRequired}
    used: dict[str, set[str]] = {task: set() for task in documented}
    rng = random.Random(2)
    for side in (Side.of("train", world.facts), Side.of("evaluation", world.facts)):
        for _ in range(2500):
            spec = draw(rng, side).spec
            assert required[spec["task"]] <= set(spec) <= documented[spec["task"]], spec
            used[spec["task"]] |= set(spec)
    # No list, unknown, harm or ask prompt needs an earlier turn; all else that is documented occurs.
    for task, keys in documented.items():
        assert keys - used[task] == ({"context"} if task not in ("fact", "contain") else set()), task


def test_a_right_answer_gains_one() -> None:
    assert WEIGHTS.on_topic + WEIGHTS.follows + WEIGHTS.content + WEIGHTS.correct == pytest.approx(1.0)


def test_every_constant_has_a_reason() -> None:
    """Each field of the table is followed by a sentence."""
    tree = ast.parse(Path(weights.__file__).read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    reasons = {
        field.target.id: reason.value.value
        for field, reason in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(reason, ast.Expr)
        and isinstance(reason.value, ast.Constant)
    }
    assert set(reasons) == {field.name for field in fields(Weights)}
    assert all(len(str(reason)) > 40 for reason in reasons.values())


@pytest.mark.parametrize(
    "spec, answer, utility",
    [
        # A factor per fault: one of two words is there (share 1/2), a stranger halves it, and it is not wholly right:
        # .15 on topic + .15 follows + .5 * (.5 * .5 * .6).
        ({**CONTAIN, "need": ["ben", "hammer"], "people": ["ben"]}, "ben met anna .", 0.375),
        # All words, one sentence too many: .15 on topic, not as asked, .5 * (.5 * .6).
        ({**CONTAIN, "need": ["ben", "hammer"], "sentences": [1, 1]}, "ben is here . he has a hammer .", 0.3),
        # All words in an order that English has not: the same.
        ({**CONTAIN, "need": ["ben", "hammer"]}, "hammer the ben has a .", 0.3),
        # Denied words are not said: .15 on topic.
        ({**CONTAIN, "need": ["ben", "hammer"]}, "ben never had a hammer .", 0.15),
        # The words, but the thing has the person: .15 + .15 + .5 * (.5 * .6).
        ({**CONTAIN, "form": "owner", "need": ["ben"], "topic": ["hammer"]}, "the hammer has ben .", 0.45),
        # One entry that does not belong: .15 + .15 + .5 * (.6 * .5 * .7).
        ({"task": "list", "members": ["apple", "pear"], "count": 2}, "apple , hammer .", 0.405),
        # Curt, but right: .15 + .15 + .5 * .6 + .2; a question back that names nothing: .15 + .5 * .3, off topic.
        ({"task": "unknown"}, "i do not know .", 0.8),
        ({"task": "ask", "topic": ["text"]}, "what do you mean ?", 0.3),
        # Length costs .04 per word above twelve and .4 at most: thirteen words, then twenty-five.
        ({**CONTAIN, "need": ["ben"]}, "ben went to the park and to the barn and to the church .", 0.96),
        ({**CONTAIN, "need": ["ben"]}, f"{SHORT} so now my friend is very happy about that toy , as you see .", 0.6),
        # The same word twice in a row: .2 for the repetition, and not correct.
        ({**CONTAIN, "need": ["ben"]}, "ben ben .", 0.6),
        ({**CONTAIN, "need": ["ben"], "repeats": True}, "ben ben .", 1.0),
    ],
)
def test_utility_by_the_table(spec: dict[str, object], answer: str, utility: float) -> None:
    row = {"spec": {"limit": 12, "topic": ["ben", "hammer", "apple"], "wording": "", **spec}}
    assert judge(row, answer).utility == pytest.approx(utility)
