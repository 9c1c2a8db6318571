"""Folders of lm-eval: every metric is decided on or named, and ambiguous or damaged folders are refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.lm_eval_folder import read_lm_eval
from evals.policy import Policy
from evals.results import read_result
from evals.verdict import Verdict, compare_results
from tests.support.lm_eval_runs import DATE, write_run
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
HALF = [float(i % 2) for i in range(400)]
ZERO = [0.0] * 400


def verdict(candidate: Path, baseline: Path, policy: Policy | None = None) -> Verdict:
    return compare_results(read_lm_eval(candidate), read_lm_eval(baseline), policy)


@pytest.mark.parametrize(
    "metric", ["acc", "acc_norm", "exact_match", "mc2", "pass@1", "prompt_level_strict_acc", "rougeL"]
)
def test_a_metric_that_falls_to_zero_fails_whatever_its_name(tmp_path: Path, metric: str) -> None:
    """Once only acc, acc_norm and mc2 were read, and only acc was gated: GSM8K from 100 to 0 % passed."""
    good = write_run(tmp_path / "good", {"arc": {"acc": HALF}, "gsm8k": {metric: HALF}})
    bad = write_run(tmp_path / "bad", {"arc": {"acc": HALF}, "gsm8k": {metric: ZERO}}, "other")
    result = verdict(bad, good)
    assert result.outcome == "FAIL"
    assert {r.metric: r.outcome for r in result.rows} == {"tax.arc.acc": "PASS", f"tax.gsm8k.{metric}": "FAIL"}
    assert verdict(good, good).outcome == "PASS"


def test_lower_is_better_where_lm_eval_says_so(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", {"t": {"wer": ZERO[:200] + HALF[:200]}}, higher={"wer": False})
    bad = write_run(tmp_path / "bad", {"t": {"wer": HALF}}, "other", higher={"wer": False})
    assert verdict(bad, good).outcome == "FAIL"


def test_filters_are_metrics_of_their_own(tmp_path: Path) -> None:
    scores = {"exact_match,strict-match": HALF, "exact_match,flexible-extract": HALF}
    good = write_run(tmp_path / "good", {"gsm8k": scores})
    bad = write_run(tmp_path / "bad", {"gsm8k": {**scores, "exact_match,strict-match": ZERO}}, "other")
    assert {r.metric: r.outcome for r in verdict(bad, good).rows} == {
        "tax.gsm8k.exact_match,flexible-extract": "PASS",
        "tax.gsm8k.exact_match,strict-match": "FAIL",
    }


@pytest.mark.parametrize(
    "values, figures, reason",
    [
        ([["a", "b"]] * 400, {}, "not numbers (list)"),  # bleu: (reference, prediction)
        ([{"id": "1", "f1": 0.5}] * 400, {}, "not numbers (dict)"),  # squad: predictions and references
        (["0.5"] * 400, {}, "not numbers (str)"),
        ([-2.0, -3.0] * 200, {"metric,none": 12.18}, "not the mean"),  # perplexity: exp of minus the mean
        (HALF, {"metric,none": 0.0}, "not the mean"),  # such as Matthews' correlation
    ],
)
def test_what_is_no_mean_over_items_is_listed_and_stops_the_pass(
    tmp_path: Path, values: list[object], figures: dict[str, float], reason: str
) -> None:
    runs = [
        write_run(tmp_path / name, {"t": {"acc": HALF, "metric": values}}, name, figures=figures) for name in ("a", "b")
    ]
    result = verdict(*runs)
    assert result.outcome == "INCONCLUSIVE"
    (listed,) = result.ungated
    assert (listed.metric, listed.blocks) == ("tax.t.metric", True)
    assert reason in listed.reason
    assert verdict(*runs, Policy({}, ("tax.t.metric",))).outcome == "PASS"


def test_numbers_that_are_no_shares_need_a_margin_of_their_own(tmp_path: Path) -> None:
    values = [50.0 + i % 7 for i in range(400)]
    runs = [write_run(tmp_path / name, {"t": {"chrf": values}}, name) for name in ("a", "b")]
    assert [u.reason for u in verdict(*runs).ungated] == ["it has no margin"]
    assert verdict(*runs, Policy({"tax.t.chrf": 1.0})).outcome == "PASS"


def test_a_metric_without_a_direction_stops_the_pass(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / n, {"t": {"acc": HALF, "length": HALF}}, n, higher={"length": None}) for n in "ab"]
    assert verdict(*runs).outcome == "INCONCLUSIVE"
    assert "no direction" in verdict(*runs).ungated[0].reason


def test_bits_per_byte_are_weighted_by_bytes(tmp_path: Path) -> None:
    values = [[-70.0 - i, 40 + i] for i in range(60)]
    figure = -sum(v[0] for v in values) / sum(v[1] for v in values) / math.log(2)
    (run,) = [
        write_run(tmp_path, {"t": {"bits_per_byte": values}}, higher={"bits_per_byte": False},
                  figures={"bits_per_byte,none": figure})
    ]  # fmt: skip
    side = read_lm_eval(run)
    assert not side.unusable
    assert [item.weight for item in side.items[:2]] == [40.0, 41.0]
    assert side.items[0].scores["bits_per_byte"] == pytest.approx(70 / 40 / math.log(2))


def test_several_models_below_a_folder_are_refused(tmp_path: Path) -> None:
    for model in ("good", "bad"):
        write_run(tmp_path, {"arc": {"acc": HALF}}, model)
    with pytest.raises(UserError, match=r"2 models or runs \(bad, good\)"):
        read_lm_eval(tmp_path)


def test_several_runs_of_a_task_are_refused(tmp_path: Path) -> None:
    later = DATE.replace("2026", "2027")
    write_run(tmp_path, {"arc": {"acc": HALF}})
    write_run(tmp_path, {"arc": {"acc": HALF[:200]}}, date=later)
    with pytest.raises(UserError, match=f"2 runs of arc .*{later}"):
        read_lm_eval(tmp_path)


def test_runs_of_different_tasks_are_one_side(tmp_path: Path) -> None:
    write_run(tmp_path, {"arc": {"acc": HALF}})
    write_run(tmp_path, {"piqa": {"acc": HALF}}, date=DATE.replace("2026", "2027"))
    assert set(read_lm_eval(tmp_path).declared) == {"tax.arc.acc", "tax.piqa.acc"}


def test_tasks_with_underscores_and_dots_keep_their_names(tmp_path: Path) -> None:
    write_run(tmp_path, {"mmlu_flan_n_shot_v1.0": {"acc": HALF}})
    assert set(read_lm_eval(tmp_path).declared) == {"tax.mmlu_flan_n_shot_v1-0.acc"}


def test_questions_on_one_passage_are_one_cluster(tmp_path: Path) -> None:
    docs = [{"question": f"question {i}", "passage": f"text {i // 20} " * 20} for i in range(400)]
    write_run(tmp_path, {"drop": {"f1": HALF}}, docs=docs)
    result = compare_results(read_lm_eval(tmp_path), read_lm_eval(tmp_path))
    assert (result.rows[0].n, result.rows[0].clusters) == (400, 20)


def test_a_document_that_occurs_twice_is_one_cluster(tmp_path: Path) -> None:
    write_run(tmp_path, {"t": {"acc": HALF}}, docs=[{"question": f"question {i // 2}"} for i in range(400)])
    side = read_lm_eval(tmp_path)
    assert compare_results(side, side).rows[0].clusters == 200


def test_another_gold_answer_is_another_question(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / gold, {"t": {"acc": HALF}}, gold=gold) for gold in ("0", "1")]
    with pytest.raises(UserError, match=r"different questions: 400 of 400 items of tax\.t"):
        verdict(*runs)


@pytest.mark.parametrize("setting", ["num_fewshot", "generation_kwargs", "filter_list", "repeats"])
def test_other_settings_are_refused(tmp_path: Path, setting: str) -> None:
    one = write_run(tmp_path / "a", {"t": {"acc": HALF}})
    other = write_run(tmp_path / "b", {"t": {"acc": HALF}}, config={setting: "other"})
    with pytest.raises(UserError, match=f"tasks.t.{setting}"):
        verdict(one, other)


def damage(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (file,) = folder.glob("samples_*.jsonl")
        file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")

    return apply


def without(column: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [json.dumps({k: v for k, v in json.loads(line).items() if k != column}) for line in lines]


def remove_results(folder: Path) -> None:
    for file in folder.glob("results_*.json"):
        file.unlink()


def break_results(folder: Path) -> None:
    for file in folder.glob("results_*.json"):
        file.write_text('{"results": [')


@pytest.mark.parametrize(
    "apply, complaint",
    [
        (damage(without("doc_hash")), "line 1 has no doc_hash"),
        (damage(without("target_hash")), "line 1 has no target_hash"),
        (damage(without("arguments")), "line 1 has no arguments"),
        (damage(without("acc")), "lacks the values of its metrics"),
        (damage(lambda lines: [*lines[:5], '{"doc_id": 5, "do']), "line 6 is not JSON"),
        (damage(lambda lines: ["[]"]), "line 1 is not JSON"),
        (damage(lambda lines: lines[:-3]), "holds 397 of 400 items"),
        (damage(lambda lines: lines + lines[:2]), "2 lines repeat a document"),
        (damage(lambda lines: []), "is empty"),
        (remove_results, "holds no results_"),
        (break_results, "is not a results file"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(tmp_path: Path, apply: Callable[[Path], None], complaint: str) -> None:
    folder = write_run(tmp_path, {"t": {"acc": HALF}})
    apply(folder)
    with pytest.raises(UserError, match=complaint) as refusal:
        read_lm_eval(tmp_path)
    assert "\n" not in str(refusal.value).strip()


@pytest.mark.parametrize("name", ["samples_*", "results_*"])
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, kind: str) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0] * 20}})
    (path,) = folder.glob(name)
    path.unlink()
    path.symlink_to("/nowhere") if kind == "link" else path.mkdir()
    with pytest.raises(UserError, match=r"cannot be read .*: copy it whole"):
        read_lm_eval(folder)


def test_a_results_file_in_place_of_its_folder_is_told(tmp_path: Path) -> None:
    (path,) = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}).glob("results_*")
    with pytest.raises(UserError, match="is a results file of lm-eval: give its folder"):
        read_result(path)


def test_a_folder_without_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--log_samples"):
        read_lm_eval(tmp_path)


def test_nan_scores_are_missing_and_counted(tmp_path: Path) -> None:
    values = [float("nan") if i < 30 else v for i, v in enumerate(HALF)]
    mean = sum(values[30:]) / 370
    bad = write_run(tmp_path / "bad", {"t": {"acc": values}}, figures={"acc,none": mean})
    result = verdict(bad, write_run(tmp_path / "good", {"t": {"acc": HALF}}))
    assert result.outcome == "INCONCLUSIVE"


@pytest.mark.parametrize(
    "change",
    [{"config": [1]}, {"configs": [1]}, {"higher_is_better": ["t"]}, {"n-samples": 5}, {"n-samples": {"t": 5}},
     {"results": {"t": [1]}}, {"results": None}, {"versions": [1]}, {"n-shot": 3}],
)  # fmt: skip
def test_a_results_file_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0] * 20}})
    file = next(folder.glob("results_*"))
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="is not a results file of lm-eval"):
        read_lm_eval(folder)


@pytest.mark.parametrize("change", [{"acc": 10**400}, {"metrics": [["acc"]]}, {"arguments": 5}, {"arguments": [5]}])
def test_samples_of_another_form_end_without_a_verdict(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0] * 20}})
    file = next(folder.glob("samples_*"))
    rows = [json.loads(line) | change for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        measured = read_lm_eval(folder)
    except UserError:
        return
    assert "arguments" in change or measured.unusable


@pytest.mark.parametrize("name", ["samples_.jsonl", "samples_t.jsonl"])
def test_samples_without_task_or_date_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0] * 20}})
    (folder / name).write_text("{}\n")
    with pytest.raises(UserError, match="is not named samples_TASK_DATE"):
        read_lm_eval(folder)
