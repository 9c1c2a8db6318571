"""A dry run shows what would be asked, and asks nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from rich.console import Console

from evals import run
from evals.options import Config
from evals.preview import print_first_requests

pytestmark = pytest.mark.unit


def test_the_first_request_of_a_task_is_shown_as_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"query": f"Who {i}?", "choices": ["Ada", "Bo Én"], "gold": 1} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = tmp_path / "b.txt"
    text.write_text("some text\n")
    data = (f"quiz={file}", f"heldout:text={text}")
    config = Config(checkpoint=("any:plain",), data=data, home=tmp_path / "home", real=True)
    setting = run.prepare(config)
    console = Console(width=200)
    with console.capture() as shown:
        asyncio.run(print_first_requests(setting.suites, setting.sources, config, console))
    for part in ('"context": "Who 0?"', '"continuation": " Ada"', '"continuation": " Bo Én"', "some text"):
        assert part in shown.get()
    assert "Who 1?" not in shown.get()
