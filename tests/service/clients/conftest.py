"""What the tests of clients share: a key, and a policy that calls tools beside the random one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.live_service import Running
from tests.support.tool_caller import publish_caller


@pytest.fixture(scope="session")
def key(gateway: Running) -> str:
    return gateway.add_key("generate", "score")


@pytest.fixture(scope="session")
def client(gateway: Running, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="session")
def caller(gateway: Running, tiny_store: Path) -> Iterator[str]:
    """Id of a policy that calls the tool `weather` whatever it is asked, served by `gateway`."""
    checkpoint = publish_caller(tiny_store).id
    with gateway.client() as admin:
        assert admin.post("/admin/engines", json={"checkpoint": checkpoint}).status_code == 202
        gateway.wait_for(lambda: checkpoint in {model["id"] for model in admin.get("/v1/models").json()["data"]})
        yield checkpoint
        admin.delete(f"/admin/engines/{checkpoint}")
