"""Starting the service and its engines below a command, and waiting until they answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from training.artifacts import processes
from training.artifacts.errors import UserError
from training.loop.client import Service, wait_until_served
from training.loop.steps import command
from training.runtime import runs

SCOPES = ("generate", "score", "eval", "export", "admin")


def check_port(port: int) -> None:
    """Refuse a port in use now, not after ten minutes of training."""
    if in_use(port):
        raise UserError(f"port {port} is in use: end what listens there, or give --port")


def in_use(port: int) -> bool:
    """Whether something listens on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def serve(
    home: Path,
    port: int,
    name: str,
    aliases: Mapping[str, str],
    prompts: Path,
    others: Sequence[str],
    environment: Mapping[str, str],
    stack: ExitStack,
) -> Service:
    """Start gateway and engines, and wait until all checkpoints are served. They end with `stack`.

    Args:
        name: of the key that is added, for a day and with all scopes.
        aliases: alias -> checkpoint.
        prompts: file of prompts for labelers.
        others: checkpoints that need an engine beside those of the aliases.
        environment: settings of the service.

    Raises:
        UserError: the service or an engine does not start.
    """
    at_home = ["--home", str(home)]
    for alias, checkpoint in aliases.items():
        command("service", "promote", alias, checkpoint, "--no-wait", *at_home)
    command("service", "import", "prompts", str(prompts), *at_home)
    key = command("service", "keys", "add", name, "--scopes", *SCOPES, "--days", "1", *at_home)
    service = Service(f"http://127.0.0.1:{port}", key.strip())
    log = home / "logs" / "service.log"
    child = processes.start(
        ["service", "serve", "--open", "--port", str(port), "--with-engines", *aliases.values(), *others, *at_home],
        log=log,
        environment=environment,
    )
    stack.callback(processes.stop, child)

    def check_alive() -> None:
        if child.poll() is not None:
            raise UserError(f"the service ended: see {log}")

    names = {checkpoint: checkpoint for checkpoint in (*aliases.values(), *others)} | dict(aliases)
    try:
        wait_until_served(service, names, check_alive)
    except UserError as error:
        raise UserError(f"{error} (log: {log})") from None
    return service


def until_interrupted() -> None:
    """Wait for Ctrl-C, while people use the service."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        runs.CONSOLE.print("stopping the service")
