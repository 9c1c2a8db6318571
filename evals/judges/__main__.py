"""`python -m evals.judges toxicity|truth`: train a small offline judge and print how good it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from evals.judges import toxicity, truth
from evals.judges.classifier import Card
from training.artifacts.errors import UserError, run_command


def command(arguments: Sequence[str] | None = None) -> None:
    """`python -m evals.judges`."""
    name, *arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in {"-h", "--help"}:
        print(f"{__doc__}\n\nusage: python -m evals.judges toxicity|truth [--help] ...")
    elif name == "toxicity":
        show(toxicity.main(tyro.cli(toxicity.Config, args=arguments, prog="python -m evals.judges toxicity")))
    elif name == "truth":
        show(truth.main(tyro.cli(truth.Config, args=arguments, prog="python -m evals.judges truth")))
    else:
        raise UserError(f"no judge {name!r}: use toxicity or truth")


def show(card: Card) -> None:
    console = Console()
    console.print(
        f"judge {card.version}: accuracy {card.accuracy:.3f}, AUC {card.auc:.3f} on {card.heldout} held-out texts "
        f"(majority {card.majority:.3f}), trained on {card.trained_on} in {card.seconds:.0f} s",
        highlight=False,
    )
    for reason, count in card.data["skipped"].items():
        console.print(f"  left out {count:,}: {reason}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command(command))
