"""Scalars of a run that is stopped and resumed, to a real tracker: wandb or mlflow, in an environment that has it.

python -m tests.support.tracked_run NAME FOLDER: prints the steps and losses that the tracker holds, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from training.runtime import trackers


def main(name: trackers.Name, folder: Path) -> None:
    for start, end, completed in ((0, 4, False), (2, 6, True)):
        [tracker] = trackers.opened([name], "sft-1", {"epochs": 2, "data": ["a"]}, folder)
        for step in range(start, end):
            tracker.write(step, {"epoch/loss(a+b)": 1.0 / (1 + step)})
        tracker.close(completed)
    if name == "mlflow":
        mlflow: Any = importlib.import_module(name)  # by name: no requirement of this project

        [run] = mlflow.search_runs(experiment_names=[trackers.PROJECT], output_format="list")
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "epoch/loss_a_b_")
        values = sorted({(entry.step, entry.value) for entry in history})
        print(json.dumps({"status": run.info.status, "parameters": run.data.params, "values": values}))
    else:
        print(json.dumps({"files": sorted(str(file.name) for file in folder.rglob("*.wandb"))}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))  # type: ignore[arg-type]
