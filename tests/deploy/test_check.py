"""An overlay whose values are missing or contradict each other is refused in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import PREFIX
from tests.support.deployment import ROOT, copied, render

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = render(copied(tmp_path_factory.mktemp("deploy")) / "gpu-production")
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.check"], input=text, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_a_whole_overlay_is_handed_on_as_it_is(rendered: str) -> None:
    done = checked(rendered)
    assert (done.returncode, done.stdout, done.stderr) == (0, rendered, "")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("PGPASSWORD: b25l", 'PGPASSWORD: ""', "the secret PGPASSWORD is empty"),
        ("name: ALIGNLOOP_ENGINE_KIND", f"name: {PREFIX}ENGINES_KIND", "did you mean ALIGNLOOP_ENGINE_KIND?"),
        (
            "value: reward",
            "value: rewards",
            "setting `engine_kind` ($ALIGNLOOP_ENGINE_KIND): Input should be 'policy' or 'reward'",
        ),
        ("value: reward", "value: policy", "no supervisor serves reward models"),
        ("- serve\n", "- server\n", "invalid choice: 'server'"),
        ("minReplicas: 2", "minReplicas: 9", "minReplicas 9 is more than maxReplicas 8: lower it"),
        ("value: 0.0.0.0", "value: 127.0.0.1", "is reached from its own pod only"),
        # sqlite:////data/service.db
        ("cG9zdGdyZXNxbDovL2FAZGIuZXhhbXBsZTo1NDMyL2I=", "c3FsaXRlOi8vLy9kYXRhL3NlcnZpY2UuZGI=", "is SQLite"),
        # postgresql://USER@HOST:5432/NAME
        (
            "cG9zdGdyZXNxbDovL2FAZGIuZXhhbXBsZTo1NDMyL2I=",
            "cG9zdGdyZXNxbDovL1VTRVJASE9TVDo1NDMyL05BTUU=",
            "still holds USER, HOST or NAME",
        ),
        ("  PGPASSWORD: b25l\n", "", "has no PGPASSWORD: add it"),
        ("  PGPASSWORD: b25l\n", "  PGPASSWORD: '%%%'\n", "an object has another form than Kubernetes asks for"),
        ("value: reward", "value: 512", "the value of ALIGNLOOP_ENGINE_KIND is not a text: write it in quotes"),
        ("- serve\n", "- serve\n        - $(NOWHERE)\n", "nothing gives the variable of $(NOWHERE)"),
        ("- serve\n", "- serve\n        - --open\n", "open mode works on a loopback address only"),
        ("name: ALIGNLOOP_ENGINE_KIND", "name: alignloop_engine_kind", "did you mean ALIGNLOOP_ENGINE_KIND?"),
        ("minReplicas: 2", "minReplicas: two", "an object has another form than Kubernetes asks for"),
        ("        image: alignloop-gateway:gpu\n", "", "an object has another form than Kubernetes asks for"),
    ],
)
def test_what_contradicts_is_refused(rendered: str, before: str, after: str, said: str) -> None:
    assert before in rendered
    done = checked(rendered.replace(before, after))
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines)
    assert any(said in line for line in lines), done.stderr


def test_nothing_is_refused_too() -> None:
    done = checked("")
    assert done.returncode == 2
    assert "no objects on standard input" in done.stderr


def test_an_overlay_without_its_secrets_is_not_rendered(tmp_path: Path) -> None:
    done = render(copied(tmp_path, secrets=False) / "cpu-trial")
    assert done.returncode != 0
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "secrets.env: no such file or directory" in line


def test_the_example_of_an_object_store_is_to_be_filled_in(tmp_path: Path) -> None:
    folder = copied(tmp_path) / "cpu-trial/pull"
    shutil.copy(folder / "object-store.env.example", folder / "object-store.env")
    done = render(folder)
    assert done.returncode == 0, done.stderr
    refused = checked(done.stdout)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "error: the secret AWS_ACCESS_KEY_ID is empty: fill the overlay's .env file in",
        "error: the secret AWS_SECRET_ACCESS_KEY is empty: fill the overlay's .env file in",
        "error: the secret CHECKPOINT is empty: fill the overlay's .env file in",
        "error: the secret CHECKPOINTS_URL still holds BUCKET or FOLDER: fill the overlay's .env file in",
    ]


POD = f"{{containers: [{{name: a, image: busybox, env: [{{name: {PREFIX}HSOT, value: x}}]}}]}}"


@pytest.mark.parametrize(
    "text",
    [
        f"{{kind: Pod, metadata: {{name: one}}, spec: {POD}}}",
        f"{{kind: List, items: [{{kind: Pod, metadata: {{name: one}}, spec: {POD}}}]}}",
        f"{{kind: CronJob, metadata: {{name: one}}, spec: {{jobTemplate: {{spec: {{template: {{spec: {POD}}}}}}}}}}}",
    ],
)
def test_pods_of_every_kind_are_read(text: str) -> None:
    done = checked(text)
    assert done.returncode == 2, done.stdout
    assert "did you mean ALIGNLOOP_HOST?" in done.stderr


@pytest.mark.parametrize("text", ["a: 2020-13-45", "a: !!int abc", "[" * 5000, "kind:\n", "kind: List\n", "- 1\n"])
def test_what_is_no_object_is_one_line(text: str) -> None:
    done = checked(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no objects on standard input" in done.stderr
