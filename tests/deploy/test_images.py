"""Images: the linter, what they hold, and their health check."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.images import health
from tests.support.deployment import DEPLOY, MAKE_TOOLS, ROOT, bases
from tests.support.programs import tool
from tests.test_requirements import imported, listed, modules_of, normal

IMAGES = DEPLOY / "images"


@pytest.mark.unit
def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    hadolint = tool("hadolint", MAKE_TOOLS)
    done = subprocess.run([hadolint, "Dockerfile"], cwd=IMAGES, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    assert subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True).returncode != 0


@pytest.mark.unit
def test_what_goes_is_imported_by_tests_and_lint_alone() -> None:
    """A package that the images leave out must not be one that running needs."""
    text = (IMAGES / "Dockerfile").read_text()
    removed = {normal(word) for word in re.search(r"python hypothesis([^&]*)&&", text)[1].split() if word != "\\"}  # type: ignore[index]
    running, developing = listed()
    assert removed
    assert removed <= developing
    assert not removed & running
    ours = imported()
    for name in removed:
        for module in modules_of(name):
            assert not ours.get(module, set()) & {"training", "service", "evals"}, name


@pytest.mark.unit
def test_what_is_copied_is_sent_to_the_builder() -> None:
    text = (IMAGES / "Dockerfile").read_text()
    sources = {line.split()[1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == sent
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.unit
def test_bases_are_named_by_tag_in_one_file() -> None:
    for image in bases().values():
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?", image), image
    froms = re.findall(r"^FROM (\S+)", (IMAGES / "Dockerfile").read_text(), re.MULTILINE)
    assert set(froms) == {"${PYTHON_IMAGE}", "base"}


@pytest.mark.unit
def test_digests_are_written_where_the_images_are_named(tmp_path: Path) -> None:
    """With a stand-in for skopeo, which asks registries: only its answer is not real."""
    import shutil

    shutil.copytree(DEPLOY, tmp_path / "deploy")
    for number, digest in enumerate(("1" * 64, "2" * 64)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin/skopeo").write_text(f"#!/bin/sh\necho sha256:{digest}\n")
        (tmp_path / "bin/skopeo").chmod(0o755)
        path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", str(tmp_path / "deploy/images/pin.sh")], env=path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "deploy/images/bases.env").read_text().splitlines()
        pinned = [line for line in lines if line.endswith(f"@sha256:{digest}")]
        assert len(pinned) == len(bases()) == "".join(lines).count("@sha256"), number
        postgres = (tmp_path / "deploy/kubernetes/components/postgres/postgres.yaml").read_text()
        assert f"image: {bases()['POSTGRES_IMAGE'].split('@')[0]}@sha256:{digest}\n" in postgres


@pytest.mark.unit
def test_a_wrong_variant_is_one_line() -> None:
    done = subprocess.run(["bash", str(IMAGES / "build.sh"), "tpu"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the variant must be cpu or gpu, not 'tpu'")


@pytest.mark.unit
def test_engines_are_well_while_the_supervisor_goes_through_its_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNLOOP_LOGS", str(tmp_path))
    assert health.problem(["engines"]) == "the supervisor has not begun"
    sign = tmp_path / "supervisor.sign"
    sign.write_text("starting")
    assert health.problem(["engines"]) is None
    assert health.problem(["engines", "--ready"]) == "engines start"
    sign.write_text("ready")
    assert health.problem(["engines", "--ready"]) is None
    os.utime(sign, (time.time() - 61, time.time() - 61))
    assert health.problem(["engines"]) == "the supervisor is silent for 61 s"
    assert health.main(["engines"]) == 1
    assert health.problem(["labelers"]) == health.USAGE


@pytest.mark.integration
def test_the_health_check_tells_a_gateway_that_runs(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNLOOP_")}
    variables = clean | {"ALIGNLOOP_PORT": port}
    check = [sys.executable, str(IMAGES / "health.py"), "gateway"]
    assert subprocess.run(check, env=variables, capture_output=True).returncode == 1
    gateway = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--open", "--home", str(tmp_path)], cwd=ROOT, env=variables
    )
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(check, env=variables, capture_output=True).returncode:
            assert time.monotonic() < deadline
            assert gateway.poll() is None
            time.sleep(0.2)
    finally:
        gateway.terminate()
        assert gateway.wait(30) in (0, -15, 143)
    assert subprocess.run(check, env=variables, capture_output=True).returncode == 1
