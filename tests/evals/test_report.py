"""The page comes from result files alone, stands alone, and shows what a reader must not miss."""

from __future__ import annotations

import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evals import __main__ as evals_commands
from evals.report import build, command
from evals.world.caveats import CAVEATS
from tests.support.evaluations import HOSTILE, gate_of, write_run
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of

pytestmark = pytest.mark.unit
QUIET = Console(quiet=True)
LABELS = ("base", "sft", "ppo")
GATE = gate_of(["model-2.chat"], "model-1.chat", ["PASS", "FAIL"])


def page_of(folder: Path, **options: Any) -> str:
    options = {"labels": LABELS, "count": 20, "baselines": 2, "gate": GATE} | options
    build(write_run(folder, **options), QUIET)
    return (folder / "index.html").read_text()


def words(page: str) -> str:
    """Text of a page, without tags."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_verdict_is_on_top_with_its_reason(tmp_path: Path) -> None:
    text = words(page_of(tmp_path))
    assert "FAIL ppo against sft: task 1, accuracy: -11.3 [-17.3, -5.3] points" in text
    assert text.index("FAIL ppo") < text.index("Table") < text.index("1 of 2 metrics pass, 1 fail")
    assert "tax.heldout.bits_per_byte : it has no margin" in text


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (["PASS", "PASS"], "PASS ppo against sft: all 2 metrics of the gate stay within their margins."),
        (["PASS", "INCONCLUSIVE"], "about 640 items are needed, 290 measured."),
    ],
)
def test_every_outcome_has_a_sentence(tmp_path: Path, outcomes: list[str], sentence: str) -> None:
    page = page_of(tmp_path, gate=gate_of(["model-2.chat"], "model-1.chat", outcomes))
    assert f'<section class="verdict {outcomes[-1]}">' in page
    assert sentence in words(page)


def test_why_nothing_was_decided_is_said_once(tmp_path: Path) -> None:
    text = words(page_of(tmp_path, gate=gate_of(["model-2.chat"], "sft", ["INCONCLUSIVE"])))
    reason = "a drop of 0.05 is not ruled out (-1.2 [-7.2, +4.8] points); about 640 items are needed, 290 measured"
    assert f"INCONCLUSIVE ppo against sft: task 0, accuracy: {reason}." in text
    assert "candidate: 3 × no answer" in text


def test_a_win_rate_is_in_points_and_its_means_in_their_own_unit(tmp_path: Path) -> None:
    gate = gate_of(["model-2.chat"], "sft", ["FAIL"])
    row = {"metric": "preference.prompts.utility", "words": "true utility", "wins": True, "candidate": -0.106}
    gate["model-2.chat"]["rows"][0] |= row
    text = words(page_of(tmp_path, gate=gate))
    assert "true utility: -11.3 [-17.3, -5.3] points of win rate, a drop beyond the margin of 5 points" in text
    assert "true utility FAIL -0.106 0.500 -11.3 [-17.3, -5.3] 5 points" in text


def test_without_a_decision_the_page_says_so(tmp_path: Path) -> None:
    text = words(page_of(tmp_path, gate=None))
    assert "not decided ppo : the gate has not compared it with sft." in text
    assert not (tmp_path / "junit.xml").exists()


def test_junit_of_an_earlier_decision_does_not_stay(tmp_path: Path) -> None:
    page_of(tmp_path)
    assert (tmp_path / "junit.xml").exists()
    (tmp_path / "gate.json").unlink()
    build(tmp_path, QUIET)
    assert not (tmp_path / "junit.xml").exists()


def test_the_page_stands_alone_and_escapes_everything(tmp_path: Path) -> None:
    """Prompts, answers, labels, reasons, tags, file names and the gate's words hold markup."""
    labels = tuple(f"{label} {HOSTILE}" for label in LABELS)
    gate = gate_of(["model-2.chat"], "model-1.chat", ["PASS", "FAIL"], HOSTILE)
    page = page_of(tmp_path, labels=labels, text=HOSTILE, gate=gate)
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\(|@import|javascript:|\son\w+=", page.replace(HOSTILE, ""))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert page.count("&lt;script&gt;") > 50
    log = io.StringIO()
    build(tmp_path, Console(width=400, file=log))
    assert "[red]" in log.getvalue(), "brackets of a label are printed as they are"


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    page_of(tmp_path)
    names = ("index.html", "table.md", "table.json", "summary.json", "results.csv", "junit.xml")
    first = {name: (tmp_path / name).read_bytes() for name in names}
    build(tmp_path, QUIET)
    assert {name: (tmp_path / name).read_bytes() for name in names} == first


def test_a_reader_of_a_real_model_meets_nothing_of_the_toy(tmp_path: Path) -> None:
    real, toy = words(page_of(tmp_path / "real", world=False)), words(page_of(tmp_path / "toy"))
    assert all(caveat in toy for caveat in CAVEATS)
    assert not any(caveat in real for caveat in CAVEATS)
    assert "miniature" not in real
    assert "they do not cover the spread over seeds" in real


def test_failures_are_counted_by_model_suite_and_reason(tmp_path: Path) -> None:
    text = words(page_of(tmp_path, count=100))
    items = [json.loads(line) for line in lines_of(tmp_path / "model-0.chat.items.jsonl")]
    failed = [item for item in items if item["suite"] == "tax" and item["missing"]]
    of_tax = sum(item["suite"] == "tax" for item in items)
    assert 0 < len(failed) < of_tax
    assert f"base tax {len(failed)} of {of_tax:,} no answer within 60 s" in text


def test_figures_of_an_unusable_judge_are_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    rows = re.findall(r"<tr><td>(.*?)</td>", page, re.DOTALL)
    marked = [row for row in rows if "not usable" in row and "toxicity (rude" in row]
    assert any(row.startswith("no manners requested: toxic ") for row in marked)
    assert not any("skills" in row or "utility" in row for row in marked), "other suites have other judges"
    assert "not usable version: cdcdcdcdcdcd; accuracy: 0.71" in words(page)
    assert "Not usable, as the judge is not accurate enough." in words(page)


class Sight(HTMLParser):
    """Text that is in sight when the page opens: in no closed `details`, but for their summaries."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._open, self._summary = "", [], False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "details":
            self._open.append("open" in dict(attrs))
        self._summary = self._summary or tag == "summary"

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self._open.pop()
        self._summary = self._summary and tag != "summary"

    def handle_data(self, data: str) -> None:
        if all(self._open[:-1] if self._summary else self._open):
            self.text += data


def test_no_text_of_a_model_is_in_plain_sight(tmp_path: Path) -> None:
    page = page_of(tmp_path, count=60)
    sight = Sight()
    sight.feed(page)
    assert "Answer 0." in page
    assert "Answer 0." not in sight.text
    assert "Question " not in sight.text
    assert re.search(r"no manners requested: toxic: \d+ gained, \d+ lost of \d+ \(the texts may offend\)", sight.text)


def test_the_command_is_quoted_and_holds_what_was_passed(tmp_path: Path) -> None:
    page = unescape(page_of(tmp_path))
    command = re.search(r'<pre class="code">(.*?)</pre>', page, re.DOTALL)
    assert command is not None
    assert [line.strip(" \\") for line in command[1].splitlines()] == [
        "python -m evals.run", "--checkpoint model-3 model-4", "--baseline model-0:plain",
        "--data 'hellaswag=data/hella swag.jsonl'", "--url http://127.0.0.1:8000", "--no-gate", "--temperature 0.7",
    ]  # fmt: skip
    assert "secret" not in page, "a password in an address is private"


def test_cost_contamination_and_hashes_are_shown(tmp_path: Path) -> None:
    text = words(page_of(tmp_path))
    assert "4,000 250 61.5" in text
    assert "base 4000 12 preference: (checked: 120; found: 12)" in text
    assert "hellaswag data/hella swag.jsonl 500 2 × no gold abababababab" in text


def test_headlines_are_wins_and_required_metrics(tmp_path: Path) -> None:
    text = words(page_of(tmp_path)).split("Table")[0]
    assert "preferred to base (true utility)" in text
    assert "preferred to sft (true utility)" in text
    assert "skills, cloze over the whole vocabulary" in text
    assert "facts, cloze" not in text, "it is not required"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "[]", "run.json is damaged"),
        ("run.json", '{"systems": []}', "names no models"),
        ("gate.json", "{", "gate.json is damaged"),
        ("gate.json", "3", "gate.json is damaged"),
        ("model-0.chat.json", "{", "is not a result file"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, file: str, text: str, message: str) -> None:
    write_run(tmp_path, LABELS, 4)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        build(tmp_path, QUIET)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "verdict", [{}, {"rows": [{}], "not_gated": ["tax.x.y", {}]}, {"outcome": "PASS", "rows": None}]
)
def test_a_verdict_of_another_version_is_shown_as_far_as_it_goes(tmp_path: Path, verdict: dict[str, Any]) -> None:
    text = words(page_of(tmp_path, gate={"model-2.chat": verdict}))
    assert f"{verdict.get('outcome', 'INCONCLUSIVE')} ppo" in text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run `python -m evals\.run` first"):
        build(tmp_path, QUIET)


def test_the_command_builds_the_folder_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, LABELS, 4, gate=GATE)
    command([str(tmp_path)])
    assert evals_commands.main(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("FAIL ppo") == 2
    assert shown.count(f"report: {tmp_path / 'index.html'}") == 2
    with pytest.raises(UserError, match="is not a folder"):
        command([str(tmp_path / "nothing")])
