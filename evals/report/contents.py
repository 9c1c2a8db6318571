"""What the folder of a run holds, read once for everything that is written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals import table
from evals.checked import parsed
from evals.report.verdicts import Verdict, read_verdicts
from evals.results import Item, Result, read_result
from evals.statistics import Estimate
from evals.suite import Metric
from evals.table import Run, Table
from evals.usable import unusable_metrics
from training.artifacts import progress
from training.artifacts.errors import UserError


@dataclass(frozen=True)
class Contents:
    """A run.

    Attributes:
        run: results with their items, in the order of the run.
        described: run.json.
        baselines, candidates: names of files; candidates are compared with the last baseline.
        gate: gate.json, empty where nothing was decided.
    """

    run: Run
    described: Mapping[str, Any]
    baselines: tuple[str, ...]
    candidates: tuple[str, ...]
    gate: Mapping[str, Any]

    @cached_property
    def results(self) -> dict[str, Result]:
        return {result.system: result for result, _ in self.run}

    @cached_property
    def items(self) -> dict[str, list[Item]]:
        return {result.system: items for result, items in self.run}

    @cached_property
    def labels(self) -> dict[str, str]:
        return {result.system: result.label for result, _ in self.run}

    @cached_property
    def policies(self) -> list[str]:
        """Models that write text."""
        return [result.system for result, _ in self.run if result.ask != "score"]

    @property
    def baseline(self) -> str | None:
        """What candidates are compared with."""
        return self.baselines[-1] if self.baselines else None

    @cached_property
    def table(self) -> Table:
        return table.make(self.run, self.baselines)

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """Of the candidates that the gate decided about, in the order of the run."""
        verdicts = read_verdicts(self.gate, self.metric)
        order = [*self.candidates, *sorted(verdicts.keys() - set(self.candidates))]
        return {name: verdicts[name] for name in order if name in verdicts}

    @cached_property
    def unusable(self) -> dict[str, dict[str, str]]:
        """Model -> metric -> the judge that makes it unusable."""
        return {result.system: unusable_metrics(result, items) for result, items in self.run}

    @cached_property
    def doubtful(self) -> dict[str, str]:
        """Metrics that are unusable for at least one model, and why."""
        return {key: judge for spoiled in self.unusable.values() for key, judge in spoiled.items()}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every measured metric, in the order of the table."""
        keys = dict.fromkeys(row.metric for row in self.table.rows if row.against is None)
        return {key: metric for key in keys if (metric := self.metric(key)) is not None}

    @cached_property
    def _rates(self) -> dict[tuple[str, str, str], Estimate | None]:
        return {}

    def win_rate(self, candidate: str, baseline: str, key: str) -> Estimate | None:
        """Share of common items on which the candidate scores higher, ties half; None without any."""
        if (candidate, baseline, key) not in self._rates:
            rate = table.wins_against(self.items[candidate], self.items[baseline], key)
            self._rates[candidate, baseline, key] = rate
        return self._rates[candidate, baseline, key]

    def metric(self, key: str) -> Metric | None:
        """The declaration of a metric; None where no result has it."""
        return next((result.metric(key) for result, _ in self.run if key in result.declared), None)


def read_contents(folder: Path) -> Contents:
    """Read a run. Raises `UserError` for a folder that is not one, or a damaged file."""
    described = _read_json(folder / "run.json")
    if described is None:
        raise UserError(f"{folder} holds no results: run `python -m evals.run` first")
    if not isinstance(described.get("systems"), list) or not described["systems"]:
        raise UserError(f"{folder / 'run.json'} names no models: run `python -m evals.run` again")
    for name, kind in (("baselines", list), ("candidates", list), ("config", dict), ("seconds", int | float)):
        if not isinstance(described.get(name), kind | None):
            raise UserError(f"{folder / 'run.json'} is damaged ({name}): run `python -m evals.run` again")
    run = []
    with progress.bar("results read", len(described["systems"])) as bar:
        for name in described["systems"]:
            run.append(read_result(folder / f"{name}.json"))
            bar.advance()
    systems = [result.system for result, _ in run]
    baselines = tuple(name for name in described.get("baselines") or () if name in systems)
    policies = [result.system for result, _ in run if result.ask != "score" and result.system not in baselines]
    candidates = tuple(name for name in described.get("candidates") or () if name in systems) or tuple(policies)
    return Contents(run, described, baselines, candidates, _read_json(folder / "gate.json") or {})


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None without the file."""
    try:
        value = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run the command that wrote it again") from None
    return value
