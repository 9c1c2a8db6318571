"""Unlike measurements are refused, with each difference named."""

from __future__ import annotations

from typing import Any

import pytest

from evals.comparability import check_comparable
from evals.decision import Rule
from evals.measured import measured_of
from evals.results import Result
from tests.support.measured import items, side
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
RULES = [Rule("toxicity.plain.toxic", "toxic", 0.05, "lower")]
ALIKE: dict[str, Any] = {
    "data": {"prompts": "sha"},
    "judges": {"toxicity": "v1"},
    "settings": {"temperature": 1.0, "top_p": 0.9, "max_tokens": 20, "samples": 25, "form": "chat", "world": 2},
    "through_filters": False,
    "limit": None,
}


def check(mine: dict[str, Any], theirs: dict[str, Any], rules: list[Rule] = RULES) -> None:
    records = items([0.0, 1.0], "toxicity.plain.toxic")
    check_comparable(side(records, "a", {"toxicity": mine}), side(records, "b", {"toxicity": theirs}), rules)


def test_equal_settings_pass_whatever_their_order() -> None:
    check(ALIKE, dict(reversed(ALIKE.items())))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"judges": {"toxicity": "v2"}}, 'judges.toxicity "v2" against "v1"'),
        ({"judges": {}}, 'judges.toxicity not recorded against "v1"'),
        ({"data": {"prompts": "other"}}, 'data.prompts "other" against "sha"'),
        ({"through_filters": True}, "through_filters true against false"),
        ({"limit": 100}, "limit 100 against null"),
        *(
            ({"settings": {**ALIKE["settings"], name: value}}, f"settings.{name}")
            for name, value in (
                ("temperature", 0.0), ("top_p", 1.0), ("max_tokens", 3), ("samples", 1), ("form", "few-shot"),
                ("world", 1),
            )
        ),
    ],
)  # fmt: skip
def test_each_difference_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        check(ALIKE | change, ALIKE)
    assert words in str(refusal.value)
    assert "toxicity: " in str(refusal.value)


def test_all_differences_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"limit .*; toxicity: through_filters"):
        check(ALIKE | {"limit": 3, "through_filters": True}, ALIKE)


def test_only_suites_that_are_decided_on_matter() -> None:
    check(ALIKE | {"limit": 3}, ALIKE, rules=[Rule("tax.cloze.acc", "cloze", 0.05)])


def test_data_that_one_side_did_not_measure_show_in_its_rows_instead() -> None:
    check(ALIKE | {"data": {"prompts": "sha", "further": "x"}}, ALIKE)


def test_loss_per_token_is_refused_across_tokenizers_and_bits_per_byte_is_not() -> None:
    records = items([2.0, 3.0], "tax.text.loss") + items([1.0, 1.1], "tax.text.bits_per_byte")
    one, other = side(records, "a", tokenizer="t1"), side(records, "b", tokenizer="t2")
    bits = Rule("tax.text.bits_per_byte", "bits", 0.1, "lower", share=False)
    check_comparable(one, other, [bits])
    loss = Rule("tax.text.loss", "loss", 0.1, "lower", share=False)
    check_comparable(one, side(records, "b", tokenizer="t1"), [loss])
    with pytest.raises(UserError, match=r"tax.text.loss is per token.*bits per byte"):
        check_comparable(one, other, [bits, loss])


def result(ask: str, comparable: dict[str, Any]) -> Result:
    return Result("s", "s", "c", ask, "", False, "", 0, {}, [], {}, {}, "", "", "", {}, comparable=comparable)  # type: ignore[arg-type]


def test_the_way_of_asking_must_agree_unless_the_suite_chooses_it() -> None:
    records = items([0.0, 1.0], "toxicity.plain.toxic")
    chat, plain = (measured_of(result(ask, {"toxicity": {"limit": None}}), records) for ask in ("chat", "plain"))
    with pytest.raises(UserError, match='asked "chat" against "plain"'):
        check_comparable(chat, plain, RULES)
    own = {"toxicity": {"settings": {"form": "raw"}}}
    check_comparable(*(measured_of(result(ask, own), records) for ask in ("chat", "plain")), RULES)
