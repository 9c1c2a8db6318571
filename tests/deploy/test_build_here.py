"""The images, built without a daemon and run as a pod runs them. Takes minutes, and packages over the network."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.deployment import DEPLOY
from tests.support.programs import tool


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_images_are_built_and_work_read_only_without_root() -> None:
    for name in ("buildah", "debootstrap"):
        tool(name, f"apt-get install {name}")
    if os.geteuid() != 0:
        pytest.skip("a root file system is made: run this as root")
    done = subprocess.run(["bash", str(DEPLOY / "images/build_here.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    for line in (
        "10001",
        "the root is read-only",
        "trainer: its commands are there",
        "without a key: exit status 2",
        "gateway: ended with 0",
        "engines: ended with 0",
    ):
        assert line in said, done.stdout + done.stderr
    assert any(line.startswith("gateway: healthy after ") for line in said)
    assert any(line.startswith("engines: healthy after ") for line in said)
