"""An engine that takes a fixed time and next to no work, in a process of its own.

It answers chats as vLLM does, after `--first` seconds, and writes the words of a stream every `--pace` seconds (0: all
at once). What a proxy in front of it takes is thus what the proxy itself costs. HTTP is spoken by hand: a server's
library would take as long as what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from urllib.request import urlopen

import msgspec
import uvloop

from tests.support.live_service import ROOT, free_port
from tests.support.stub_engine import chat_answer, chunk

WORD = " word"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client, whose requests come one after another and tell their length."""

    def __init__(self, first: float, pace: float) -> None:
        self.first, self.pace = first, pace
        self.received = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, _, rest = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        size = int(length[1]) if length else 0
        if b"\r\n\r\n" not in self.received or len(rest) < size:
            return
        self.received = rest[size:]
        if head.startswith(b"POST"):
            self.timer = asyncio.get_running_loop().call_later(
                self.first, self.answer, msgspec.json.decode(rest[:size])
            )
        else:
            self.transport.write(JSON_HEAD % 2 + b"{}")

    def answer(self, body: dict[str, Any]) -> None:
        count = body.get("max_completion_tokens") or body.get("max_tokens") or 1
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        if not body.get("stream"):
            content = json.dumps(chat_answer(body, [WORD * count]) | {"usage": usage}).encode()
            self.transport.write(JSON_HEAD % len(content) + content)
            return
        events = [chunk(body["model"], WORD)] * count
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(chunk(body["model"], "", choices=[], usage=usage))
        pieces = [_chunked(event) for event in [*events, b"data: [DONE]\n\n"]]
        self.transport.write(STREAM_HEAD)
        if self.pace:
            self.write_next(pieces, asyncio.get_running_loop().time())
        else:
            for piece in pieces:
                self.transport.write(piece)
            self.transport.write(b"0\r\n\r\n")

    def write_next(self, pieces: list[bytes], due: float) -> None:
        self.transport.write(pieces[0])
        if len(pieces) == 1:
            self.transport.write(b"0\r\n\r\n")
            return
        due += self.pace
        self.timer = asyncio.get_running_loop().call_at(due, self.write_next, pieces[1:], due)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def fixed_engine(first: float, pace: float = 0.0) -> Iterator[str]:
    """Run it until the block ends; yields its URL.

    Args:
        first: seconds from a request to its answer, or to the first word of a stream.
        pace: seconds between two words of a stream.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.support.fixed_engine", "--port", str(port)]
    process = subprocess.Popen([*command, "--first", str(first), "--pace", str(pace)], cwd=ROOT)
    try:
        for _ in range(300):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def _serve(port: int, first: float, pace: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(first, pace), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first", type=float, required=True)
    parser.add_argument("--pace", type=float, default=0.0)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(options.port, options.first, options.pace))


if __name__ == "__main__":
    main()
