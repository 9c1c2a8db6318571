"""Each family of chat templates through the whole chain: what is trained is what is sampled, scored and served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.families import FAMILIES
from tests.support.live_service import Running
from tests.support.toy_world import turns
from tests.support.trained_families import QUESTIONS, Chain, run_chain
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
TOGETHER = 4  # engines that start side by side
MARKS = {True: pytest.mark.integration, False: pytest.mark.slow}
Chains = Callable[[str], Chain]


def groups() -> list[Any]:
    """The families whose engines are started together: those that are served often, then the slow ones."""
    slow = [name for name in FAMILIES if name not in OFTEN]
    parts = [OFTEN, *(tuple(slow[start : start + TOGETHER]) for start in range(0, len(slow), TOGETHER))]
    return [pytest.param(part, marks=MARKS[part == OFTEN], id=", ".join(part)) for part in parts]


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Chains:
    """The chain of a family, run once for all tests."""
    return cache(lambda name: run_chain(tmp_path_factory.mktemp("chain"), name, **CHANGES.get(name, {})))


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[name in OFTEN]) for name in FAMILIES])
def test_answers_finish_after_fine_tuning_and_ppo_sees_them_finish(chains: Chains, name: str) -> None:
    chain = chains(name)
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
def served(gateway: Running, checkpoints: Sequence[Checkpoint], store: Path) -> Iterator[None]:
    """Engines of checkpoints beside those of the shared gateway, started together."""
    wanted = {checkpoint.id for checkpoint in checkpoints}
    with gateway.client() as admin:
        for checkpoint in checkpoints:
            shutil.copytree(checkpoint.path, store / checkpoint.id)
            assert admin.post("/admin/engines", json={"checkpoint": checkpoint.id}).status_code == 202
        try:
            gateway.wait_for(lambda: wanted <= {m["id"] for m in admin.get("/v1/models").json()["data"]})
            yield
        finally:
            for name in wanted:
                admin.delete(f"/admin/engines/{name}")


@pytest.mark.parametrize("names", groups())
def test_the_served_answer_stops_where_training_stops(
    chains: Chains, tiny_store: Path, gateway: Running, names: tuple[str, ...]
) -> None:
    made = {name: chains(name) for name in names}
    with served(gateway, [chain.policy for chain in made.values()], tiny_store), gateway.client() as client:
        for name, chain in made.items():
            print(name)  # for whoever reads a failure
            check_served(client, chain)


def check_served(client: httpx.Client, chain: Chain) -> None:
    """Greedy answers over HTTP are those of the trainer, to the token that ends them."""
    source = loading.load(chain.policy.id, chain.home)
    renderer = templates.renderer_for(source)
    conversations = [turns(question) for question in QUESTIONS[:8]]
    conversations[0] = [SYSTEM, *conversations[0]]
    prompts = renderer.prompts(conversations)
    ids = [prompt.ids for prompt in prompts if isinstance(prompt, Rendered)]
    assert len(ids) == 8
    greedy = generate(source.model, ids, 1, Sampling(0.0, 48, renderer.stop_ids, seed=0))
    for messages, prompt, expected in zip(conversations, ids, greedy.ids, strict=True):
        body = {"model": chain.policy.id, "messages": messages, "temperature": 0, "max_tokens": 48}
        reply = client.post("/v1/chat/completions", json=body | {"return_token_ids": True}).json()
        (choice,) = reply["choices"]
        assert reply["prompt_token_ids"] == prompt
        assert choice["token_ids"] == expected
        assert choice["finish_reason"] == "stop"
        assert expected[-1] in renderer.stop_ids
        assert choice["message"]["content"].strip().endswith(".")
