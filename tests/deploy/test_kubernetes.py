"""Each overlay renders, fits Kubernetes' schemas, and says what the code behind it takes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy import check
from deploy.check import Object, containers, environment, name, of_kind
from deploy.images import health
from service import metrics
from service.app import create_app
from service.engines.planning import EngineNeeds, plan
from service.settings import Settings, check_names
from tests.support.deployment import MAKE_TOOLS, OVERLAYS, bases, copied, entry_point, parsed, read_command, render
from tests.support.programs import tool

pytestmark = pytest.mark.unit
UNVALIDATED = {"gpu-production": ["ServiceMonitor"]}  # custom resources, whose schemas are their operators'
GIB = 2**30


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, overlays: Path) -> tuple[str, str]:
    """(name, rendered text)."""
    done = render(overlays / request.param)
    assert done.returncode == 0, done.stderr
    return request.param, done.stdout


@pytest.fixture
def objects(overlay: tuple[str, str]) -> list[Object]:
    return parsed(overlay[1])


def pods(objects: list[Object]) -> Iterator[tuple[Object, Mapping[str, Any]]]:
    """Workloads and what they make pods of."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield item, item["spec"]["template"]


def test_fits_the_schemas(overlay: tuple[str, str], tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(overlay[1])
    done = subprocess.run(
        [tool("kubernetes-validate", MAKE_TOOLS), "--strict", str(rendered)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    unvalidated = re.findall(r"Couldn't find schema for kind (\w+)", said)
    assert unvalidated == UNVALIDATED.get(overlay[0], [])
    assert said.count(" passed for resource ") == len(parsed(overlay[1])) - len(unvalidated)


def test_an_unknown_field_does_not_fit(overlay: tuple[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(overlay[1].replace("readOnlyRootFilesystem:", "readOnlyRootFileSystem:"))
    done = subprocess.run(
        [tool("kubernetes-validate", MAKE_TOOLS), "--strict", str(wrong)], capture_output=True, text=True
    )
    assert done.returncode != 0


def test_every_pod_is_hardened(objects: list[Object]) -> None:
    for item, template in pods(objects):
        pod = template["spec"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name(item)
        assert min(security["runAsUser"], security["fsGroup"]) > 0, name(item)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        # Variables of Services would be taken for settings, and are refused.
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        for container in containers(item):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name(item)
            resources = container["resources"]
            assert resources["limits"]["memory"]
            assert resources["requests"]["memory"]
            assert resources["requests"]["cpu"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= {
                volume["name"] for volume in [*pod["volumes"], *({"name": c["metadata"]["name"]} for c in claims(item))]
            }
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def claims(item: Object) -> list[Any]:
    return list(item["spec"].get("volumeClaimTemplates", ()))


def test_every_command_is_one_of_ours(overlay: tuple[str, str], objects: list[Object]) -> None:
    ours = 0
    for _, template in pods(objects):
        for container in template["spec"]["containers"]:
            if container["image"].startswith("alignloop-"):
                words = [*container.get("command", entry_point(container["image"])), *container.get("args", ())]
                read_command([word.replace("$(NODE_RANK)", "1") for word in words])
                ours += 1
    assert ours >= (1 if overlay[0].endswith("/pull") else 2)


def test_probes_ask_what_there_is(objects: list[Object], tmp_path: Path) -> None:
    app = create_app(Settings(database=f"sqlite:///{tmp_path}/s.db"))
    routes = {getattr(route, "path", "") for route in app.routes}
    for item, template in pods(objects):
        for container in template["spec"]["containers"]:
            probes = [container[key] for key in ("startupProbe", "readinessProbe", "livenessProbe") if key in container]
            assert len(probes) == (0 if item["kind"] == "Job" else 3), name(item)
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in probes:
                if "httpGet" in probe:
                    assert probe["httpGet"]["path"] in routes
                    assert probe["httpGet"]["port"] in ports
                elif "health.py" in probe["exec"]["command"]:
                    words = probe["exec"]["command"]
                    assert words[:2] == ["python", "health.py"]
                    assert health.problem(words[2:]) != health.USAGE


def test_the_servicemonitor_asks_for_a_route_of_a_port(objects: list[Object]) -> None:
    for monitor in of_kind(objects, "ServiceMonitor"):
        services = [
            item
            for item in of_kind(objects, "Service")
            if monitor["spec"]["selector"]["matchLabels"].items() <= item["metadata"]["labels"].items()
        ]
        assert [name(item) for item in services] == ["gateway"]  # the job's name in alerts and dashboard
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}
            assert endpoint["path"] == "/metrics"


def test_every_variable_is_read_by_something(objects: list[Object]) -> None:
    for item in objects:
        for container in containers(item):
            variables = environment(objects, container)
            check_names(variables)
            for variable in variables:
                known = variable.startswith(("ALIGNLOOP_", "PG", "POSTGRES_", "AWS_", "CHECKPOINT"))
                assert known or variable in {"POD_IP", "NODE_RANK"}
    assert list(check.problems(objects)) == []


def test_images_are_ours_or_of_the_one_file(overlay: tuple[str, str], objects: list[Object]) -> None:
    variant = overlay[0].split("-")[0]
    for item in objects:
        for container in containers(item):
            image = container["image"]
            ours = {f"alignloop-{target}:{variant}" for target in ("gateway", "engines", "trainer")}
            assert image in ours | set(bases().values()), image


def test_selectors_select(objects: list[Object]) -> None:
    labels = [template["metadata"]["labels"] for _, template in pods(objects)]
    # A Job's controller adds this one.
    labels += [{"batch.kubernetes.io/job-name": name(item)} for item in of_kind(objects, "Job")]
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector if item["kind"] == "Service" else {})
        if item["kind"] == "ServiceMonitor" or (
            item["kind"] == "NetworkPolicy" and name(item) in ("trainers", "callers")
        ):
            continue  # of Services; of Jobs that another overlay has
        assert any(wanted.items() <= pod.items() for pod in labels), f"{item['kind']} {name(item)} selects nothing"
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] in {name(item) for item in of_kind(objects, target["kind"])}
        measured = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
        assert measured == {next(iter(metrics.running.describe())).name}


@pytest.mark.parametrize("overlay", ["cpu-trial", "gpu-production"], indirect=True)
def test_nobody_but_the_gateway_reaches_engines(overlay: tuple[str, str], objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    deny = next(item for item in policies if name(item) == "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for kind in ("policy", "reward"):
        pod = next(t for i, t in pods(objects) if name(i) == f"engines-{kind}")["metadata"]["labels"]
        into = [item for item in policies if "Ingress" in item["spec"]["policyTypes"] and selects(item, pod)]
        rules = [rule for item in into for rule in item["spec"].get("ingress", ())]
        assert len(rules) == 1
        [source] = rules[0]["from"]
        gateway = {"app.kubernetes.io/component": "gateway"}
        assert source == {"podSelector": {"matchLabels": gateway}}
        [ports] = rules[0]["ports"]
        # Engines listen on a free port that the kernel chooses.
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        assert ports["port"] <= low
        assert high <= ports["endPort"]
        assert ports["protocol"] == "TCP"
    gateway_out = next(item for item in policies if name(item) == "gateway")["spec"]["egress"]
    assert {"to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "engines"}}}]} in gateway_out
    clients = {name(item) for item, template in pods(objects) if template["metadata"]["labels"].get("alignloop/store")}
    assert clients == {"gateway", "engines-policy", "engines-reward", "migrate"}


def selects(policy: Object, labels: Mapping[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ())
    )


@pytest.mark.parametrize("overlay", ["cpu-trial"], indirect=True)
def test_the_limits_of_memory_hold_what_they_are_for(overlay: tuple[str, str], objects: list[Object]) -> None:
    """135 million parameters in float32 are 0.50 GiB; 30 layers of 3 key-value heads of 64 are 30 * 2 * 3 * 64 * 4 =
    46,080 bytes per token. The supervisor itself takes up to half a GiB."""
    model = EngineNeeds(
        "model", 2048, 512, 135_000_000 * 4, 46_080, 4 * (10 * 576 + 3 * 1536), 8 * 49_152
    )  # fmt: skip
    for kind, count in (("policy", 2), ("reward", 1)):
        [container] = next(t for i, t in pods(objects) if name(i) == f"engines-{kind}")["spec"]["containers"]
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * GIB
        plans = plan([model] * count, limit - GIB // 2, 2)
        assert all(one.context == 2048 for one in plans)


@pytest.mark.parametrize("overlay", ["cpu-trial", "gpu-production"], indirect=True)
def test_pods_have_time_to_end(overlay: tuple[str, str], objects: list[Object]) -> None:
    drain = Settings().drain_seconds
    for item, template in pods(objects):
        if item["kind"] == "Deployment":
            assert template["spec"]["terminationGracePeriodSeconds"] >= drain + 15, name(item)
            assert item["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
