"""The tax's HellaSwag against `lm_eval --model hf` on the same model: `python -m tests.benchmarks.tax_vs_lm_eval`.

SmolLM2-135M-Instruct in float32 on CPU: our engine, started as the product starts it, and lm-eval's own model in this
process, each with all cores while the other rests. A round measures the same rows with both, from rows to scores; the
models are loaded before. lm-eval runs at the best of several batch sizes, found in the first round. Nothing is cached.
Compared are seconds, and beside them CPU seconds of engine, gateway and client, which a busy machine changes less.
Needs ALIGNLOOP_DATA, and ALIGNLOOP_SMOLLM2 or the file that the tests keep in the user's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.support.speed_models import SMOLLM2 as MODEL

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ALIGNLOOP_DATA", ROOT.parent / "shared" / "data"))
BATCHES = (1, 8, 32, 64)


@dataclass(frozen=True)
class Measured:
    """Wall and CPU seconds of one run, and right answers by item."""

    seconds: float
    cpu: float
    correct: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each; 1 on a machine with other work")
    options = parser.parse_args()
    for needed in (MODEL, DATA / "icl"):
        if not needed.exists():
            raise SystemExit(f"{needed} is not there: see the variables above")
    from tests.support.live_service import running_service
    from training.stages.adopt import Config, adopt

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        checkpoint = adopt(Config(str(MODEL), home=home))
        file = home / "hellaswag.jsonl"
        lines = (DATA / "icl/hellaswag_val_1k.jsonl").read_text().splitlines()
        file.write_text("\n".join(lines[: options.rows]) + "\n")
        threads = {"ALIGNLOOP_ENGINE_THREADS": str(options.threads)}
        with running_service(home, ("--with-engines", checkpoint.id), environment=threads) as running:
            running.wait_ready()
            compare(running, checkpoint, file, options)


def compare(running: Any, checkpoint: Any, file: Path, options: argparse.Namespace) -> None:
    """Rounds of both, in turn."""
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(options.threads)
    first = HFLM(pretrained=str(checkpoint.path), device="cpu", dtype="float32", batch_size=BATCHES[0])
    models = {BATCHES[0]: first}
    for size in BATCHES[1:]:  # one copy of the weights
        models[size] = HFLM(pretrained=first.model, tokenizer=first.tokenizer, batch_size=size)
    key, processes = running.add_key("eval"), running.descendants()
    pairs: list[tuple[Measured, Measured]] = []
    best = None
    for number in range(options.rounds):
        mine = timed(lambda: ours(running, checkpoint, file, key, options.shots), processes)
        report(f"round {number + 1}: ours", mine)
        theirs = {}
        for size in BATCHES if best is None else (best,):
            theirs[size] = timed(lambda s=size: lm_eval(models[s], file, options.shots), [])  # type: ignore[misc]
            report(f"round {number + 1}: lm_eval, batch {size}", theirs[size])
        best = min(theirs, key=lambda size: theirs[size].seconds)
        pairs.append((mine, theirs[best]))
        same = sum(a == b for a, b in zip(mine.correct, theirs[best].correct, strict=True))
        print(f"  same answers: {same} of {len(mine.correct)}", flush=True)
    ratio("tax_vs_lm_eval cpu ratio", [theirs.cpu / mine.cpu for mine, theirs in pairs])
    ratio("tax_vs_lm_eval ratio", [theirs.seconds / mine.seconds for mine, theirs in pairs])


def report(name: str, measured: Measured) -> None:
    accuracy = sum(measured.correct) / len(measured.correct)
    print(f"{name}: {measured.seconds:.1f} s, {measured.cpu:.1f} CPU s, accuracy {accuracy:.3f}", flush=True)


def ratio(name: str, values: list[float]) -> None:
    print(f"{name} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})", flush=True)


def timed(work: Callable[[], list[float]], processes: list[psutil.Process]) -> Measured:
    """Seconds of a call, with the CPU time of this process and of others."""

    def cpu() -> float:
        times = [process.cpu_times() for process in processes if process.is_running()]
        return time.process_time() + sum(t.user + t.system for t in times)

    wall, used = time.perf_counter(), cpu()
    correct = work()
    return Measured(time.perf_counter() - wall, cpu() - used, correct)


def ours(running: Any, checkpoint: Any, file: Path, key: str, shots: int) -> list[float]:
    """HellaSwag as the suite measures it."""
    from evals.client import Client
    from evals.suites.tax import Choices, measure_tasks

    async def work() -> Any:
        async with Client(running.url, key) as client:
            return await measure_tasks(
                client, checkpoint.id, checkpoint.path, {"hellaswag": str(file)}, (), Choices((shots,)), running.home
            )

    items = asyncio.run(work()).items
    assert all(item.missing is None for item in items)
    return [float(item.scores["accuracy_by_characters"] or 0) for item in items]


def lm_eval(model: Any, file: Path, shots: int) -> list[float]:
    """The same rows through lm-eval's own evaluation."""
    from lm_eval.evaluator import evaluate

    from evals.tasks.build import build, quiet, spec_of

    quiet()
    (task,) = build(spec_of("hellaswag", "hellaswag", str(file), file.parent), (shots,), file.parent)
    output = evaluate(model, {"tasks": {task.name: task.task}, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    assert output is not None
    rows = output["samples"][task.name]
    return [float(row["acc_norm"]) for row in sorted(rows, key=lambda row: json.dumps(row["doc_id"]).zfill(9))]


if __name__ == "__main__":
    main()
