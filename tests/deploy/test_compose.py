"""The compose file holds what the code and its images take, and starts nothing without its secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import check_names
from tests.support.deployment import DEPLOY, ROOT, bases, entry_point, read_command
from tests.support.programs import tool

pytestmark = pytest.mark.unit
SECRETS = {"POSTGRES_PASSWORD": "one", "GRAFANA_PASSWORD": "two"}
NON_ROOT = ("alignloop-",)  # images whose own user is not root


def compose(folder: Path, variables: Mapping[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    """`config` of docker's compose plugin, or of the command docker-compose."""
    environment = folder / "variables"
    environment.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    docker = subprocess.run(["docker", "compose", "version"], capture_output=True) if _has("docker") else None
    command = ["docker", "compose"] if docker is not None and docker.returncode == 0 else [
        tool("docker-compose", "apt-get install docker-compose")
    ]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    named = [word for file in files or ("compose.yaml",) for word in ("-f", file)]
    return subprocess.run(
        [*command, "--env-file", str(environment), *named, "config"],
        cwd=DEPLOY, env=clean, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def _has(name: str) -> bool:
    import shutil

    return shutil.which(name) is not None


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = compose(tmp_path_factory.mktemp("compose"), bases() | SECRETS)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return read


def whole() -> dict[str, Any]:
    """The file as it is written, the trainer's profile included."""
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return read


@pytest.mark.parametrize("missing", [*SECRETS, "POSTGRES_IMAGE"])
def test_a_missing_value_is_refused_with_the_fix(tmp_path: Path, missing: str) -> None:
    done = compose(tmp_path, bases() | SECRETS | {missing: ""})
    assert done.returncode != 0
    fix = "add --env-file images/bases.env" if missing in bases() else f"write {missing} into deploy/.env"
    assert fix in done.stderr


def test_the_gpu_file_goes_with_it(tmp_path: Path) -> None:
    done = compose(tmp_path, bases() | SECRETS, "compose.yaml", "compose.gpu.yaml")
    assert done.returncode == 0, done.stderr


def test_ports_are_published_on_loopback(services: dict[str, Any]) -> None:
    published = {}
    for name, service in services.items():
        for port in service.get("ports", ()):
            host = port["host_ip"] if isinstance(port, dict) else port.rsplit(":", 2)[0]
            published[name] = host
    assert published == {"gateway": "127.0.0.1", "prometheus": "127.0.0.1", "grafana": "127.0.0.1"}


def test_every_container_is_hardened() -> None:
    for name, service in whole().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        if service["image"].startswith("alignloop-engines"):
            # vLLM's compiled code is loaded from there.
            assert any(mount.startswith("/tmp:exec,") for mount in service["tmpfs"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        user = service.get("user", "")
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) or service["image"].startswith(NON_ROOT), name


def test_images_are_ours_or_of_the_one_file() -> None:
    for service in whole().values():
        image = service["image"]
        variable = re.match(r"\$\{(\w+):\?", image)
        assert (variable and variable[1] in bases()) or re.match(r"alignloop-(gateway|engines|trainer):", image), image


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in whole().items():
        if service["image"].startswith("alignloop-"):
            default = {"gateway": ["serve"], "engines-policy": ["engines"], "engines-reward": ["engines"]}.get(name, [])
            yield name, [*service.get("entrypoint", entry_point(service["image"])), *service.get("command", default)]


@pytest.mark.parametrize(("name", "words"), list(commands()))
def test_commands_are_ours(name: str, words: list[str]) -> None:
    assert read_command(words) is not None


def test_variables_are_read_by_something(services: dict[str, Any]) -> None:
    lines = [line.lstrip("#") for line in (DEPLOY / "settings.env").read_text().splitlines()]
    optional = [line.split("=")[0] for line in lines if re.match(r"[A-Z_]+=", line)]
    check_names(optional)
    for service in services.values():
        check_names(service.get("environment", {}))
    assert services["engines-policy"]["environment"]["ALIGNLOOP_ENGINE_KIND"] == "policy"
    assert services["engines-reward"]["environment"]["ALIGNLOOP_ENGINE_KIND"] == "reward"


def test_engines_are_reached_by_gateways_alone(services: dict[str, Any]) -> None:
    in_network = {name for name, service in services.items() if "engines" in (service.get("networks") or {})}
    assert in_network == {"gateway", "engines-policy", "engines-reward"}
    for kind in ("policy", "reward"):
        service = services[f"engines-{kind}"]
        # A name of one network: the address that it means is the one that the gateway shares.
        assert service["environment"]["ALIGNLOOP_ENGINE_ADDRESS"] in service["networks"]["engines"]["aliases"]
        assert service["environment"]["ALIGNLOOP_ENGINE_ADDRESS"] not in services


def test_prometheus_may_ask_the_gateway(services: dict[str, Any]) -> None:
    scraped = yaml.safe_load((DEPLOY / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    [target] = scraped[0]["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert services[host]["environment"]["ALIGNLOOP_PORT"] == port
    assert host in json.loads(services[host]["environment"]["ALIGNLOOP_ALLOWED_HOSTS"])


def test_what_is_mounted_is_there() -> None:
    for service in whole().values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source


def test_every_secret_is_in_the_example_and_none_in_the_tree() -> None:
    wanted = set(re.findall(r"\$\{(\w+)[:}]", (DEPLOY / "compose.yaml").read_text())) - set(bases())
    example = dict(
        line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line)
    )
    assert set(example) == wanted
    assert not any(value for name, value in example.items() if name.endswith(("PASSWORD", "KEY")))
    for file in (
        "deploy/.env",
        "deploy/kubernetes/overlays/cpu-trial/secrets.env",
        "deploy/kubernetes/overlays/x/keys.env",
    ):
        assert subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT).returncode == 0, file
