"""What a person would stop a PPO run for is said once, and again when it comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from training.rl.notices import Notices

pytestmark = pytest.mark.unit
GOOD = {"finished": 0.9, "kl": 1.0, "value_explains": 0.4}


def sentences(notices: Notices, iterations: Iterable[Mapping[str, float]]) -> list[tuple[int, str]]:
    """(iteration, first words) of what is said."""
    return [
        (number, " ".join(sentence.split()[:4]))
        for number, scalars in enumerate(iterations)
        for sentence in notices.look(scalars)
    ]


def test_a_good_run_is_silent() -> None:
    growing = [GOOD | {"kl": 0.1 * n, "value_explains": 0.02 * n} for n in range(1, 300)]
    assert sentences(Notices(), growing) == []


@pytest.mark.parametrize(
    "change, when, words",
    [
        ({"finished": 0.04}, 4, "fewer than 5% of"),
        ({"kl": -0.2}, 4, "the KL is -0.20"),
        ({"value_explains": 0.0}, 9, "the value model has"),
    ],
)
def test_what_lasts_is_said_once(change: dict[str, float], when: int, words: str) -> None:
    assert sentences(Notices(), [GOOD | change] * 30) == [(when, words)]


def test_what_comes_back_is_said_again() -> None:
    bad = GOOD | {"finished": 0.0}
    assert [number for number, _ in sentences(Notices(), [bad] * 6 + [GOOD] + [bad] * 6)] == [4, 11]


def test_one_good_iteration_in_the_window_is_enough() -> None:
    bad = GOOD | {"finished": 0.0, "kl": -1.0}
    assert sentences(Notices(), [bad, bad, bad, bad, GOOD] * 4) == []


def test_a_kl_that_doubles_above_ten_runs_away() -> None:
    away = [GOOD | {"kl": kl} for kl in (6.0,) * 5 + (13.0,) * 5]
    assert sentences(Notices(), away) == [(9, "the KL has doubled")]
    small = [GOOD | {"kl": kl} for kl in (3.0,) * 5 + (9.0,) * 5]
    assert sentences(Notices(), small) == []


def test_an_absent_scalar_is_not_a_zero() -> None:
    nothing_to_explain = [{"finished": 0.9, "kl": 1.0}] * 30
    assert sentences(Notices(), nothing_to_explain) == []


def test_a_resumed_run_says_nothing_twice_and_misses_nothing() -> None:
    bad = GOOD | {"finished": 0.0}
    for cut in range(1, 8):
        first, second = Notices(), Notices()
        before = sentences(first, [bad] * cut)
        second.load_state_dict(first.state_dict())
        after = sentences(second, [bad] * (8 - cut))
        assert [number for number, _ in before] + [number + cut for number, _ in after] == [4]


def test_scalars_say_what_lasts_now() -> None:
    notices = Notices()
    for _ in range(5):
        notices.look(GOOD | {"finished": 0.0})
    assert notices.scalars() == {
        "notice/unfinished": 1.0,
        "notice/kl_runs_away": 0.0,
        "notice/kl_negative": 0.0,
        "notice/value_explains_nothing": 0.0,
    }
