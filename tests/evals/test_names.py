"""Names that a terminal would obey: of models and of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals import gate, run
from evals.options import Config
from evals.subjects import subjects_of
from evals.tasks.build import plain
from tests.support.lm_eval_runs import write_run
from tests.support.proxy import proxied
from training.artifacts.errors import UserError, run_command

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("sign", ["\x1b[31m", "\u202e", "\x00", "\x07", "\x9b"])
def test_signs_that_steer_a_terminal_reach_no_output(tmp_path: Path, sign: str) -> None:
    name = f"a{sign}b"
    with pytest.raises(UserError, match="holds control characters"):
        subjects_of([name], tmp_path, {name: name})
    assert plain(name).isprintable()
    assert plain("my.task/x y") == "my-task-x-y"


def test_models_whose_files_would_have_one_name_are_two(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "A_b", "c/d"]
    subjects = subjects_of(names, tmp_path, {name: name for name in names})
    assert [subject.checkpoint for subject in subjects] == names
    assert len({subject.name.casefold() for subject in subjects}) == 4
    assert subjects[3].name == "c_d.chat", "a name without a double stays plain"
    with pytest.raises(UserError, match="a/b:chat is named twice"):
        subjects_of(["a/b", "a/b:chat"], tmp_path, {"a/b": "a/b"})


HOSTILE = "m[/]x[bold]\x1b[31m\u202e"


def test_names_in_a_folder_of_lm_eval_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"acc[/]": [1.0, 0.0] * 20}
    sides = [write_run(tmp_path / side, {f"t{HOSTILE}".replace("/", ""): scores}, model=HOSTILE) for side in ("a", "b")]
    assert gate.command([str(side) for side in sides]) == 3
    assert run.main(Config(imports=(f"a={sides[0]}", f"b={sides[1]}"), out=tmp_path / "out", home=tmp_path)) == 3
    shown = capsys.readouterr().out
    assert "m[/]x[bold]" in shown, "brackets are no markup"
    assert not {"\x1b", "\u202e"} & set(shown)


def test_what_a_server_says_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "the fox"}) + "\n")

    def engine(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/models":
            return 200, {"data": [{"id": "m[/]"}, {"id": "r"}]}
        return 400, {"error": {"message": HOSTILE}}

    with proxied("nowhere") as proxy:
        proxy.fault = engine
        config = Config(
            checkpoint=("m[/]",), reward="r", suite=("reward",), data=(f"prompts={prompts}",), url=proxy.url, real=True,
            home=tmp_path, out=tmp_path / "out",
        )  # fmt: skip
        assert run.main(config) == 3
    shown = capsys.readouterr().out
    assert "none of 1 items (status 400: m[/]x[bold]" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_an_error_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise UserError(f"no model {HOSTILE}")

    assert run_command(fail) == 2
    assert capsys.readouterr().err == "error: no model m[/]x[bold]\ufffd[31m\ufffd\n"
