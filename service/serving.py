"""The two long-running commands: the gateway and the supervisor."""

from __future__ import annotations

import argparse
import errno
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn
from rich.console import Console

from service.app import create_app
from service.auth import add_key, has_keys
from service.engines.supervisor import Supervisor
from service.settings import Settings
from service.store.database import Store
from service.store.models import Key, now
from training.artifacts.errors import UserError

CONSOLE = Console(stderr=True)


def serve(settings: Settings, parsed: argparse.Namespace) -> None:
    """Run the gateway, with `--with-engines` the supervisor too, until SIGTERM or Ctrl-C."""
    store = Store(settings.database)
    store.migrate()
    with store.session() as session:
        keys = has_keys(session)
    settings.check(has_keys=keys)
    supervisor = None
    if parsed.with_engines is not None:
        supervisor = Supervisor(settings, parsed.with_engines, remote_engines(parsed.engine), CONSOLE)
    elif parsed.engine:
        raise UserError("--engine needs --with-engines: it is the supervisor that watches engines")
    listener = listen(settings)
    app = create_app(settings)
    address = f"http://{settings.host}:{settings.port}"
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            # Kept-alive clients would otherwise meet a connection closed between two of their requests.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
            server_header=False,
        )
    )
    with exit_on_sigterm(), _running(supervisor, server), _printed_key(settings, store):
        say(f"gateway at {address} (pages: {address}/compare, models: {address}/v1/models)")
        if not keys and not settings.open:
            say("there is no key yet: `python -m service keys add NAME --scopes generate score`, or serve with --open")
        server.run(sockets=[listener])
    store.close()


def engines(settings: Settings, parsed: argparse.Namespace) -> None:
    """Run the supervisor until SIGTERM or Ctrl-C."""
    supervisor = Supervisor(settings, parsed.serve, remote_engines(parsed.engine), CONSOLE)

    def stop(_: int, __: FrameType | None) -> None:
        supervisor.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor.run()


def say(text: str) -> None:
    CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


def listen(settings: Settings) -> socket.socket:
    """Bind the port before anything is started. Raises `UserError` when it is taken."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, settings.port))
        # Connections queue from now on, while the application starts.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {settings.port} is in use: stop what listens there, or give another --port"
            ) from None
        raise UserError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return listener


def remote_engines(arguments: Sequence[str]) -> dict[str, str]:
    """{"ID": "URL"} from ID=URL arguments."""
    urls = {}
    for text in arguments:
        name, mark, url = text.partition("=")
        if not mark or not url.startswith(("http://", "https://")):
            raise UserError(f"--engine {text!r} is not ID=URL, such as my-model=http://gpu1:8000")
        urls[name] = url.removesuffix("/v1")
    return urls


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into a normal exit: uvicorn, once it has shut down, raises the signal that it caught again."""

    def leave(_: int, __: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _running(supervisor: Supervisor | None, server: uvicorn.Server) -> Iterator[None]:
    """The supervisor in a thread. A gateway whose supervisor failed ends with that failure: a manager restarts it."""
    if supervisor is None:
        yield
        return
    failures: list[BaseException] = []

    def run() -> None:
        try:
            supervisor.run()
        except BaseException as error:
            failures.append(error)
            server.should_exit = True

    thread = threading.Thread(target=run, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        supervisor.stop.set()
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def _printed_key(settings: Settings, store: Store) -> Iterator[None]:
    """In open mode /admin and /api/export still need a key: print one that lives as long as this process."""
    if not settings.open:
        yield
        return
    with store.session() as session:
        key, secret = add_key(session, "open mode", ["admin"], days=7)
        row = key.id
    say(f"key for /admin and /api/export, until this ends: {secret}")
    try:
        yield
    finally:
        with store.session() as session:
            session.get_one(Key, row).revoked = now()


logging.getLogger("service").addHandler(logging.StreamHandler())
