"""The service over an engine that some other process runs, without a supervisor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.store.database import Store
from service.store.models import Engine, now
from tests.support.live_service import Running, running_service

NAME = "fixed-1"  # the checkpoint that the engine serves
MANIFEST = {
    "stage": "sft", "created": "2026-01-31T10:15:02+00:00", "context": 8192, "reward_offset": None, "stop_ids": [2],
    "generation": {"temperature": 0.7}, "special": ["<|im_start|>", "<|im_end|>"], "path": "/nowhere",
}  # fmt: skip


@contextmanager
def gateway_over(url: str, module: str = "service") -> Iterator[Running]:
    """`python -m service serve` in front of a policy's engine at `url`, which its table says lives on; ready.

    Args:
        module: what `python -m` runs in the service's place.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = Store(f"sqlite:///{home / 'service.db'}")
        store.migrate()
        add_engine(store, NAME, url, MANIFEST)
        store.close()
        with running_service(home, (), module=module) as running:
            with running.client() as client:
                running.wait_for(lambda: client.get("/v1/models").json()["data"], 60)
            yield running


def add_engine(store: Store, checkpoint: str, url: str, manifest: Mapping[str, Any], kind: str = "policy") -> None:
    """Put an engine into the table, with a heartbeat that does not grow old."""
    with store.session() as session:
        session.add(
            Engine(
                checkpoint=checkpoint, kind=kind, url=url, state="ready", supervisor="none", manifest=dict(manifest),
                heartbeat=now() + timedelta(days=1),
            )
        )  # fmt: skip
