"""Each family of chat templates through the whole chain: what is trained is what is sampled, scored and served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.families import FAMILIES
from tests.support.live_service import Running
from tests.support.toy_world import turns
from tests.support.trained_families import QUESTIONS, run_chain
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.rendering import Rendered
from training.models import loading, templates
from training.rl.rollouts import Sampling, generate

SYSTEM = {"role": "system", "content": "be brief ."}
# Settings of fine-tuning: system turns that the template refuses, base models without a template.
CHANGES: dict[str, dict[str, Any]] = {
    "Gemma 2": {"system": "merge"},
    "Mistral": {"system": "merge"},
    "Orion": {"system": "merge"},
    "Alpaca": {"chat_template": "default"},
}
OFTEN = ("Qwen 3", "Gemma 2", "Vicuna", "Alpaca")


def cases(names: tuple[str, ...]) -> list[Any]:
    """Every family; those not named are slow."""
    often, slow = pytest.mark.integration, pytest.mark.slow
    return [pytest.param(name, marks=often if name in names else slow) for name in FAMILIES]


@pytest.mark.parametrize("name", cases(OFTEN))
def test_answers_finish_after_fine_tuning_and_ppo_sees_them_finish(tmp_path: Path, name: str) -> None:
    chain = run_chain(tmp_path, name, **CHANGES.get(name, {}))
    responses = [response for row in chain.samples for response in row["responses"]]
    finished = [response for response in responses if response["finish_reason"] == "stop"]
    assert len(finished) >= 0.95 * len(responses) == 0.95 * 48
    # Most are an answer of the demonstrations, word for word: nothing that the template writes is left in the text.
    assert sum(r["text"].startswith("the ") and r["text"].endswith(" .") for r in finished) > 0.7 * len(finished)
    assert chain.ppo.manifest.metrics["raw/finished"] >= 0.9
    assert chain.ppo.manifest.stop_ids == chain.policy.manifest.stop_ids == chain.reward.manifest.stop_ids
    assert {c.manifest.system for c in (chain.policy, chain.reward, chain.ppo)} == {
        CHANGES.get(name, {}).get("system", "keep")
    }
    usage = chain.policy.manifest.data["demonstrations"]
    assert (usage["rows"], usage["skipped"]) == (48, {})


@contextmanager
def served(gateway: Running, checkpoint: Checkpoint, store: Path) -> Iterator[None]:
    """An engine of a checkpoint beside those of the shared gateway."""
    shutil.copytree(checkpoint.path, store / checkpoint.id)
    with gateway.client() as admin:
        assert admin.post("/admin/engines", json={"checkpoint": checkpoint.id}).status_code == 202
        gateway.wait_for(lambda: checkpoint.id in {m["id"] for m in admin.get("/v1/models").json()["data"]})
        try:
            yield
        finally:
            admin.delete(f"/admin/engines/{checkpoint.id}")


@pytest.mark.parametrize("name", cases(("Gemma 2",)))
def test_the_served_answer_stops_where_training_stops(
    tmp_path: Path, tiny_store: Path, gateway: Running, name: str
) -> None:
    policy = run_chain(tmp_path, name, **CHANGES.get(name, {})).policy
    source = loading.load(policy.id, tmp_path)
    renderer = templates.renderer_for(source)
    conversations = [turns(question) for question in QUESTIONS[:8]]
    conversations[0] = [SYSTEM, *conversations[0]]
    prompts = renderer.prompts(conversations)
    ids = [prompt.ids for prompt in prompts if isinstance(prompt, Rendered)]
    assert len(ids) == 8
    greedy = generate(source.model, ids, 1, Sampling(0.0, 48, renderer.stop_ids, seed=0))
    with served(gateway, policy, tiny_store), gateway.client() as client:
        for messages, prompt, expected in zip(conversations, ids, greedy.ids, strict=True):
            body = {"model": policy.id, "messages": messages, "temperature": 0, "max_tokens": 48}
            reply = client.post("/v1/chat/completions", json=body | {"return_token_ids": True}).json()
            (choice,) = reply["choices"]
            assert reply["prompt_token_ids"] == prompt
            assert choice["token_ids"] == expected
            assert choice["finish_reason"] == "stop"
            assert expected[-1] in renderer.stop_ids
            assert choice["message"]["content"].strip().endswith(".")
