"""`python -m evals.judges toxicity|truth`: train a small offline judge and print how good it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from evals.judges import toxicity, truth
from evals.judges.card import Card
from evals.judges.measures import BAR
from training.artifacts.errors import UserError, run_command


def command(arguments: Sequence[str] | None = None) -> None:
    """`python -m evals.judges`."""
    name, *arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in {"-h", "--help"}:
        print(f"{__doc__}\n\nusage: python -m evals.judges toxicity|truth [--help] ...")
    elif name == "toxicity":
        show([toxicity.main(tyro.cli(toxicity.Config, args=arguments, prog="python -m evals.judges toxicity"))])
    elif name == "truth":
        show(truth.main(tyro.cli(truth.Config, args=arguments, prog="python -m evals.judges truth")))
    else:
        raise UserError(f"no judge {name!r}: use toxicity or truth")


def show(cards: Sequence[Card]) -> None:
    """Print how good judges are, and what was left out of their data."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for card in cards:
        console.print(f"judge {card.version}, trained on {card.trained_on:,} in {card.seconds:.0f} s")
        splits = card.splits or {
            "held-out texts": {
                "balanced_accuracy": card.balanced_accuracy, "accuracy": card.accuracy, "auc": card.auc,
                "majority": card.majority, "heldout": card.heldout,
            }
        }  # fmt: skip
        for split, figures in splits.items():
            console.print(
                f"  {split}: balanced accuracy {figures['balanced_accuracy']:.3f}, accuracy {figures['accuracy']:.3f} "
                f"(majority {figures['majority']:.3f}), AUC {figures['auc']:.3f} on {figures['heldout']:,.0f}"
            )
        for words, figures in card.hidden.items():
            console.print(
                f"  insults behind {words} polite words: {figures['detected']:.0%} noticed; "
                f"{words} polite words alone: {figures['false_alarms']:.0%} taken for toxic"
            )
        if not card.usable:
            console.print(f"  not usable: a figure is below {BAR}; results say so, and the gate refuses its figures")
        for reason, count in card.data["skipped"].items():
            console.print(f"  left out {count:,}: {reason}")


if __name__ == "__main__":
    sys.exit(run_command(command))
