"""Loaders: a local file, a folder or a hub data set -> typed records, every skipped row counted with its reason."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """`python -m training data`: check a data file and print what would be used."""
    from training.data.report import main as report

    return report(arguments)
