"""`make docs`: write the generated parts of the documents anew, or with --check say which are out of date.

A generated part stands in a Markdown file between `<!-- generated: NAME -->` and `<!-- end -->`, and comes from the
function of that name in `BLOCKS`. Everything else in these files is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from docs import commands, families, formats, gateway
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import write_atomically

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
BLOCKS: dict[str, Callable[[], str]] = {
    "settings": gateway.settings,
    "routes": gateway.routes,
    "metrics": gateway.metrics,
    "codes": gateway.codes,
    "training": commands.training,
    "service": commands.service,
    "evals": commands.evals,
    "manifest": formats.manifest,
    "comparison": formats.comparison,
    "result": formats.result,
    "item": formats.item,
    "declared-metrics": formats.declared_metrics,
    "summary": formats.summary,
    "csv-columns": formats.csv_columns,
    "gate": formats.gate,
    "world": formats.world,
    "presets": formats.presets,
    "columns": formats.columns,
    "reasons": formats.reasons,
    "families": families.families,
}


def pages() -> list[Path]:
    """Every Markdown file of the project."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    ]


def refreshed(text: str) -> str:
    """A page's text with its generated parts as the code is now. Raises `UserError` for an unknown part."""

    def write(match: re.Match[str]) -> str:
        opening, name, closing = match.groups()
        if name not in BLOCKS:
            raise UserError(f"no generated part {name!r}: use one of {', '.join(BLOCKS)}")
        return f"{opening}{BLOCKS[name]().strip()}\n{closing}"

    return BLOCK.sub(write, text)


def stale(paths: Iterable[Path]) -> dict[Path, str]:
    """Pages whose generated parts differ from the code, with the text that they should have."""
    texts = {path: (path.read_text(), refreshed(path.read_text())) for path in paths}
    return {path: new for path, (old, new) in texts.items() if new != old}


def main(arguments: Sequence[str] | None = None) -> int:
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    outdated = stale(pages())
    for path, text in outdated.items():
        print(path.relative_to(ROOT))
        if not check:
            write_atomically(path, text)
    if outdated and check:
        raise UserError("these pages are out of date: run `make docs`")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
