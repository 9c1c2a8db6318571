"""Refuses a rendered overlay whose values are missing or contradict each other, before anything is applied.

    kubectl kustomize deploy/kubernetes/overlays/cpu-trial | python -m deploy.check

Prints the objects when all is well, for `| kubectl apply -f -`; else one line per problem, exit status 2. Settings are
read by the service's own code, as each container would read them.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from typing import Any
from unittest import mock

import yaml

import service.__main__ as service_commands
from service.settings import Settings, check_names
from service.store.database import parse_url
from training.artifacts.errors import UserError, run_command

Object = Mapping[str, Any]
ADDRESS = "10.0.0.1"  # stands for what the cluster fills in, such as a pod's own
OF_THE_SERVICE = re.compile(r"(?:^|/)alignloop-(?:gateway|engines)\b")  # images that run `python -m service`
PLACEHOLDERS = {"USER", "HOST", "NAME"}  # of secrets.env.example


def problems(objects: Sequence[Object]) -> Iterator[str]:
    """A sentence with the fix for each thing that is missing or contradicts another."""
    for secret in of_kind(objects, "Secret"):
        for key, value in secrets_of(secret).items():
            if not value.strip():
                yield f"the secret {key} is empty: fill the overlay's .env file in"
            elif {"BUCKET", "FOLDER"} & set(value.split("/")):
                yield f"the secret {key} still holds BUCKET or FOLDER: fill the overlay's .env file in"
    for item in objects:
        for container in containers(item):
            yield from _of_container(objects, item, container)
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        least, most = scaler["spec"].get("minReplicas", 1), scaler["spec"]["maxReplicas"]
        if least > most:
            yield f"autoscaler {name(scaler)}: minReplicas {least} is more than maxReplicas {most}: lower it"
    served = {kind for item in of_kind(objects, "Deployment") for kind in _kinds_served(objects, item)}
    if served and None not in served:
        for kind in sorted({"policy", "reward"} - served):
            yield f"no supervisor serves {kind} models: give engines-{kind} a replica, or unset ALIGNLOOP_ENGINE_KIND"


def _kinds_served(objects: Sequence[Object], item: Object) -> Iterator[str | None]:
    """The kinds of models that a Deployment's supervisor serves; None: both."""
    for container in containers(item):
        if container.get("args", [])[:1] == ["engines"] and item["spec"].get("replicas", 1) > 0:
            with suppress(UserError):  # said of the container
                yield environment(objects, container).get("ALIGNLOOP_ENGINE_KIND")


def _of_container(objects: Sequence[Object], item: Object, container: Object) -> Iterator[str]:
    where = f"{item['kind']} {name(item)}"
    memory = container.get("resources", {}).get("limits", {}).get("memory")
    if container.get("args", [])[:1] == ["engines"] and memory is None:
        yield f"{where}: no limit of memory, which the plan of engines divides: set resources.limits.memory"
    try:
        variables = environment(objects, container)
        check_names(variables)
        arguments = [expanded(word, variables) for word in container.get("args", ())]
        if not OF_THE_SERVICE.search(container["image"]):
            return
        settings = settings_of(arguments, variables)
        url = parse_url(settings.database)
        if url.get_backend_name() == "sqlite":
            yield f"{where}: ALIGNLOOP_DATABASE is SQLite, a file of one machine: name a PostgreSQL database"
        elif {url.username, url.host, url.database} & PLACEHOLDERS:
            yield f"{where}: ALIGNLOOP_DATABASE still holds USER, HOST or NAME: fill secrets.env in"
        if arguments[0] == "serve":
            if settings.on_loopback:
                yield f"{where}: ALIGNLOOP_HOST={settings.host} is reached from its own pod only: set it to 0.0.0.0"
            settings.check(has_keys=True)
        if arguments[0] == "engines" and settings.engine_address in ("127.0.0.1", "localhost"):
            yield f"{where}: no gateway reaches engines on loopback: set ALIGNLOOP_ENGINE_ADDRESS to the pod's address"
    except UserError as error:
        yield f"{where}: {error}"


def expanded(word: str, variables: Mapping[str, str]) -> str:
    """An argument with its $(NAME) filled in. Raises `UserError` for one that the container has not."""

    def value(name: re.Match[str]) -> str:
        if name[1] not in variables:
            raise UserError(f"nothing gives the variable of {name[0]}: add it to the overlay's .env file")
        return variables[name[1]]

    return re.sub(r"\$\((\w+)\)", value, word)


def settings_of(arguments: Sequence[str], variables: Mapping[str, str]) -> Settings:
    """The service's settings in a container. Raises `UserError` for what the service itself would refuse."""
    complaint = io.StringIO()
    with mock.patch.dict(os.environ, variables, clear=True), redirect_stderr(complaint):
        try:
            return service_commands.settings_of(service_commands.parser().parse_args(arguments))
        except SystemExit:
            raise UserError(complaint.getvalue().strip().splitlines()[-1]) from None


def environment(objects: Sequence[Object], container: Object) -> dict[str, str]:
    """The variables of a container. What the cluster fills in is an address. Raises `UserError` for a missing key."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        kind = "Secret" if "secretRef" in source else "ConfigMap"
        named = source["secretRef" if kind == "Secret" else "configMapRef"]["name"]
        values = _values(_find(objects, kind, named))
        variables |= {source.get("prefix", "") + key: value for key, value in values.items()}
    for one in container.get("env", ()):
        source = one.get("valueFrom", {})
        reference = source.get("secretKeyRef") or source.get("configMapKeyRef")
        if reference:
            kind = "Secret" if "secretKeyRef" in source else "ConfigMap"
            values = _values(_find(objects, kind, reference["name"]))
            if reference["key"] not in values:
                raise UserError(
                    f"the {kind} {reference['name']} has no {reference['key']}: add it to the overlay's .env file"
                )
            variables[one["name"]] = values[reference["key"]]
        else:
            variables[one["name"]] = ADDRESS if source else one.get("value", "")
    for key, value in variables.items():
        if not isinstance(value, str):
            raise UserError(f"the value of {key} is not a text: write it in quotes")
    return {key: value.replace("$(POD_IP)", ADDRESS) for key, value in variables.items()}


def containers(item: Object) -> list[Object]:
    """Containers of a workload, those that run first included; none of any other object."""
    spec = item.get("spec", {})
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    pod = spec if item["kind"] == "Pod" else spec.get("template", {}).get("spec", {})
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def secrets_of(secret: Object) -> dict[str, str]:
    data = secret.get("data") or {}
    texts = {key: base64.b64decode(value, validate=True).decode() for key, value in data.items()}
    return texts | (secret.get("stringData") or {})


def _values(item: Object) -> dict[str, str]:
    """What a Secret or a ConfigMap holds."""
    return secrets_of(item) if item["kind"] == "Secret" else dict(item.get("data") or {})


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _find(objects: Sequence[Object], kind: str, its_name: str) -> Object:
    for item in of_kind(objects, kind):
        if name(item) == its_name:
            return item
    raise UserError(f"there is no {kind} {its_name}: let the overlay generate it")


def main() -> int:
    text = sys.stdin.read() if sys.stdin else ""
    try:
        objects = [
            one
            for item in yaml.safe_load_all(text)
            for one in (item["items"] if isinstance(item, dict) and item.get("kind") == "List" else [item])
            if one
        ]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError):
        objects = []
    if not objects or not all(isinstance(item, dict) and isinstance(item.get("kind"), str) for item in objects):
        raise UserError("no objects on standard input: kubectl kustomize OVERLAY | python -m deploy.check")
    try:
        sentences = list(dict.fromkeys(problems(objects)))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"an object has another form than Kubernetes asks for ({type(error).__name__}: {error}): "
            "kubernetes-validate --strict says where"
        ) from None
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)
    if sentences:
        return 2
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
