"""Engines that a run starts for itself."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import Popen
from typing import cast

import pytest
from aiohttp import web

from evals import serving
from tests.support.in_thread import served
from training.artifacts.errors import UserError


class Running:
    def poll(self) -> None:
        return None


def test_an_engine_that_was_given_up_is_not_waited_for() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/health/ready":
            state = {"status": "not ready", "problems": {"sft-1": "no room"}, "given_up": ["sft-1"]}
            return web.Response(text=json.dumps(state), status=503)
        return web.json_response({"object": "list", "data": [{"id": "sft-2"}]})

    with served("GET", "/{path:.*}", answer) as url:
        process = cast("Popen[str]", Running())
        serving._wait(process, url, ["sft-2"], Path("log"))
        with pytest.raises(UserError, match="sft-1 cannot be served: no room"):
            serving._wait(process, url, ["sft-1", "sft-2"], Path("log"))
