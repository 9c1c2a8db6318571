"""`python -m service` with a route more, that tells the number of its asyncio tasks."""

from __future__ import annotations

import asyncio
import sys

from fastapi import FastAPI

from service import __main__ as service
from service import serving
from service.app import create_app
from service.settings import Settings
from training.artifacts.errors import run_command

TASKS = "/tasks"


def counted_app(settings: Settings) -> FastAPI:
    app = create_app(settings)

    @app.get(TASKS)
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    return app


if __name__ == "__main__":
    serving.create_app = counted_app  # type: ignore[attr-defined]  # the name that `serve` calls
    sys.exit(run_command(service.main))
