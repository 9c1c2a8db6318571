"""The gate on a run: each candidate against the last baseline, written beside the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from evals import gate, results
from evals.decision import Outcome
from evals.lm_eval_folder import read_lm_eval
from evals.measured import Measured, measured_of
from evals.policy import Policy, PolicyError, read_policy
from evals.verdict import Verdict, compare_results
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically

FILE = "gate.json"


def decide_run(out: Path, policy_file: Path | None, console: Console) -> Outcome:
    """Decide on every candidate of a run's folder, print the verdicts and write them to gate.json.

    Returns:
        FAIL if any candidate fails, PASS if all pass, otherwise INCONCLUSIVE. Two that cannot be compared, such as one
        asked through its chat template and one with plain text, are inconclusive, with the reason.

    Raises:
        UserError: no such policy; `PolicyError` for one that names what was not measured.
    """
    run = json.loads((out / "run.json").read_text())
    baseline = _side(out, run, run["baselines"][-1])
    policy = read_policy(policy_file) if policy_file else Policy()
    verdicts: dict[str, Mapping[str, Any]] = {}
    for name in run["candidates"]:
        candidate = _side(out, run, name)
        try:
            verdict: Verdict | None = compare_results(candidate, baseline, policy)
        except PolicyError:
            raise  # a mistake in the command, not a finding about the models
        except UserError as error:
            verdict = None
            console.print(f"[yellow]INCONCLUSIVE[/]: {escape(f'{name}: {error}')}", highlight=False)
            verdicts[name] = {"outcome": "INCONCLUSIVE", "baseline": run["baselines"][-1], "refused": str(error)}
        if verdict is not None:
            gate.print_verdict(verdict, console)
            verdicts[name] = verdict.as_json()
    write_atomically(out / FILE, json.dumps(verdicts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    outcomes = {str(verdict["outcome"]) for verdict in verdicts.values()}
    if "FAIL" in outcomes:
        return "FAIL"
    return "PASS" if outcomes == {"PASS"} else "INCONCLUSIVE"


def _side(out: Path, run: Mapping[str, Any], name: str) -> Measured:
    """What was measured of a model of the run, here or by lm-eval."""
    folder = (run.get("imported") or {}).get(name)
    if folder is not None:
        return replace(read_lm_eval(Path(folder)), name=name)
    return measured_of(*results.read_result(out / f"{name}.json"))
