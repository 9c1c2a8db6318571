"""The gate on folders that lm-eval itself wrote: two random models, three local tasks, zero-shot and offline."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from evals import gate
from evals.lm_eval_folder import read_lm_eval
from tests.support.tiny_models import publish_tiny, sentences

pytestmark = pytest.mark.integration
TASKS = {
    "local_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "local_text": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]
""",
    "local_generate": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["."], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match}, {metric: bleu}]
""",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lm_eval")
    rng = random.Random(0)
    rows = [
        {"question": q, "choices": [a, b], "gold": rng.randrange(2)}
        for q, a, b in zip(sentences(40, 1, 8), sentences(40, 2, 4), sentences(40, 3, 4), strict=True)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, body in TASKS.items():
        data = f"dataset_kwargs: {{data_files: {{validation: {folder}/rows.jsonl}}}}"
        head = f"task: {name}\ndataset_path: json\n{data}\nvalidation_split: validation\nnum_fewshot: 0"
        (folder / f"{name}.yaml").write_text(head + body + "metadata: {version: 1.0}\n")
    return [_run(folder, publish_tiny(folder / "store", seed=seed).path, f"out{seed}") for seed in (0, 1)]


def _run(folder: Path, model: Path, name: str) -> Path:
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
        "--tasks", ",".join(TASKS), "--include_path", str(folder), "--log_samples", "--output_path",
        str(folder / name), "--device", "cpu", "--batch_size", "16",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / name


def test_every_metric_is_decided_on_or_named(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, baseline = map(str, reversed(runs))
    assert gate.command([candidate, baseline, "--out", str(tmp_path / "verdict.json")]) == 3
    assert capsys.readouterr().out.startswith("INCONCLUSIVE: ")
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert {row["metric"]: row["n"] for row in verdict["rows"]} == {
        "tax.local_choice.acc": 40, "tax.local_choice.acc_norm": 40, "tax.local_generate.exact_match": 40,
    }  # fmt: skip
    assert {row["metric"] for row in verdict["ungated"]} == {
        "tax.local_generate.bleu", "tax.local_text.bits_per_byte", "tax.local_text.word_perplexity",
    }  # fmt: skip


def test_means_over_items_are_lm_evals_own_figures(runs: list[Path], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[margins]\n"tax.local_text.bits_per_byte" = 0.5\n')
    gate.command([str(runs[1]), str(runs[0]), "--policy", str(policy), "--out", str(tmp_path / "verdict.json")])
    rows = {row["metric"]: row for row in json.loads((tmp_path / "verdict.json").read_text())["rows"]}
    for side, run in (("candidate", runs[1]), ("baseline", runs[0])):
        (file,) = run.rglob("results_*.json")
        figures = json.loads(file.read_text())["results"]
        for task, metric in (("local_choice", "acc"), ("local_choice", "acc_norm"), ("local_text", "bits_per_byte")):
            assert rows[f"tax.{task}.{metric}"][side] == pytest.approx(figures[task][f"{metric},none"])


def test_two_models_have_equal_questions_and_one_is_itself(runs: list[Path]) -> None:
    one, other = (read_lm_eval(run) for run in runs)
    assert [i.prompt_hash for i in one.items] == [i.prompt_hash for i in other.items]
    assert one.checkpoint != other.checkpoint
    assert read_lm_eval(runs[0]).checkpoint == one.checkpoint
    assert one.comparable == other.comparable
