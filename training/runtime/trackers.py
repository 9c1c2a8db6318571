"""Weights & Biases and MLflow, where they are installed and asked for: the scalars of a run, beside TensorBoard's.

Where they send them is theirs to say: `WANDB_MODE=offline`, `MLFLOW_TRACKING_URI` and the like.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from training.artifacts.errors import UserError

Name = Literal["wandb", "mlflow"]
PROJECT = "alignloop"  # their name for what runs are compared within
TAG = "alignloop.run"
NOT_MLFLOW = re.compile(r"[^/\w.\- ]")  # in names of scalars, such as those of reward models: MLflow refuses them


class Tracker(Protocol):
    """What takes a run's scalars."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self, completed: bool) -> None: ...


def check(names: Sequence[Name]) -> None:
    """Raise `UserError` where one of them is not installed."""
    for name in names:
        _import(name)


def opened(names: Sequence[Name], run: str, settings: Mapping[str, Any], folder: Path) -> list[Tracker]:
    """The trackers, each with a run of this name, which a resumed one continues.

    Args:
        folder: where they may write.
    """
    kinds: dict[Name, Any] = {"wandb": Wandb, "mlflow": Mlflow}
    return [kinds[name](_import(name), run, settings, folder) for name in names]


class Wandb:
    """A run of Weights & Biases. It has no step twice: those of a resumed run that it has already are dropped."""

    def __init__(self, wandb: Any, run: str, settings: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=PROJECT, name=run, id=run, resume="allow", config=dict(settings), dir=str(folder)
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self, completed: bool) -> None:
        self._run.finish(exit_code=0 if completed else 1)


class Mlflow:
    """A run of MLflow; one of the same name that did not end is continued."""

    def __init__(self, mlflow: Any, run: str, settings: Mapping[str, Any], folder: Path) -> None:
        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        unfinished = mlflow.search_runs(
            experiment_names=[PROJECT],
            filter_string=f"tags.`{TAG}` = '{run}' and attributes.status != 'FINISHED'",
            output_format="list",
            max_results=1,
        )
        if unfinished:
            mlflow.start_run(run_id=unfinished[0].info.run_id)
            return
        mlflow.start_run(run_name=run, tags={TAG: run})
        mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({NOT_MLFLOW.sub("_", name): value for name, value in scalars.items()}, step=step)

    def close(self, completed: bool) -> None:
        self._mlflow.end_run("FINISHED" if completed else "KILLED")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"--log-to {name}: it is not installed: pip install {name}, or leave it out") from None
