"""An engine that costs nothing, on an address of its own: `python -m tests.support.stub_server CHECKPOINT HOST PORT`.

It answers as `stub_engines` does, and streams chats: the checkpoint's name, then a word every `--pace` seconds.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from tests.support.stub_engine import chat_answer, send_pieces, stream_of
from tests.support.stub_engines import StubEngines
from training.artifacts.checkpoints import load

WORDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--pace", type=float, default=0.05)
    options = parser.parse_args()
    stubs = StubEngines()
    stub, _ = stubs.add(load(options.checkpoint))

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.match_info["path"] != "v1/chat/completions":
            return await stubs.answer(request)
        body = await request.json()
        if not body.get("stream"):
            return web.json_response(chat_answer(body, [stub.checkpoint.id]))
        words = [stub.checkpoint.id, *[" word"] * WORDS]
        with suppress(ConnectionResetError):  # a gateway that was killed
            return await send_pieces(request, stream_of(body, words), pause=options.pace)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{stub:[0-9]+}/{path:.*}", answer)
    web.run_app(app, host=options.host, port=options.port, print=None)


if __name__ == "__main__":
    main()
