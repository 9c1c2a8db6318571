"""The export of comparisons for training."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from service.administration import data
from service.auth import Caller, require
from service.errors import ApiError
from service.preferences import export
from service.state import gateway_of

router = APIRouter(tags=["export"])
IN_MEMORY = 8_000_000  # bytes; a larger export waits on the disk
CHUNK = 1 << 16
HEADERS = {
    "X-Content-SHA256": {"description": "sha256 of the body, as hex", "schema": {"type": "string"}},
    "X-Rows": {"description": "number of rows", "schema": {"type": "integer"}},
    "X-Mended-Rows": {"description": "rows in which `?` stands for half a character", "schema": {"type": "integer"}},
}


class Lines(StreamingResponse):
    """JSON lines."""

    media_type = "application/x-ndjson"


@router.get("/api/export", response_class=Lines, responses={200: {"headers": HEADERS}})
async def export_comparisons(
    request: Request, caller: Annotated[Caller, Depends(require("export"))], since: datetime | None = None
) -> Lines:
    """Every answer that stands, as JSONL in the format of `training.artifacts.comparisons`.

    `X-Content-SHA256` holds the hash of the body, `X-Rows` its number of rows and `X-Mended-Rows` of those in which
    `?` stands for half a character that cannot be encoded. The same data gives the same
    bytes. The body is complete before the first byte is sent, so that the hash is that of one state of the store.
    """
    state = gateway_of(request)
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    try:
        since = None if since is None else since.astimezone(UTC)
    except OverflowError:
        raise ApiError(400, "`since` lies beyond the calendar", param="since", code="invalid_value") from None

    def run() -> tuple[IO[bytes], export.Exported, int]:
        file = cast(IO[bytes], SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115 - closed when it has been sent
        with state.store.session() as session:
            exported = export.write(session, file, since)
        with state.store.session() as session:
            data.record_export(session, caller.actor, exported)
        size = file.tell()
        file.seek(0)
        return file, exported, size

    file, exported, size = await asyncio.get_running_loop().run_in_executor(state.bulk_pool, run)
    headers = {
        "X-Content-SHA256": exported.sha256,
        "X-Rows": str(exported.rows),
        "X-Mended-Rows": str(exported.mended),
        "Content-Length": str(size),
        "Content-Disposition": 'attachment; filename="comparisons.jsonl"',
    }
    return Lines(_chunks(file), headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
