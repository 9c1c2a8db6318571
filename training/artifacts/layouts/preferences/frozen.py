"""Our own rows: frozen comparisons of the service, and the same columns with plain texts as responses."""

from __future__ import annotations

from collections.abc import Sequence

from training.artifacts.comparisons import Comparison, ComparisonError, from_row
from training.artifacts.layouts.columns import Layout, content_id, filled, text_in
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import checked, plain
from training.artifacts.layouts.preferences.record import question_of, usable
from training.artifacts.loading import Row
from training.artifacts.skips import Skip

FIELDS = tuple(Comparison.__dataclass_fields__)


def read(row: Row) -> Comparison:
    """A frozen row, or `messages` or `prompt` with a list of texts and `ranks` or `pairs`. Raises `Skip`."""
    responses = row["responses"]
    if not isinstance(responses, Sequence) or isinstance(responses, str):
        raise fault("responses_not_list")
    fields = {name: row[name] for name in FIELDS if filled(row, name)}
    if any(isinstance(response, str) for response in responses):
        messages = question_of(row)
        judgment = fields.get("ranks"), fields.get("pairs")
        fields = {"id": content_id(messages, responses, *judgment), **fields, "messages": messages}
        fields["responses"] = [{"text": text_in(response)} for response in responses]
    elif not filled(row, "messages"):
        fields["messages"] = question_of(row)
    if "id" not in fields:
        fields["id"] = content_id(fields["messages"], responses, fields.get("ranks"), fields.get("pairs"))
    try:
        comparison = from_row(fields)
    except ComparisonError as error:
        raise Skip("not_a_comparison", error.reason) from None
    checked(plain(comparison.messages), "user")
    return usable(comparison)


LAYOUTS = (
    Layout(
        "comparison",
        "comparisons",
        (("responses",), ("ranks", "pairs")),
        "The service's frozen rows, all fields; or `messages` or `prompt` with a list of texts. "
        "Ranks: 1 = best, equal ranks are ties. Pairs: (i, j, 1, 0 or -1).",
        read,
    ),
)
# Tried last: says what is missing where responses have no judgment.
UNJUDGED = Layout("responses", "comparisons", (("responses",),), "Left out: neither ranks nor ratings.", read)
