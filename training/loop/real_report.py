"""The report of `python -m training real`: every figure with its interval, what it cost, and what is simulated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.artifacts.files import write_atomically

ROWS = {
    "tax.hellaswag.accuracy_by_characters": ("HellaSwag, 0-shot, by characters", "hellaswag"),
    "tax.piqa.accuracy_by_characters": ("PIQA, 0-shot, by characters", "piqa"),
    "truthfulqa.choices.mc1": ("TruthfulQA, MC1", "truthfulqa"),
}


def write(folder: Path, figures: Mapping[str, Any], seconds: Mapping[str, float]) -> Path:
    """Write real.json and real.md; returns the latter."""
    write_atomically(folder / "real.json", json.dumps({**figures, "seconds": seconds}, indent=2) + "\n")
    file = folder / "real.md"
    write_atomically(file, "\n".join(_lines(figures, seconds)) + "\n")
    return file


def _lines(figures: Mapping[str, Any], seconds: Mapping[str, float]) -> Iterator[str]:
    yield f"# {figures['model']}: {figures['base']} and {figures['policies'][-1]}"
    yield ""
    yield "Intervals: 95 %, over prompts (reward, KL) or items."
    if simulated := figures.get("next", {}).get("simulated"):
        stand_in, used = figures["stand_in"], figures["next"]["used"]
        yield (
            f"**Simulated**: {simulated} rankings of the next turn are of a stand-in labeler, not of people; trained "
            f"on {stand_in['trained_on']} held-back human pairs, it orders {100 * stand_in['agreement']:.0f} % of "
            f"{stand_in['pairs']} others as people did. {used} were trained on; the others hold answers that "
            "were cut off, or ties alone."
        )
    yield ""
    yield from _accuracy(figures["accuracy"])
    yield ""
    yield from _drift(figures["drift"])
    yield ""
    yield from _evaluation(figures)
    yield ""
    yield "| step | minutes |"
    yield "|---|---:|"
    for name, value in seconds.items():
        yield f"| {name} | {value / 60:.1f} |"
    for name, value in figures["minutes"].items():
        yield f"| until {name} | {value:.1f} |"


def _accuracy(accuracy: Mapping[str, Any]) -> Iterator[str]:
    yield f"| reward model on {accuracy['pairs']} held-out human pairs | % |"
    yield "|---|---:|"
    yield f"| orders them as people did | {_share(accuracy['accuracy'])} |"
    yield f"| preferring the {accuracy['length_baseline']} response | {_share(accuracy['length_accuracy'])} |"
    yield f"| paired difference | {_share(accuracy['difference'])} |"


def _drift(drift: Mapping[str, Any]) -> Iterator[str]:
    yield f"| {drift['prompts']} held-out prompts | reward | gain over the start | KL from the start, nats | finished |"
    yield "|---|---:|---:|---:|---:|"
    for name, row in drift["policies"].items():
        gain, kl = (_interval(row[key], 2) if key in row else "" for key in ("gain", "kl"))
        yield f"| {name} | {_interval(row['reward'], 2)} | {gain} | {kl} | {100 * row['finished']:.0f} % |"


def _evaluation(figures: Mapping[str, Any]) -> Iterator[str]:
    evaluation = figures["evaluation"]
    systems = {model["checkpoint"]: name for name, model in evaluation["models"].items()}
    published = figures["published"]
    yield "| real data, % | items | published, unquantised | " + " | ".join(systems) + " |"
    yield "|---|---:|---:|" + "---:|" * len(systems)
    for key, (title, name) in ROWS.items():
        cells = [evaluation["metrics"][system].get(key) for system in systems.values()]
        if any(cells):
            items = max(cell["n"] for cell in cells if cell)
            shares = " | ".join("not measured" if cell is None else _share(cell) for cell in cells)
            yield f"| {title} | {items} | {published.get(name, '')} | {shares} |"


def _share(figure: Mapping[str, Any]) -> str:
    return _interval({key: 100 * figure[key] for key in ("value", "low", "high") if figure[key] is not None}, 1)


def _interval(figure: Mapping[str, float], digits: int) -> str:
    if not {"value", "low", "high"} <= figure.keys():
        return "not measured"
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"
