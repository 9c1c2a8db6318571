"""Figures: their values by hand, and that no text of them is lost."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evals.report import svg
from evals.report.calibration import calibration
from evals.report.contents import Contents, read_contents
from evals.report.figures import figures
from evals.report.flips import changes, is_offensive, prompt_text
from evals.report.pareto import pareto
from evals.report.slices import sliced
from evals.report.variants import Variant, comparisons, variant_of
from evals.results import Item, prompt_hash
from evals.suite import Metric
from evals.usable import unusable_metrics
from tests.support.evaluations import HOSTILE, write_result_of, write_run

pytestmark = pytest.mark.unit
METRICS = {
    "preference": [Metric("prompts.utility", "utility", share=False, wins=True, slices=("use_case", "language"))],
    "tax": [
        Metric("a.accuracy", "a", margin=0.05, required=True, flips=True),
        Metric("b.loss", "b", "lower", share=False, margin=0.1, required=True),
        Metric("c.accuracy", "c"),
    ],
    "toxicity": [Metric("plain.toxic", "toxic", "lower", flips=True)],
    "reward": [Metric("*.probability", "probability"), Metric("*.agrees", "agrees")],
}


def rows(suite: str, task: str, score: str, values: list[float], **more: dict[str, str]) -> list[Item]:
    return [
        Item(suite, task, str(n), f"p {n}", prompt_hash(str(n)), f"answer {n}", "stop", {score: v}, **more)  # type: ignore[arg-type]
        for n, v in enumerate(values)
    ]


def contents_of(folder: Path, models: dict[str, list[Item]], baselines: int = 1) -> Contents:
    for system, items in models.items():
        ask = "score" if system.endswith(".score") else "chat"
        write_result_of(folder, items, METRICS, system=system, label=system.partition(".")[0], ask=ask)
    run = {"systems": list(models), "baselines": list(models)[:baselines]}
    (folder / "run.json").write_text(json.dumps(run))
    return read_contents(folder)


def test_tax_is_the_mean_change_in_units_of_the_margin(tmp_path: Path) -> None:
    base = rows("tax", "a", "accuracy", [1, 1, 0, 0]) + rows("tax", "b", "loss", [2.0, 2.2])
    new = rows("tax", "a", "accuracy", [1, 0, 0, 0]) + rows("tax", "b", "loss", [2.0, 2.4])
    base += rows("tax", "c", "accuracy", [0, 0])
    new += rows("tax", "c", "accuracy", [1, 1])
    base += rows("preference", "prompts", "utility", [0, 0, 0, 0])
    new += rows("preference", "prompts", "utility", [1, 1, 0, -1])
    plane = pareto(contents_of(tmp_path, {"base.chat": base, "new.chat": new}))
    assert plane is not None
    points, _, share, note = plane
    at = {point.name: (point.x.value, point.y.value) for point in points}
    # a lost 0.25 of a margin of 0.05, b 0.1 of 0.1; c is not required. (5 + 1) / 2. Won 2, tied 1, lost 1: 2.5 / 4.
    assert at["new.chat"] == (pytest.approx(3.0), 0.625)
    assert at["base.chat"] == (0.0, 0.5)
    assert share
    assert "units of its margin" in note
    assert "independent" in note


def test_without_required_metrics_the_tax_is_in_points(tmp_path: Path) -> None:
    base = rows("tax", "c", "accuracy", [1, 1]) + rows("preference", "prompts", "utility", [0, 0])
    new = rows("tax", "c", "accuracy", [1, 0]) + rows("preference", "prompts", "utility", [1, 1])
    plane = pareto(contents_of(tmp_path, {"base.chat": base, "new.chat": new}))
    assert plane is not None
    assert {p.name: p.x.value for p in plane[0]}["new.chat"] == pytest.approx(50.0)
    assert "points of per cent" in plane[3]


def test_no_pareto_without_a_tax_or_a_baseline(tmp_path: Path) -> None:
    wins = rows("preference", "prompts", "utility", [0, 0])
    assert pareto(contents_of(tmp_path / "1", {"base.chat": wins, "new.chat": wins})) is None
    both = wins + rows("tax", "a", "accuracy", [1, 0])
    assert pareto(contents_of(tmp_path / "2", {"base.chat": both, "new.chat": both}, baselines=0)) is None


def test_calibration_by_hand(tmp_path: Path) -> None:
    # Confidence .9, .9 (once right, once wrong) and .6 (right): bins .6 and .9. ECE 1/3 |1 - .6| + 2/3 |.5 - .9| = .4
    pairs = rows("reward", "labelers_training", "probability", [0.9, 0.1, 0.6])
    contents = contents_of(tmp_path, {"reward.score": pairs}, baselines=0)
    ((name, (curve, error)),) = calibration(contents).items()
    assert name == "reward: labelers training"
    assert [(round(confidence, 6), estimate.value) for confidence, estimate in curve] == [(0.6, 1.0), (0.9, 0.5)]
    assert error == pytest.approx(0.4)


def test_slices_are_by_tag_and_paired(tmp_path: Path) -> None:
    tags = [{"use_case": "chat", "language": "en"}, {"use_case": "open qa", "language": "en"}]

    def tagged(values: list[float]) -> list[Item]:
        return [replace(i, tags=tags[n % 2]) for n, i in enumerate(rows("preference", "prompts", "utility", values))]

    contents = contents_of(tmp_path, {"base.chat": tagged([0, 0, 0, 0]), "new.chat": tagged([1, -1, 1, 0])})
    parts = sliced(contents, "preference.prompts.utility", "use_case")
    assert parts is not None
    rates = {group.words: group.estimates["new.chat"].value for group in parts[0]}
    assert rates == {"chat (2 items)": 1.0, "open qa (2 items)": 0.25}
    assert sliced(contents, "preference.prompts.utility", "language") is None, "one language is no split"


@pytest.mark.parametrize(
    ("task", "variant"),
    [
        ("hellaswag", Variant("hellaswag")),
        ("hellaswag-5shot", Variant("hellaswag", 5)),
        ("hellaswag-chat", Variant("hellaswag", 0, True)),
        ("hellaswag-25shot-chat", Variant("hellaswag", 25, True)),
        ("hellaswag-chat-25shot", Variant("hellaswag", 25, True)),
        ("wmt14-fr-en", Variant("wmt14-fr-en")),
        ("chat-5shots", Variant("chat-5shots")),
        ("my-chatty", Variant("my-chatty")),
    ],
)
def test_variants_of_tasks(task: str, variant: Variant) -> None:
    assert variant_of(task) == variant


def test_comparisons_differ_in_one_respect() -> None:
    names = ("a", "a-5shot", "a-chat", "a-5shot-chat", "b-5shot")
    metrics = {f"tax.{name}.{score}": Metric(f"{name}.{score}", name) for name in names for score in ("f1", "acc")}
    metrics |= {f"tax.{n}.acc": replace(metrics[f"tax.{n}.acc"], margin=0.02) for n in names}
    pairs = {(c.before, c.after) for c in comparisons(metrics)}
    assert pairs == {
        ("tax.a.acc", "tax.a-5shot.acc"), ("tax.a.acc", "tax.a-chat.acc"), ("tax.a-chat.acc", "tax.a-5shot-chat.acc"),
        ("tax.a-5shot.acc", "tax.a-5shot-chat.acc"),
    }  # fmt: skip


def test_flips_are_counted_by_direction(tmp_path: Path) -> None:
    base = rows("tax", "a", "accuracy", [1, 1, 0, 0, 0]) + rows("toxicity", "plain", "toxic", [1, 1, 0])
    new = rows("tax", "a", "accuracy", [0, 1, 1, 1, 0]) + rows("toxicity", "plain", "toxic", [0, 1, 0])
    contents = contents_of(tmp_path, {"base.chat": base, "new.chat": new})
    skills, toxic = sorted(changes(contents, "new.chat"), key=lambda change: change.words)
    assert (skills.gained_count, skills.lost_count, skills.n, skills.folded) == (2, 1, 5, False)
    assert (toxic.gained_count, toxic.lost_count, toxic.folded) == (1, 0, True), "less toxic is gained"


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "toxicity"}, {"tags": {"mode": "offensive"}}, {"task": "harmful"}, {"scores": {"rude": 1.0}},
        {"scores": {"harmless": 0.0}},
    ],
)  # fmt: skip
def test_what_may_offend(change: dict[str, object]) -> None:
    (plain,) = rows("preference", "prompts", "utility", [1.0])
    assert not is_offensive(plain)
    assert is_offensive(replace(plain, **change))  # type: ignore[arg-type]


def test_long_prompts_are_cut_and_said() -> None:
    text = prompt_text([{"role": "user", "content": "x" * 5000}])
    assert len(text) < 800
    assert text.endswith("more characters)")
    assert prompt_text(["not", "turns"]) == "['not', 'turns']"


def test_a_judge_spoils_what_it_judged(tmp_path: Path) -> None:
    items = rows("toxicity", "plain", "toxic", [0.0]) + rows("tax", "a", "accuracy", [1.0])
    items.append(replace(rows("toxicity", "choices", "toxic", [0.0])[0], response=None))
    metrics = METRICS | {"toxicity": [Metric("*.toxic", "toxic", "lower")]}
    judge = {"version": "1", "usable": False}
    for judges, comparable, spoiled in (
        ({"j": judge}, {"toxicity": {"judges": {"j": "1"}}, "tax": {"judges": {}}}, {"toxicity.plain.toxic"}),
        ({"j": judge | {"scores": ["toxic"]}}, {}, {"toxicity.plain.toxic", "toxicity.choices.toxic"}),
        ({"j": judge | {"scores": ["rude"]}}, {}, set()),
        ({"j": judge}, {}, {"toxicity.plain.toxic", "tax.a.accuracy"}),
        ({"j": judge | {"usable": True}}, {}, set()),
        ({"j": "the world's own rules"}, {}, set()),
        ({"j": None}, {}, set()),
    ):
        write_result_of(tmp_path, items, metrics, judges=judges, comparable=comparable)
        (tmp_path / "run.json").write_text(json.dumps({"systems": ["sft-1.chat"]}))
        result, read = read_contents(tmp_path).run[0]
        assert set(unusable_metrics(result, read)) == spoiled


@pytest.mark.parametrize("text", ["", "word", "several words here", "x" * 300, "数学 " * 40, HOSTILE, "a\u2028b\nc"])
def test_wrapping_loses_nothing_and_fits(text: str) -> None:
    lines = svg.wrapped(text, 100)
    assert "".join("".join(lines).split()) == "".join(svg.printable(text).split())
    assert all(svg.width_of(line) <= 100 for line in lines)


def test_figures_are_sound_xml_of_legible_text(tmp_path: Path) -> None:
    drawn = figures(read_contents(write_run(tmp_path, count=12, text=HOSTILE)))
    titles = {figure.title for figure in drawn}
    assert {
        "Who is preferred", "Truth", "Honesty", "Toxicity by instruction", "Skills", "By use case: true utility",
        "Without and with 5 examples", "As raw text and through the chat template", "Preference against tax",
        "Calibration of the reward model",
    } <= titles  # fmt: skip
    for figure in drawn:
        text = base64.b64decode(figure.picture.uri.partition(",")[2]).decode()
        root = ElementTree.fromstring(text)
        assert not re.search(r"script>|href|url\(", text.replace("&lt;script&gt;", "").replace("&lt;/script&gt;", ""))
        sizes = [float(element.get("font-size", "0")) for element in root.iter("{http://www.w3.org/2000/svg}text")]
        # A phone of 360 px leaves 336 of the drawing's 360.
        assert min(sizes) * 336 / svg.WIDTH >= 9
