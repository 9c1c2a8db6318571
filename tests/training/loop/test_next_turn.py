"""Which rankings the next turn takes: a person's, at least twenty, and simulated ones only where it is told to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.artifacts.comparisons import AFTER_REVEAL, SIMULATED, Comparison, Response
from training.artifacts.errors import UserError
from training.loop import next_turn

pytestmark = pytest.mark.unit


def rankings(people: int, simulated: int) -> list[Comparison]:
    groups = [None] * people + [SIMULATED] * simulated
    return [
        Comparison(
            str(n), ({"role": "user", "content": "x"},), (Response("a"), Response("b")), (1, 2), labeler_group=group
        )
        for n, group in enumerate(groups)
    ]


def test_fewer_than_twenty_are_refused_with_their_number() -> None:
    with pytest.raises(UserError, match="there are 19 rankings of people: rank at least 20 prompts on /compare"):
        next_turn.select(rankings(19, 0), allow_simulated=False)
    assert len(next_turn.select(rankings(20, 0), allow_simulated=False)) == 20


def test_simulated_rankings_are_refused_unless_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"there are 3 rankings of people, and 40 simulated ones \(--allow-simulated"):
        next_turn.select(rankings(3, 40), allow_simulated=False)
    assert len(next_turn.select(rankings(3, 40), allow_simulated=True)) == 43
    usable = next_turn.select(rankings(25, 40), allow_simulated=False)
    assert len(usable) == 25
    assert all(row.labeler_group is None for row in usable)
    assert "left out: 40 simulated rankings" in capsys.readouterr().err


def test_rankings_given_after_the_names_were_shown_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rankings(21, 0)
    seen = [replace(row, meta={AFTER_REVEAL: True}) for row in rows[:2]]
    with pytest.raises(UserError, match="there are 19 rankings of people"):
        next_turn.select([*seen, *rows[2:]], allow_simulated=False)
    assert "left out: 2 rankings given after the names were shown" in capsys.readouterr().err
