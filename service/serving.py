"""The two long-running commands: the gateway and the supervisor."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from service.app import create_app
from service.console import CONSOLE, say
from service.engines.remote import remote_engines
from service.engines.supervisor import Supervisor
from service.keys import has_keys
from service.settings import Settings
from service.store.database import Store
from training.artifacts.errors import UserError

PRIVATE = 0o077  # logs hold what people wrote: only the service's own user reads them


def serve(settings: Settings, parsed: argparse.Namespace) -> None:
    """Run the gateway, with `--with-engines` the supervisor too, until SIGTERM or Ctrl-C."""
    os.umask(PRIVATE)
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
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            # Kept-alive clients would otherwise meet a connection closed between two of their requests.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies,
        )
    )
    with _running(supervisor, server):
        if settings.open:
            secret = app.state.keys.lend("open mode", "admin")
            say(f"key for /admin and /api/export, until this ends: {secret}")
        say(f"gateway at {settings.url} (pages: {settings.url}/compare, models: {settings.url}/v1/models)")
        if not settings.on_loopback and settings.public_url is None:
            say(
                "people sign in over plain HTTP: who listens on the network can read tokens and cookies. "
                "Put a proxy with TLS before the service and set ALIGNLOOP_PUBLIC_URL=https://NAME"
            )
        if not keys and not settings.open:
            say("there is no key yet: `python -m service keys add NAME --scopes generate score`, or serve with --open")
        # What is loaded by now stays. Going through it for garbage would stop every stream for a tenth of a second.
        gc.collect()
        gc.freeze()
        server.run(sockets=[listener])
    store.close()


def engines(settings: Settings, parsed: argparse.Namespace) -> None:
    """Run the supervisor until SIGTERM or Ctrl-C."""
    os.umask(PRIVATE)
    supervisor = Supervisor(settings, parsed.serve, remote_engines(parsed.engine), CONSOLE)

    def stop(_: int, __: FrameType | None) -> None:
        supervisor.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor.run()


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


logging.getLogger("service").addHandler(logging.StreamHandler())
