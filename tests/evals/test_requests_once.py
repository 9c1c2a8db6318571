"""What several suites of a run need is asked once, whether answers of earlier runs are used or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evals.options import Config
from evals.run import main
from tests.support import world_sample
from tests.support.proxy import proxied

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world_sample.write(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("cache", [True, False])
def test_no_request_is_sent_twice(world: Path, tmp_path: Path, cache: bool) -> None:
    sent: Counter[str] = Counter()

    def engine(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/models":
            return 200, {"data": [{"id": "m"}, {"id": "r"}]}
        sent[json.dumps([path, body], sort_keys=True)] += 1
        if path == "/score":
            return 200, {"data": [{"index": i, "score": 0.5} for i in range(len(body["conversations"]))]}
        return 200, {"choices": [{"index": 0, "message": {"content": "i do not know ."}, "finish_reason": "stop"}]}

    with proxied("nowhere") as proxy:
        proxy.fault = engine
        status = main(
            Config(
                checkpoint=("m",), reward="r", suite=("preference", "reward", "honesty"), url=proxy.url, home=tmp_path,
                world=world, out=tmp_path / "out", cache=cache,
            )
        )  # fmt: skip
    assert status == 0
    assert sum("/v1/chat/completions" in request for request in sent) == 8 + 4 * 8
    assert set(sent.values()) == {1}
    assert (tmp_path / "out" / "answers").is_dir() == cache
