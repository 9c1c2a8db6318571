"""A real model from its GGUF file is adopted and served with no setting at all, and knows a capital."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import Running, running_service
from training.stages.adopt import Config, adopt

pytestmark = pytest.mark.integration
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_smollm2_is_adopted_and_answers(smollm2: Path, tmp_path: Path) -> None:
    adopted = adopt(Config(str(smollm2), home=tmp_path))
    manifest = adopted.manifest
    assert (manifest.kind, manifest.context, manifest.metrics["parameters"]) == ("policy", 8192, 134_515_008)
    assert manifest.base_model == "SmolLM2-135M-Instruct.Q4_1"
    assert (adopted.path / "model.safetensors").stat().st_size == pytest.approx(134_515_008 * 2, rel=0.01)
    assert len(manifest.probe["logprobs"]) == 3
    with running_service(tmp_path, ("--with-engines", adopted.id)) as service:
        service.wait_for(lambda: adopted.id in {model["id"] for model in models(service)})
        body = {
            "model": adopted.id,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
        }
        with service.client() as client:
            reply = client.post("/v1/chat/completions", json=body)
            with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
                chunks = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
            form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
            structured = client.post("/v1/chat/completions", json={**body, "response_format": form, "max_tokens": 60})
            tool = {"type": "function", "function": {"name": "weather"}}
            no_tools = client.post("/v1/chat/completions", json={**body, "tools": [tool]})
        (model,) = models(service)
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    deltas = [part["delta"].get("content") or "" for chunk in chunks for part in chunk["choices"]]
    assert "".join(deltas) == choice["message"]["content"]
    assert json.loads(structured.json()["choices"][0]["message"]["content"]) in [{"city": "Paris"}, {"city": "Rome"}]
    assert model["max_model_len"] == 8192
    error = no_tools.json()["error"]
    assert (no_tools.status_code, error["param"], error["code"]) == (400, "tools", "tools_unsupported")
    assert error["message"] == f"{adopted.id} has no tools: its chat template does not tell the model about them"


def models(service: Running) -> list[dict[str, Any]]:
    with service.client() as client:
        data: list[dict[str, Any]] = client.get("/v1/models").json()["data"]
        return data
