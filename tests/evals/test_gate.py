"""The command: verdict first, exit statuses, files in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evals import gate
from evals.results import Item, Result, write_items, write_result
from tests.support.lm_eval_runs import write_run
from tests.support.measured import DECLARED, items
from training.artifacts.errors import run_command

pytestmark = pytest.mark.unit
METRIC = "honesty.harmful.honest"
GOOD = [float(i % 2) for i in range(400)]


def written(folder: Path, name: str, records: list[Item], **fields: object) -> str:
    """A result file and its items; what the gate does not read is empty."""
    digest = write_items(records, folder / f"{name}.items.jsonl")
    metrics = {f"{i.suite}.{i.task}.{s}" for i in records for s in i.scores}
    values: dict[str, object] = {
        "declared": {metric: {"words": metric, **DECLARED} for metric in metrics},
        "comparable": {"honesty": {"limit": None}},
    }
    result = Result(
        system=name, label=str(fields.pop("label", name)), checkpoint=name, ask="chat", url="", through_filters=False,
        created="", seed=0, sampling={}, suites=["honesty"], data={}, judges={}, prompts_sha256="",
        items_file=f"{name}.items.jsonl", items_sha256=digest, metrics={},
        **{**values, **fields},  # type: ignore[arg-type]
    )  # fmt: skip
    return str(write_result(result, folder))


def status(*arguments: str) -> int:
    return run_command(lambda: gate.command(arguments))


@pytest.mark.parametrize(
    "scores, expected, word",
    [(GOOD, 0, "PASS"), ([0.0] * 400, 1, "FAIL"), (GOOD[:30], 3, "INCONCLUSIVE")],
)
def test_the_verdict_comes_first_and_sets_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scores: list[float], expected: int, word: str
) -> None:
    candidate = written(tmp_path, "candidate", items(scores, METRIC))
    baseline = written(tmp_path, "baseline", items(GOOD[: len(scores)], METRIC))
    out = tmp_path / "verdict.json"
    assert status(candidate, baseline, "--out", str(out)) == expected
    assert capsys.readouterr().out.startswith(f"{word}: candidate against baseline")
    content = json.loads(out.read_text())
    assert (content["outcome"], content["alpha"], content["policy"]) == (word, 0.05, "shipped")
    assert content["rows"][0]["metric"] == METRIC


def other_questions(folder: Path) -> tuple[str, ...]:
    renamed = [Item(i.suite, i.task, i.id, None, "other", None, None, i.scores) for i in items(GOOD, METRIC)]
    return written(folder, "a", renamed), written(folder, "b", items(GOOD, METRIC))


def other_settings(folder: Path) -> tuple[str, ...]:
    unlike = written(folder, "a", items(GOOD, METRIC), comparable={"honesty": {"limit": 400}})
    return unlike, written(folder, "b", items(GOOD, METRIC))


def unknown_metric(folder: Path) -> tuple[str, ...]:
    (folder / "policy.toml").write_text('[margins]\n"honesty.harmfull.honest" = 0.02\n')
    sides = [written(folder, name, items(GOOD, METRIC)) for name in "ab"]
    return (*sides, "--policy", str(folder / "policy.toml"))


def repeated_ids(folder: Path) -> tuple[str, ...]:
    doubled = items(GOOD, METRIC) + items(GOOD[:3], METRIC)
    return written(folder, "a", doubled), written(folder, "b", items(GOOD, METRIC))


def two_models(folder: Path) -> tuple[str, ...]:
    for model in ("one", "two"):
        write_run(folder / "out", {"arc": {"acc": GOOD}}, model)
    return str(folder / "out"), str(folder / "out" / "one")


def missing_file(folder: Path) -> tuple[str, ...]:
    return str(folder / "none.json"), written(folder, "b", items(GOOD, METRIC))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (other_questions, "different questions: 400 of 400 items of honesty.harmful"),
        (other_settings, "limit 400 against null"),
        (unknown_metric, f"the nearest are {METRIC}"),
        (repeated_ids, "3 items of honesty.harmful repeat the id"),
        (two_models, "2 models or runs (one, two)"),
        (missing_file, "does not exist"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Callable[[Path], tuple[str, ...]], words: str
) -> None:
    assert status(*arguments(tmp_path)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_policy_file_changes_the_margin(tmp_path: Path) -> None:
    lost = [0.0 if i < 60 else v for i, v in enumerate(GOOD)]  # 30 of 400: 7.5 points
    sides = [written(tmp_path, n, items(v, METRIC)) for n, v in (("candidate", lost), ("baseline", GOOD))]
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[margins]\n"{METRIC}" = 0.15\n')
    assert status(*sides) == 1
    assert status(*sides, "--policy", str(policy)) == 0


def test_the_self_test_is_a_mode_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = [1 - v if i % 7 == 0 else v for i, v in enumerate(GOOD)]
    sides = [written(tmp_path, n, items(v, METRIC)) for n, v in (("candidate", changed), ("baseline", GOOD))]
    assert status(*sides, "--self-test", "--out", str(tmp_path / "self.json")) == 0
    assert "0 of 1 metrics off" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "self.json").read_text())["self_test"]
    assert row["state"] == "holds"
    assert status(sides[0], sides[0], "--self-test") == 2  # nothing differs: nothing to swap


def test_names_with_markup_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = written(tmp_path, "candidate", items(GOOD, METRIC), label="[bold]odd[/bold] [/x]")
    assert status(named, written(tmp_path, "baseline", items(GOOD, METRIC))) == 0
    assert "[bold]odd[/bold] [/x] against" in capsys.readouterr().out
