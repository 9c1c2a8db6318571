"""Names that a terminal would obey: of models and of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.subjects import subjects_of
from evals.tasks.build import plain
from training.artifacts.errors import UserError

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
