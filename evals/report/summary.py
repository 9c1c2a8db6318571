"""summary.json: the figures of a run for programs, such as the training loop. Its layout is a contract."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evals.report.contents import Contents
from evals.statistics import Estimate

FORMAT = 1
Figure = Mapping[str, Any]  # value, low, high, n, missing


@dataclass(frozen=True)
class Summary:
    """The figures of a run.

    Attributes:
        format: version of this layout.
        models: model -> {"label", "checkpoint", "ask"}; a model is named by its result file without `.json`.
        baselines: models that candidates are compared with, the gate's the last.
        candidates: models that are decided about.
        wins: candidate -> baseline -> metric -> share of common items on which the candidate scores higher, ties half:
            {"value", "low", "high", "n", "missing"}, where `missing` items lack a measurement on either side.
        metrics: model -> metric -> {"value", "low", "high", "n", "missing"}; null where nothing was measured.
        unusable: model -> metric -> the judge that is not accurate enough for it.
        verdicts: candidate -> PASS, FAIL or INCONCLUSIVE; only of candidates that the gate decided about.
    """

    models: Mapping[str, Mapping[str, str]]
    baselines: tuple[str, ...]
    candidates: tuple[str, ...]
    wins: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    metrics: Mapping[str, Mapping[str, Figure]]
    unusable: Mapping[str, Mapping[str, str]]
    verdicts: Mapping[str, str]
    format: int = FORMAT


def summary_of(contents: Contents) -> Summary:
    """The summary of a run."""
    return Summary(
        models={
            result.system: {"label": result.label, "checkpoint": result.checkpoint, "ask": result.ask}
            for result, _ in contents.run
        },
        baselines=contents.baselines,
        candidates=contents.candidates,
        wins={name: wins for name in contents.candidates if (wins := _wins(contents, name))},
        metrics={
            result.system: {key: _figure(result.metrics[key]) for key in contents.metrics if key in result.metrics}
            for result, _ in contents.run
        },
        unusable={name: spoiled for name, spoiled in contents.unusable.items() if spoiled},
        verdicts={name: verdict.outcome for name, verdict in contents.verdicts.items()},
    )


def as_json(summary: Summary) -> str:
    """Strict JSON."""
    row = asdict(summary)
    return json.dumps({"format": row.pop("format"), **row}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _wins(contents: Contents, candidate: str) -> dict[str, dict[str, Figure]]:
    rates: dict[str, dict[str, Figure]] = {}
    for base in contents.baselines:
        for key, metric in contents.metrics.items():
            rate = contents.win_rate(candidate, base, key) if metric.wins else None
            if rate is not None:
                rates.setdefault(base, {})[key] = _figure(rate)
    return rates


def _figure(estimate: Estimate) -> Figure:
    """An end that is not known is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(estimate).items()
    }
