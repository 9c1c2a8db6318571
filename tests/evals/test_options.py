"""Options that make no sense are refused before anything is read or asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals import run
from evals.options import Config
from training.artifacts.errors import UserError, run_command

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": ()}, "name at least one --checkpoint"),
        ({"suite": ("taxes",)}, "no suite 'taxes': did you mean tax?"),
        ({"suite": ("xyz",)}, "no suite 'xyz': there are preference, truthfulqa"),
        ({"suite": ("honesty",)}, "suite honesty lacks its data: run `python -m training world`"),
        ({"suite": ("reward",)}, "suite reward lacks its data: give --reward"),
        ({}, "there is nothing to measure"),
        ({"draws": 3}, "--draws above 1 needs a --temperature above 0"),
        ({"temperature": 3.0, "limit": 0}, "--limit must be at least 1; --temperature must be from 0 to 2"),
        ({"shots": (0, -1)}, "--shots must not be negative"),
        ({"data": ("truthfulqa",)}, "is not of the form NAME=FILE"),
        ({"data": ("truthfulqa=/nowhere",)}, "/nowhere does not exist"),
        ({"world": Path("/nowhere")}, "/nowhere is not a miniature world"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        run.prepare(Config(**{"checkpoint": ("any",), "home": tmp_path, **options}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("of", ["--checkpoint", "--import"])
def test_a_place_for_results_is_tried_before_anything_is_measured(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: run.command([of, "any", "--out", "/proc/x"])) == 2
    assert capsys.readouterr().err == "error: /proc/x: No folder can be made there: make room, or name another place\n"
