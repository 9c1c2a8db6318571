"""The command: verdict first, exit statuses, files in and out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    "change",
    [
        {"scores": None}, {"scores": [1]}, {"scores": {"honest": "1"}}, {"scores": {"honest": 10**400}},
        {"scores": {"a.b": 1}}, {"weight": None}, {"weight": "1"}, {"weight": float("nan")}, {"weight": 0},
        {"cluster": ["a"]}, {"id": 5}, {"id": None}, {"task": "a.b"}, {"new": 1}, {"missing": 5},
    ],
)  # fmt: skip
def test_a_damaged_item_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]) -> None:
    rows = [asdict(item) for item in items(GOOD, METRIC)]
    candidate = rewritten(tmp_path, [rows[0], {**rows[1], **change}, *rows[2:]])
    assert_refused(candidate, tmp_path, capsys, "line 2 of .* is not an item")


@pytest.mark.parametrize("line", ["{cut", "[1]", "null", "[" * 100_000, '{"id": ' + "9" * 5000 + "}"])
def test_a_line_that_is_no_item_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    candidate = rewritten(tmp_path, [line])
    assert_refused(candidate, tmp_path, capsys, "line 1 of .* is not an item")


@pytest.mark.parametrize(
    "change",
    [
        {"declared": None}, {"declared": [METRIC]}, {"declared": {METRIC: {**DECLARED, "margin": "x"}}},
        {"declared": {METRIC: {**DECLARED, "margin": float("nan")}}},
        {"declared": {METRIC: {**DECLARED, "margin": float("inf"), "share": False}}},
        {"declared": {METRIC: {**DECLARED, "margin": -1}}}, {"declared": {METRIC: {**DECLARED, "better": "up"}}},
        {"comparable": []}, {"comparable": None}, {"comparable": {"honesty": 1}}, {"judges": "x"}, {"manifest": None},
        {"items_file": 5}, {"metrics": {METRIC: None}}, {"metrics": []},
    ],
)  # fmt: skip
def test_a_damaged_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    candidate = written(tmp_path, "candidate", items(GOOD, METRIC))
    Path(candidate).write_text(json.dumps(json.loads(Path(candidate).read_text()) | change))
    assert_refused(candidate, tmp_path, capsys, "is not a result file")


@pytest.mark.parametrize("content", [b'{"a": "\xff"}', "{}".encode("utf-16"), b"", b"[]", b"[" * 100_000])
def test_a_file_that_is_no_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "candidate.json").write_bytes(content)
    assert_refused(str(tmp_path / "candidate.json"), tmp_path, capsys, "is not a result file")


def rewritten(folder: Path, rows: list[Any]) -> str:
    """A result whose items are these rows or lines."""
    candidate = Path(written(folder, "candidate", items(GOOD, METRIC)))
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / "candidate.items.jsonl").write_text(text)
    digest = {"items_sha256": hashlib.sha256(text.encode()).hexdigest()}
    candidate.write_text(json.dumps(json.loads(candidate.read_text()) | digest))
    return str(candidate)


def assert_refused(candidate: str, folder: Path, capsys: pytest.CaptureFixture[str], message: str) -> None:
    baseline = written(folder, "baseline", items(GOOD, METRIC))
    capsys.readouterr()
    assert status(candidate, baseline) == 2
    assert re.search(message, capsys.readouterr().err)
