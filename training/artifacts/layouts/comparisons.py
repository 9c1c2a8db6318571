"""Comparisons of K responses: frozen files of the service, and the layouts of public preference data."""

from __future__ import annotations

from training.artifacts.comparisons import Comparison
from training.artifacts.layouts.columns import Layout, any_case, choose
from training.artifacts.layouts.grouping import judged
from training.artifacts.layouts.preferences import chosen, frozen, listed, ranked_replies, voted
from training.artifacts.loading import Loaded, Row
from training.artifacts.loading import load as load_rows

NEEDS = "`messages` or `prompt` with `responses` and `ranks` (or `pairs`), or `chosen` and `rejected`"
LAYOUTS: tuple[Layout, ...] = (
    *ranked_replies.LAYOUTS,
    *listed.LAYOUTS[:1],
    *frozen.LAYOUTS,
    *listed.LAYOUTS[1:],
    *voted.LAYOUTS,
    *chosen.LAYOUTS,
    frozen.UNJUDGED,
)


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[Comparison]:
    """Load comparisons from a file, folder or hub id; superseded ones are left out.

    Raises:
        UserError: there is no usable row.
    """
    loaded = load_rows(source, parse, needs=NEEDS, regroup=judged)
    superseded = {c.supersedes for c in loaded.records if c.supersedes}
    rest = loaded.without(lambda c: "a later row corrects it" if c.id in superseded else None)
    return rest.sample(limit, seed)  # after the corrections: a draw could hold a row without the one that corrects it


def parse(row: Row) -> Comparison:
    """A row as a comparison. Raises `Skip` with the reason."""
    row = any_case(row)
    comparison: Comparison = choose(LAYOUTS, row).read(row)
    return comparison
