"""Reading what the service says, and the shuffled control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.loop.client import Service
from training.loop.simulate import shuffled
from training.loop.turn import Config, _of_this_world

pytestmark = pytest.mark.unit


def comparison(number: int) -> Comparison:
    return Comparison(
        id=str(number),
        messages=({"role": "user", "content": "x"},),
        responses=tuple(Response(text) for text in "abcd"),
        ranks=(1, 2, 2, 4),
    )


def test_shuffling_keeps_each_rankings_ranks_and_loses_their_order() -> None:
    rows = [comparison(n) for n in range(400)]
    control = shuffled(rows, seed=1)
    assert [sorted(c.ranks or ()) for c in control] == [[1, 2, 2, 4]] * 400
    assert [c.responses for c in control] == [c.responses for c in rows]
    first = sum((c.ranks or ())[0] == 1 for c in control)
    assert 70 < first < 130  # a quarter of 400, six standard deviations wide
    assert control == shuffled(rows, seed=1)


def test_a_service_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/v1/models .*start it with"):
        Service("http://127.0.0.1:9", "key").ask("GET", "/v1/models")


def test_comparisons_of_another_worlds_prompts_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("2-demo-1", "2-demo-10"):
        (tmp_path / "world" / name).mkdir(parents=True)
        (tmp_path / "world" / name / "world.json").write_text("{}")
    rows = [
        replace(comparison(n), prompt_id=prompt)
        for n, prompt in enumerate(["2-demo-1-collect-00000", "2-demo-10-collect-00000", "typed-abc", None])
    ]
    config = Config(prompts=f"{tmp_path}/world/2-demo-1/prompts-collect.jsonl")
    assert [c.prompt_id for c in _of_this_world(config, rows)] == ["2-demo-1-collect-00000", "typed-abc", None]
    assert "left out: 1 comparisons" in capsys.readouterr().err
    assert _of_this_world(Config(prompts=f"{tmp_path}/mine.jsonl"), rows) == rows
