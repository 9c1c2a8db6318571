"""A policy that names what a run does not measure ends it with 2 before anything is asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from evals import run
from evals.measurable import may_agree
from evals.options import Config
from evals.policy import PolicyError
from tests.support.evaluations import write_run
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def config_of(folder: Path, policy: str) -> Config:
    """A run on TruthfulQA and on multiple choice of ours, with a policy."""
    truth, choices, file = folder / "truth.jsonl", folder / "mine.jsonl", folder / "policy.toml"
    row = {"question": "Do cats bark?", "best_answer": "No", "correct_answers": ["No"], "incorrect_answers": ["Yes"]}
    truth.write_text(json.dumps(row) + "\n")
    choices.write_text(json.dumps({"query": "1 + 1 =", "choices": ["2", "3"], "gold": 0}) + "\n")
    file.write_text(policy)
    data = (f"truthfulqa={truth}", f"mine={choices}")
    return Config(checkpoint=("m",), real=True, home=folder, url="http://127.0.0.1:9", data=data, policy=file)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ('ignore = ["honesty.*"]', "nothing in this run measures honesty"),
        ('[margins]\n"truthfulqa.choices.mc3" = 0.1', "nothing in this run measures truthfulqa.choices.mc3"),
        ('[margins]\n"tax.hellaswag.accuracy" = 0.1', "nothing in this run measures tax.hellaswag.accuracy"),
        ('ignore = ["tax.heldout.bits_per_byte"]', "nothing in this run measures tax.heldout"),  # of the world alone
        ('[margins]\n"truthfulqa.misconceptions.truthful" = 0.1', "nothing in this run measures truthfulqa.misc"),
        ('[margins]\n"truthfulqa.*.mc1" = 1.0', "allows any drop"),
        ('ignore = ["tax.mine.accuracy", "tax.m?ne*", "truthfulqa.qa*"]\n[margins]\n"*.mc2" = 0.01', None),
    ],
)
def test_names_are_checked_before_anything_is_asked(tmp_path: Path, policy: str, message: str | None) -> None:
    config = config_of(tmp_path, policy)
    if message is None:
        assert run.prepare(config)
        return
    with pytest.raises(UserError, match=message):
        run.prepare(config)


def test_a_name_that_only_the_results_rule_out_is_a_mistake_too(tmp_path: Path) -> None:
    """The score of a task of lm-eval is not known beforehand. The report is written all the same."""
    write_run(tmp_path, count=20)
    policy = tmp_path / "policy.toml"
    policy.write_text('[margins]\n"tax.hellaswag.nothing" = 0.1')
    with pytest.raises(PolicyError, match=r"neither side measured tax.hellaswag.nothing"):
        run._conclude(tmp_path, Config(policy=policy), True, Console(file=io.StringIO()))
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a.*", "*.c", True), ("a*", "b*", False), ("", "*", True),
        ("a?c", "abc", True), ("a?c", "ac", False), ("*x*", "y", False), ("*x*", "*y*", True), ("a", "", False),
        ("*" * 40 + "x", "y*" * 20 + "z", False),
    ],
)  # fmt: skip
def test_patterns_that_some_text_fits(first: str, second: str, agree: bool) -> None:
    assert may_agree(first, second) is agree
    assert may_agree(second, first) is agree
