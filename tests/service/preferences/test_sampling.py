from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from service.endpoints import Endpoint, Endpoints, View
from service.errors import ApiError
from service.preferences.sampling import allocate, policies
from service.store.database import Store

pytestmark = pytest.mark.unit


def endpoint(checkpoint: str) -> Endpoint:
    url, created = f"http://{checkpoint}", "2026-01-01T00:00:00"
    return Endpoint(checkpoint, "policy", url, "sft", 256, {}, 0.0, None, (0,), (), False, created, Path(checkpoint))


def endpoints(ready: list[str], aliases: dict[str, str], starting: tuple[str, ...] = ()) -> Endpoints:
    found = Endpoints(Store("sqlite://"))
    states = tuple((name, "starting") for name in starting)
    found.view = View({name: (endpoint(name),) for name in ready}, aliases, aliases, states)
    return found


@pytest.mark.parametrize(
    "checkpoints, k, counts, chance",
    [(2, 2, [1, 1], 1.0), (1, 4, [4], 1.0), (2, 4, [2, 2], 1.0), (3, 2, [0, 1, 1], 1 / 3), (2, 5, [2, 3], 1 / 2)],
)
def test_responses_are_shared_evenly_and_the_chance_is_known(
    checkpoints: int, k: int, counts: list[int], chance: float
) -> None:
    found, propensity = allocate(checkpoints, k, random.Random(0))
    assert sorted(found) == counts
    assert propensity == pytest.approx(chance)


def test_the_stated_chance_is_the_frequency() -> None:
    rng = random.Random(1)
    seen = Counter(tuple(allocate(3, 4, rng)[0]) for _ in range(3000))
    assert set(seen) == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}
    assert all(abs(count / 3000 - 1 / 3) < 0.05 for count in seen.values())


def test_policies_are_each_checkpoint_once_and_unset_aliases_are_left_out() -> None:
    names = ["policy/production", "policy/candidate"]
    both = endpoints(["a", "b"], {"policy/production": "a", "policy/candidate": "b"})
    assert [e.checkpoint for e in policies(both, names)] == ["a", "b"]
    same = endpoints(["a"], {"policy/production": "a", "policy/candidate": "a"})
    assert [e.checkpoint for e in policies(same, names)] == ["a"]
    alone = endpoints(["a"], {"policy/production": "a"})
    assert [e.checkpoint for e in policies(alone, names)] == ["a"]
    assert [e.checkpoint for e in policies(alone, ["a"])] == ["a"]


def test_a_policy_that_is_set_but_down_is_an_error_and_not_an_a_a_comparison() -> None:
    down = endpoints(["a"], {"policy/production": "a", "policy/candidate": "b"}, starting=("b",))
    with pytest.raises(ApiError) as refused:
        policies(down, ["policy/production", "policy/candidate"])
    assert (refused.value.status, refused.value.code) == (503, "model_not_ready")
    with pytest.raises(ApiError) as refused:
        policies(endpoints([], {}), ["policy/production"])
    assert (refused.value.status, refused.value.code) == (503, "no_policy")
    with pytest.raises(ApiError) as refused:
        policies(endpoints(["a"], {}), ["nosuch"])
    assert refused.value.status == 404
