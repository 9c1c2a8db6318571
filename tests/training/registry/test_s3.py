"""Checkpoints in S3, on a real server of it: whole or not there, however a push or a pull ends."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import check
from deploy.check import containers, environment, expanded
from tests.support.deployment import copied, parsed, render
from tests.support.object_stores import files_of, interpreter, publish, s3_server
from tests.support.programs import missing
from training.artifacts.checkpoints import checkpoints

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
LARGE = os.urandom(2**20) * 110  # s3fs sends files of twice 50 MiB in parts


class Bucket:
    """A bucket of a running server, and the commands with its address."""

    def __init__(self, python: Path, environment: dict[str, str]) -> None:
        self.python, self.environment = python, environment
        make = "import s3fs; s3fs.S3FileSystem().mkdir('bucket')"
        subprocess.run([python, "-c", make], env=os.environ | environment, check=True, timeout=120)
        self.url = "s3://bucket/models"

    def run(self, *words: str | Path, module: str = "training", **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
        environment |= self.environment | {"AWS_EC2_METADATA_DISABLED": "true"} | more
        environment = {name: value for name, value in environment.items() if value}
        command = [str(word) for word in (self.python, "-m", module, *words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=300)


@pytest.fixture(scope="module")
def python() -> Path:
    python = interpreter()
    if isinstance(python, str):  # why there is none
        missing(python)
    return python


@pytest.fixture
def bucket(python: Path) -> Iterator[Bucket]:
    with s3_server(python) as (environment, _):
        yield Bucket(python, environment)


@pytest.mark.slow
def test_a_checkpoint_goes_to_another_machine_and_back(bucket: Bucket, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "sft-1", weights=LARGE)
    pushed = bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a")
    assert pushed.returncode == 0, pushed.stderr
    assert "sft-1: 5 files, 115.3 MB, in s3://bucket/models" in pushed.stderr
    assert "is there already" in bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a").stderr
    assert bucket.run("pull", bucket.url, "--home", tmp_path / "b").stdout == "sft-1  5 files  115.3 MB\n"
    pulled = bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b")
    assert pulled.returncode == 0, pulled.stderr
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)
    assert [path.name for path in (tmp_path / "b/checkpoints").iterdir()] == ["sft-1"]


def test_a_push_that_is_killed_before_any_request_is_never_a_checkpoint(bucket: Bucket, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "sft-1", weights=LARGE)
    kills = 0
    for step in range(1, 60, 3):
        words = (str(step), "push", bucket.url, "sft-1", "--home", tmp_path / "a")
        done = bucket.run(*words, module="tests.support.object_stores")
        if done.returncode == 0:
            break
        kills += 1
        assert done.returncode == -9, done.stderr
        assert bucket.run("pull", bucket.url, "--home", tmp_path / "b").stdout == ""
        refused = bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b")
        assert (refused.returncode, "its push is not finished" in refused.stderr) == (2, True), refused.stderr
        assert list(checkpoints(tmp_path / "b/checkpoints")) == []
    assert kills >= 3
    assert bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b").returncode == 0
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)


def test_a_pull_that_is_killed_is_no_checkpoint_and_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "sft-1", weights=LARGE)
    assert bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a").returncode == 0
    for step in (1, 4, 6, 9, 12):
        words = (str(step), "pull", bucket.url, "sft-1", "--home", tmp_path / "b")
        done = bucket.run(*words, module="tests.support.object_stores")
        assert done.returncode == -9, done.stderr
        assert list(checkpoints(tmp_path / "b/checkpoints")) == []
    done = bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)


def test_what_keeps_s3_from_answering_is_one_line(bucket: Bucket, tmp_path: Path) -> None:
    publish(tmp_path / "a", "sft-1")
    home = ("--home", tmp_path / "a")
    for url, variables, sentence in (
        ("s3://nowhere/models", {}, "make the bucket, or correct the URL"),
        (bucket.url, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID and"),
        (bucket.url, {"AWS_PROFILE": "nobody"}, "nobody"),
    ):
        for words in (("push", url, "sft-1"), ("pull", url, "sft-2")):
            done = bucket.run(*words, *home, **variables)
            lines = done.stderr.strip().splitlines()
            assert done.returncode == 2, done.stderr
            assert [line.startswith("error: ") for line in lines] == [True], done.stderr
            assert sentence in lines[0]


@pytest.mark.slow
def test_two_pushes_at_once_leave_one_whole_checkpoint(bucket: Bucket, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "sft-1", weights=LARGE)
    statuses: list[int] = []

    def push() -> None:
        statuses.append(bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a").returncode)

    threads = [threading.Thread(target=push) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]
    assert bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b").returncode == 0
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)


@pytest.mark.slow
def test_a_server_that_goes_in_the_middle_is_one_line_and_the_push_goes_on(python: Path, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "sft-1", weights=LARGE)
    with s3_server(python) as (environment, server):
        bucket = Bucket(python, environment)
        port = int(environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
        threading.Timer(2.5, server.kill).start()
        began = time.monotonic()
        done = bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a")
    if done.returncode != 0:
        assert done.returncode == 2, done.stderr
        assert "it resumes" in done.stderr
        assert "Traceback" not in done.stderr
        assert time.monotonic() - began < 120
    with s3_server(python, port) as (environment, _):
        bucket = Bucket(python, environment)
        assert bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a").returncode == 0
        assert bucket.run("pull", bucket.url, "sft-1", "--home", tmp_path / "b").returncode == 0
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)


def test_the_clusters_job_pulls_a_checkpoint(bucket: Bucket, tmp_path: Path) -> None:
    """Its words and variables as Kubernetes would give them; only the volume's folder is another."""
    folder = publish(tmp_path / "a", "sft-1")
    assert bucket.run("push", bucket.url, "sft-1", "--home", tmp_path / "a").returncode == 0
    overlay = copied(tmp_path) / "cpu-trial/pull"
    own = bucket.environment | {"CHECKPOINTS_URL": bucket.url, "CHECKPOINT": "sft-1"}
    (overlay / "object-store.env").write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    done = render(overlay)
    assert done.returncode == 0, done.stderr
    objects = parsed(done.stdout)
    assert list(check.problems(objects)) == []
    [container] = containers(next(item for item in objects if item["kind"] == "Job"))
    variables = environment(objects, container)
    words = [expanded(word, variables) for word in container["args"]]
    assert container["command"] == ["python", "-m", "training"]
    assert words[-2:] == ["--home", "/data"]
    pulled = bucket.run(*words[:-1], tmp_path / "b", **variables)
    assert pulled.returncode == 0, pulled.stderr
    assert files_of(tmp_path / "b/checkpoints/sft-1") == files_of(folder)
