"""summary.json, results.csv, table.md and junit.xml: for programs, spreadsheets, pull requests and CI."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from evals.report import build
from evals.report.contents import read_contents
from evals.report.csv_file import cell_text
from evals.report.markdown import escaped
from evals.report.summary import Summary
from evals.results import Item, prompt_hash
from evals.suite import Metric
from tests.support.evaluations import HOSTILE, gate_of, write_result_of, write_run
from training.artifacts.errors import UserError
from training.loop.turn import _verdict, _win_rates

pytestmark = pytest.mark.unit
QUIET = Console(quiet=True)
UTILITY = "preference.prompts.utility"
METRICS = {"preference": [Metric("prompts.utility", "true utility", share=False, wins=True)]}
GATE = gate_of(["model-2.chat"], "model-1.chat", ["PASS", "FAIL", "INCONCLUSIVE"])
# What Apache Ant's schema (Windy Road's JUnit.xsd) asks of each element: attributes, and children in their order.
REQUIRED = {
    "testsuites": set(),
    "testsuite": {"package", "id", "name", "timestamp", "hostname", "tests", "failures", "errors", "time"},
    "properties": set(), "property": {"name", "value"}, "testcase": {"name", "classname", "time"},
    "error": {"type"}, "failure": {"type"}, "system-out": set(), "system-err": set(),
}  # fmt: skip
ORDER = ("properties", "testcase", "system-out", "system-err")


def preference(utilities: list[float | None], system: str) -> list[Item]:
    items = []
    for number, utility in enumerate(utilities):
        missing = "no answer" if utility is None else None
        hashed = prompt_hash(str(number))
        items.append(
            Item(
                "preference", "prompts", str(number), "p", hashed, system, "stop", {"utility": utility}, missing=missing
            )
        )
    return items


def three_models(folder: Path) -> Path:
    """Won, tied, lost, unmeasured against the baseline; a second candidate that was not measured at all."""
    answers: dict[str, list[float | None]] = {
        "base.plain": [0.0, 0.0, 0.5, 0.0],
        "ppo-1.chat": [1.0, 0.0, 0.2, None],
        "ppo-2.chat": [None, None, None, None],
    }
    for system, utilities in answers.items():
        write_result_of(folder, preference(utilities, system), METRICS, system=system, label=system[:4])
    run = {"systems": list(answers), "baselines": ["base.plain"], "candidates": ["ppo-1.chat", "ppo-2.chat"]}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def read(path: Path) -> Any:
    """Strict JSON: no NaN, no Infinity."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_summary_holds_the_figures_of_the_run(tmp_path: Path) -> None:
    build(three_models(tmp_path), QUIET)
    summary = read(tmp_path / "summary.json")
    assert set(summary) == {field.name for field in fields(Summary)}
    assert summary["format"] == 1
    assert summary["models"]["ppo-1.chat"] == {"label": "ppo-", "checkpoint": "ppo-1", "ask": "chat"}
    assert (summary["baselines"], summary["candidates"]) == (["base.plain"], ["ppo-1.chat", "ppo-2.chat"])
    rate = summary["wins"]["ppo-1.chat"]["base.plain"][UTILITY]
    # won, tied, lost: (1 + 0.5 + 0) / 3; the fourth prompt was not measured on one side
    assert (rate["value"], rate["n"], rate["missing"]) == (0.5, 3, 1)
    assert "ppo-2.chat" not in summary["wins"]
    mean = summary["metrics"]["ppo-1.chat"][UTILITY]
    assert (mean["value"], mean["n"], mean["missing"]) == (pytest.approx(0.4), 3, 1)
    unmeasured = summary["metrics"]["ppo-2.chat"][UTILITY]
    assert (unmeasured["value"], unmeasured["n"], unmeasured["missing"]) == (None, 0, 4)
    assert summary["verdicts"] == {}


def test_summary_names_verdicts_and_unusable_figures(tmp_path: Path) -> None:
    build(write_run(tmp_path, ("base", "sft", "ppo"), 8, baselines=2, gate=GATE), QUIET)
    summary = read(tmp_path / "summary.json")
    assert summary["verdicts"] == {"model-2.chat": "FAIL"}
    assert summary["unusable"]["model-2.chat"]["toxicity.plain.toxic"] == "toxicity (rude prompts)"
    assert "tax.skills.accuracy" not in summary["unusable"]["model-2.chat"]


def test_the_loop_reads_its_win_rates_from_the_summary(tmp_path: Path) -> None:
    build(three_models(tmp_path), QUIET)
    rates = _win_rates(tmp_path, {"turn": "ppo-1", "control": "ppo-2"})
    assert rates["turn"]["value"] == 0.5
    assert set(rates["turn"]) == {"value", "low", "high", "n"}
    assert "control" not in rates, "nothing of it was measured"
    assert _verdict(rates).startswith("candidate against baseline: no clear change, preferred 50.0 % [")
    assert _win_rates(tmp_path, {"turn": "another"}) == {}


def test_csv_has_a_line_per_model_and_metric(tmp_path: Path) -> None:
    build(three_models(tmp_path), QUIET)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    means = {row["system"]: row for row in rows if not row["against"]}
    assert set(means) == {"base.plain", "ppo-1.chat", "ppo-2.chat"}
    assert float(means["ppo-1.chat"]["value"]) == pytest.approx(0.4)
    assert (means["ppo-2.chat"]["value"], means["ppo-2.chat"]["missing"]) == ("", "4")
    (wins,) = [row for row in rows if row["against"]]
    assert (wins["system"], wins["against"], wins["value"], wins["share"]) == (
        "ppo-1.chat",
        "base.plain",
        "0.5",
        "True",
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell_text(text) == f"'{text}"
    assert cell_text("ppo = 1") == "ppo = 1"


def test_hostile_text_stays_in_its_cell(tmp_path: Path) -> None:
    labels = tuple(f'{name},"\n|{HOSTILE}' for name in ("base", "sft", "ppo"))
    gate = gate_of(["model-2.chat"], "model-1.chat", ["FAIL"], f"|\n{HOSTILE}")
    build(write_run(tmp_path, labels, 4, baselines=2, gate=gate, text=HOSTILE), QUIET)
    with (tmp_path / "results.csv").open(newline="") as stream:
        assert {row["label"] for row in csv.DictReader(stream)} >= set(labels)
    markdown = (tmp_path / "table.md").read_text()
    assert "<script" not in markdown
    columns = {
        line.count("|") - line.count("\\|") for line in markdown.split("### Results")[1].splitlines() if line[:1] == "|"
    }
    assert columns == {3 + 3, 3 + 1}, "policies, and the reward model"
    ElementTree.parse(tmp_path / "junit.xml")


def test_what_blocks_a_pass_is_an_error_of_its_own(tmp_path: Path) -> None:
    gate = gate_of(["model-2.chat"], "sft", ["PASS"])
    blocking = {"metric": "tax.squad.f1", "reason": "no rule says how much of it may be lost", "blocks": True}
    gate["model-2.chat"] |= {"outcome": "INCONCLUSIVE", "ungated": [blocking]}
    build(write_run(tmp_path, ("base", "sft", "ppo"), 4, baselines=2, gate=gate), QUIET)
    (suite,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["2", "0", "1"]
    assert (
        (tmp_path / "table.md")
        .read_text()
        .startswith("**INCONCLUSIVE**: ppo against sft: tax.squad.f1: no rule says how much of it may be lost\n")
    )


def test_markdown_starts_with_the_verdict(tmp_path: Path) -> None:
    build(write_run(tmp_path, ("base", "sft", "ppo"), 8, baselines=2, gate=GATE), QUIET)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("**FAIL**: ppo against sft: task 1, accuracy: -11.3")
    assert "| task 0, accuracy | PASS | +2.1 \\[-3.9, +8.1\\] points | 5 points | 290 |" in lines
    assert any(line.startswith("| no manners requested: toxic (not usable) | 8 |") for line in lines)


def test_markdown_shows_words_as_they_are() -> None:
    assert escaped("a|b <b> *c* [d](e) @f\n`g`") == r"a\|b &lt;b&gt; \*c\* \[d\](e) &#64;f \`g\`"


def test_junit_has_a_case_per_metric(tmp_path: Path) -> None:
    build(write_run(tmp_path, ("base", "sft", "ppo"), 8, baselines=2, gate=GATE), QUIET)
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    (suite,) = root
    assert [suite.get(name) for name in ("name", "tests", "failures", "errors")] == ["ppo", "3", "1", "1"]
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {"tax.task0.accuracy": [], "tax.task1.accuracy": ["failure"], "tax.task2.accuracy": ["error"]}
    (error,) = suite.iter("error")
    assert "about 640 items are needed, 290 measured" in str(error.get("message"))
    for element in root.iter():
        assert REQUIRED[element.tag] <= set(element.attrib), element.tag
    places = [ORDER.index(child.tag) for child in suite]
    assert places == sorted(places)


@pytest.mark.parametrize(("outcome", "counts"), [("FAIL", ["1", "1", "0"]), ("INCONCLUSIVE", ["1", "0", "1"])])
def test_a_verdict_without_rows_is_not_green(tmp_path: Path, outcome: str, counts: list[str]) -> None:
    gate = {"model-2.chat": {"outcome": outcome, "baseline": "model-1.chat", "rows": []}}
    build(write_run(tmp_path, ("base", "sft", "ppo"), 4, baselines=2, gate=gate), QUIET)
    (suite,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == counts


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "[]", '{"systems": ["a"], "baselines": 5}', '{"systems": ["a"], "seconds": "x"}',
     '{"systems": ["a"], "config": [1]}', '{"systems": 3}'],
)  # fmt: skip
def test_a_damaged_run_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json (is damaged|names no models)"):
        read_contents(tmp_path)
