"""Two folders of lm-eval become a table, a verdict and a report in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals import run
from evals.options import Config
from tests.support.lm_eval_runs import write_run
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def scores(wrong: int) -> dict[str, Any]:
    return {"arc_easy": {"acc,none": [0.0 if i % 200 < wrong else 1.0 for i in range(1200)]}}


def options(tmp_path: Path, *imports: str, **more: Any) -> Config:
    return Config(imports=imports, home=tmp_path, out=tmp_path / "out", **more)


def test_two_folders_are_compared(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "old", scores(40)), write_run(tmp_path / "new", scores(42))
    assert run.main(options(tmp_path, f"old={old}", f"new={new}")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["verdicts"] == {"new": "PASS"}
    assert summary["metrics"]["new"]["tax.arc_easy.acc"]["value"] == pytest.approx(0.79)
    assert "arc_easy" in (tmp_path / "out" / "index.html").read_text()
    assert run.main(options(tmp_path, f"new={new}", f"bad={write_run(tmp_path / 'bad', scores(80))}")) == 1
    assert run.main(options(tmp_path, f"new={new}")) == 0  # one alone is shown, not compared


@pytest.mark.parametrize(
    ("imports", "more", "message"),
    [
        (("folder",), {}, "is not of the form NAME=FOLDER"),
        (("a=/nowhere",), {}, "/nowhere is not a folder"),
        (("a=.", "a=."), {}, "names a twice"),
        (("a=.", "A=."), {}, "names A twice"),
        (("run=.",), {}, "'run' cannot name a file"),
        (("..=.",), {}, "cannot name a file"),
        (("a\0=.",), {}, "cannot name a file"),
        (("\x1b[1m=.",), {}, "cannot name a file"),
        (("é" * 100 + "=.",), {}, "cannot name a file"),
        (("a=.",), {"checkpoint": ("sft",)}, "takes the place of --checkpoint"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, imports: tuple[str, ...], more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run.main(options(tmp_path, *imports, **more))
