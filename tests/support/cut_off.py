"""A way to a TCP server that a test can cut, or make silent: a database that is lost, or a network that swallows."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Cuttable:
    """Forwards connections to a server until it is told otherwise.

    Args:
        host, port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._refuses = False
        self._open = threading.Event()
        self._open.set()

    def __enter__(self) -> Cuttable:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._refuses = True
        for pair in self._pairs:
            for end in pair:
                _close(end)
        self._pairs.clear()

    def silence(self) -> None:
        """Keep connections open and pass nothing on."""
        self._open.clear()

    def restore(self) -> None:
        """Work again."""
        self._refuses = False
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                _close(near)
                continue
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                target.sendall(data)
        _close(source)
        _close(target)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
