"""Variables of the environment that contradict each other, or that nothing reads, are refused before a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.__main__ import main
from service.settings import PREFIX
from training.artifacts.errors import run_command

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {PREFIX + "DATABSE": "sqlite://"},
            f"nothing reads the variable {PREFIX}DATABSE: did you mean ALIGNLOOP_DATABASE?",
        ),
        # What Kubernetes sets for a Service named alignloop-web.
        ({PREFIX + "WEB_SERVICE_HOST": "10.0.0.1"}, f"nothing reads the variable {PREFIX}WEB_SERVICE_HOST"),
        # The settings' own reader takes lower case for the same, others do not.
        ({"alignloop_database": "sqlite://"}, "did you mean ALIGNLOOP_DATABASE?"),
        ({"ALIGNLOOP_SESSION_HOURS": "inf"}, "setting `session_hours` ($ALIGNLOOP_SESSION_HOURS)"),
        ({"ALIGNLOOP_TASK_MINUTES": "1e300"}, "setting `task_minutes` ($ALIGNLOOP_TASK_MINUTES)"),
        ({"ALIGNLOOP_PORT": "tcp://10.0.0.1:8000"}, "setting `port` ($ALIGNLOOP_PORT)"),
        ({"ALIGNLOOP_ENGINE_KIND": "rewards"}, "setting `engine_kind` ($ALIGNLOOP_ENGINE_KIND)"),
        ({"ALIGNLOOP_ENGINE_ADDRESS": "10.0.0.1"}, "ALIGNLOOP_DATABASE is SQLite, a file of one machine"),
        ({"ALIGNLOOP_DATABASE": ""}, "is not a database URL"),
        ({"ALIGNLOOP_PUBLIC_URL": ""}, "setting `public_url`"),
        ({"ALIGNLOOP_HOST": "0.0.0.0", "ALIGNLOOP_PORT": "1"}, "needs a key first"),
        ({"ALIGNLOOP_HOST": "0.0.0.0", "ALIGNLOOP_OPEN": "true"}, "open mode works on a loopback address only"),
    ],
)
@pytest.mark.parametrize("command", ["serve"])
def test_what_is_wrong_is_said_in_one_line(
    variables: dict[str, str], said: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_command(lambda: main([command, "--home", str(tmp_path)])) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize("name", ["ALIGNLOOP_KEY", "ALIGNLOOP_DATA", "ALIGNLOOP_PACKAGES", "OTHER_PORT"])
def test_variables_of_others_are_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "x")
    assert run_command(lambda: main(["migrate", "--home", str(tmp_path)])) == 0
    assert "the tables of the store are up to date" in capsys.readouterr().err
    assert (tmp_path / "service.db").is_file()
