"""How commands end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live_service import ROOT
from training.artifacts.errors import UserError, run_command
from training.artifacts.files import check_writable, write_atomically

pytestmark = pytest.mark.unit


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert run_command(lambda: write_atomically(file / "below" / "it.json", "{}")) == 2
    error = capsys.readouterr().err
    assert error == f"error: {file / 'below'}: Not a directory: make room, or name another place\n"


def test_a_file_system_without_folders_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It says "no such file" of what is to be made, which elsewhere is a bug."""
    assert run_command(lambda: write_atomically(Path("/proc/x/it.json"), "{}")) == 2
    assert capsys.readouterr().err == "error: /proc/x: No folder can be made there: make room, or name another place\n"
    assert run_command(lambda: write_atomically(Path("/proc/it.json"), "{}")) == 2
    assert capsys.readouterr().err == "error: /proc: No file can be made there: make room, or name another place\n"


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").mkdir()
    check_writable(tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()
    (tmp_path / "file").write_text("")
    for place in ("/proc/x", "/proc/x/y", "/proc", tmp_path / "file", tmp_path / "file" / "z", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match=r"make room, or name another place$"):
            check_writable(Path(place))


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"a")

    assert run_command(fill) == 2
    assert capsys.readouterr().err == "error: No space left on device: make room, or name another place\n"


def test_other_faults_of_the_system_keep_their_traceback() -> None:
    def fail() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file descriptor"):
        run_command(fail)


def printing(lines: int, end: str) -> list[str]:
    """A command that waits for a line, prints some, and ends."""
    script = (
        "import sys; from training.artifacts.errors import run_command\n"
        f"def main():\n    sys.stdin.readline(); print('line\\n' * {lines}); {end}\nsys.exit(run_command(main))"
    )
    return [sys.executable, "-c", script]


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("end", ["return 0", "raise SystemExit(0)"])
def test_a_reader_that_leaves_is_no_fault(lines: int, end: str) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        printing(lines, end), cwd=ROOT, stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        os.close(reading)
        assert process.communicate(b"go\n", timeout=60)[1] == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_place_with_an_odd_name_is_still_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a\n\x1b[2Jb"
    file.touch()
    assert run_command(lambda: write_atomically(file / "it.json", "{}")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_another_pipe_that_breaks_is_a_bug() -> None:
    def write() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(write)


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("end", ["return 0", "raise SystemExit(0)"])
def test_output_that_finds_no_room_is_one_line(lines: int, end: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            printing(lines, end), cwd=ROOT, input=b"go\n", stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == b"error: No space left on device: make room, or name another place\n"


def test_output_that_nobody_wants_is_no_fault() -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *printing(10, "return 0")]
    done = subprocess.run(words, cwd=ROOT, input=b"go\n", stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
