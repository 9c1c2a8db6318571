"""Our PPO on the settings of `ppo_of_trl`: seconds of each iteration and memory, as JSON.

python -m tests.support.ppo_of_ours SETTINGS
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
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from training.data.ragged import Ragged
from training.runtime import runs
from training.stages import ppo


class Enough(Exception):  # no error: what follows the last iteration is not measured
    """Raised after the last iteration."""


def ragged(rows: list[list[int]]) -> Ragged:
    return Ragged(np.array([token for row in rows for token in row], np.int32), np.array([len(row) for row in rows]))


def main(settings: dict[str, Any]) -> None:
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    moments: list[float] = []
    loaded = peak = steps = 0
    prepare, resume, log = ppo.prepare, runs.Run.resume, runs.Run.log

    def prepare_without_stops(config: ppo.Config) -> ppo.Setup:
        """The same prompts, and responses that never end early: both sides compute as many tokens."""
        return prepare(config)._replace(stops=(), prompts=ragged(settings["prompts"]))

    def started(run: runs.Run, **parts: Any) -> None:
        nonlocal loaded
        resume(run, **parts)
        loaded = psutil.Process().memory_info().rss
        moments.append(time.perf_counter())

    def ended(run: runs.Run, step: int, scalars: Any, note: str | None = None) -> None:
        nonlocal peak, steps
        moments.append(time.perf_counter())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        log(run, step, scalars, note)
        steps = step + 1  # one per iteration: `train` raises otherwise
        if step + 1 == settings["iterations"]:
            raise Enough

    ppo.prepare, runs.Run.resume, runs.Run.log = prepare_without_stops, started, ended  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("hello\n")
        with contextlib.suppress(Enough):
            ppo.train(
                ppo.Config(
                    prompts=(str(prompts),),
                    model=settings["policy"],
                    reward=(settings["reward"],),
                    iterations=settings["iterations"],
                    batch=settings["batch"],
                    minibatch=settings["batch"],
                    max_tokens=settings["tokens"],
                    dtype="float32",
                    seed=settings["seed"],
                    home=Path(folder) / "home",
                )
            )
    seconds = [end - start for start, end in itertools.pairwise(moments)]
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak": peak, "optimizer_steps": steps}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
