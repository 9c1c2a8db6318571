"""Our SFT, reward model and DPO on the rows of `trainers_of_trl`: seconds of each step, as JSON.

python -m tests.support.trainers_of_ours SETTINGS: `kind`, `model`, `rows`, `batch`, `threads` as there, but a row of
reward and dpo is `prompt` and `responses`, the best first. The stage itself runs; its data are given, and it ends after
its last step.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.items import Examples, Rankings
from training.data.ragged import Ragged
from training.runtime import runs
from training.stages import dpo, rankings, reward, sft


class Enough(Exception):  # no error: what follows the last step is not measured
    """Raised after the last step."""


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    flat = [value for row in rows for value in row]
    return Ragged(np.array(flat, np.int64), np.array([len(row) for row in rows], np.int64))


def examples(rows: Sequence[dict[str, Any]]) -> Examples:
    """Rows whose learned tokens are one stretch."""
    turns = [[row["mask"].index(1), sum(row["mask"])] for row in rows]
    return Examples(ragged([row["ids"] for row in rows]), ragged(turns))


def comparisons(rows: Sequence[dict[str, Any]]) -> Rankings:
    """Rankings without ties: every response is better than those after it."""
    whole = [[row["prompt"] + response for response in row["responses"]] for row in rows]
    counts = [len(one) for one in whole]
    places = [list(range(end - count, end)) for count, end in zip(counts, itertools.accumulate(counts), strict=True)]
    pairs = [[v for i, j in itertools.combinations(range(count), 2) for v in (i, j, 1)] for count in counts]
    flat = [response for one in whole for response in one]
    return Rankings(ragged(flat), ragged(places), ragged(pairs), np.zeros(len(rows), np.int64), ["people"])


def main(settings: dict[str, Any]) -> None:
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    kind, rows, batch = settings["kind"], settings["rows"], settings["batch"]
    moments: list[float] = []
    before: list[float] = []
    steps, reference = runs.Run.steps, dpo.reference_logprobs

    def timed(run: runs.Run, total: int, title: str) -> Iterator[int]:
        assert total == len(rows) // batch
        for step in steps(run, total, title):
            if not moments:
                moments.append(time.perf_counter())
            yield step
            moments.append(time.perf_counter())  # before the save after the last step, which TRL leaves out
        raise Enough

    def timed_reference(model: Any, answers: Any, of: Any, budget: Any, file: Path) -> Any:
        started = time.perf_counter()
        result = reference(model, answers, of, budget, file)
        before.append(time.perf_counter() - started)
        return result

    runs.Run.steps, dpo.reference_logprobs = timed, timed_reference  # type: ignore[method-assign, assignment]
    stage: Any = {"sft": sft, "reward": reward, "dpo": dpo}[kind]
    plan: list[list[int]] = []
    if kind == "sft":
        data = examples(rows)
        sft.prepare = lambda *_: sft.Data(data, data.take(np.array([0])), ragged([]), [])
        plan_steps = sft.plan_steps

        def noted(*arguments: Any) -> Any:
            planned = plan_steps(*arguments)
            plan.extend(step.demonstrations for step in planned)
            return planned

        sft.plan_steps = noted  # type: ignore[assignment]
    else:
        ranked = comparisons(rows)
        rankings.load = lambda *_: rankings.Data(ranked, ranked.take(np.array([0])), "prompt", [])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "none.jsonl").write_text("")
        common = {"model": settings["model"], "home": Path(folder) / "home", "dtype": "float32", "batch": batch}
        data_files = {"data": (str(Path(folder) / "none.jsonl"),), "epochs": 1}
        with contextlib.suppress(Enough):
            stage.train(stage.Config(**common, **data_files))
    seconds = [end - start for start, end in itertools.pairwise(moments)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    learned = [sum(sum(rows[i]["mask"][1:]) for i in step) for step in plan]
    print(json.dumps({"seconds": seconds, "before": before[:1], "peak": peak, "learned": learned}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
