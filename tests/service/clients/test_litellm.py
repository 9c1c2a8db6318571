"""LiteLLM as a client of the service and real engines, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support import litellm_client
from tests.support.live_service import Running
from tests.support.tool_caller import CALLS, SCHEMA

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LITELLM = "litellm==1.110.2"
HELLO: list[Any] = [{"role": "user", "content": "how is the water"}]


@pytest.fixture(scope="module")
def litellm_python() -> Path:
    """The interpreter beside $ALIGNLOOP_LITELLM, or that of an environment made once in the user's cache.

    Where the package index cannot be reached the test is skipped.
    """
    given = os.environ.get("ALIGNLOOP_LITELLM")
    if given:
        return Path(given).with_name("python")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignloop-tests"
    folder = cache / LITELLM
    python = folder / "bin/python"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", LITELLM], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{LITELLM} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    return python


def test_litellm_says_what_openais_client_says(
    gateway: Running, key: str, client: openai.OpenAI, caller: str, litellm_python: Path
) -> None:
    asked = {
        "api_base": f"{gateway.url}/v1", "api_key": key, "model": "policy/production", "caller": caller,
        "messages": HELLO, "prompt": "the water", "schema": SCHEMA,
    }  # fmt: skip
    done = subprocess.run(
        [litellm_python, litellm_client.__file__], input=json.dumps(asked), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    own = client.chat.completions.create(model="policy/production", messages=HELLO, temperature=0, max_tokens=12)
    assert own.usage is not None
    content, tokens = own.choices[0].message.content, own.usage.completion_tokens
    assert (found["chat"], found["tokens"]) == (content, tokens)
    assert (found["streamed"], found["streamed_tokens"]) == (content, [tokens])
    assert found["again"]
    assert set(json.loads(found["structured"])) == {"city", "warm"}
    assert [json.loads(arguments) for arguments in found["calls"]] == list(CALLS)
    text = client.completions.create(model="policy/production", prompt="the water", temperature=0, max_tokens=12)
    assert found["text"] == text.choices[0].text
    kind, message = found["unknown"]
    assert kind == "NotFoundError"
    assert "does not exist" in message
    kind, message = found["embedding"]
    assert kind == "BadRequestError"
    assert "makes no embeddings" in message
