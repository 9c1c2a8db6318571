"""`/v1/loglikelihood` through the real engine: its values are those of prompts that are computed whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from service.engines.planning import BLOCK_TOKENS
from service.likelihoods import SCORE_FROM, TOKENS
from service.store.models import Engine
from tests.support.live_service import Running
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
Ids = list[int]


def post(gateway: Running, body: dict[str, Any], key: str | None = None, path: str = "/v1/loglikelihood") -> Any:
    with gateway.client(key) as client:
        return client.post(path, json={"model": "policy/production"} | body, timeout=120)


def pairs_body(pairs: Sequence[tuple[Ids, Ids]]) -> list[dict[str, Ids]]:
    return [{"context": context, "continuation": continuation} for context, continuation in pairs]


def whole(gateway: Running, pairs: Sequence[tuple[Ids, Ids]]) -> list[tuple[list[float], list[bool]]]:
    """Values from completions, for which vLLM never reads its cache."""
    rows = []
    for begin in range(0, len(pairs), 64):
        part = pairs[begin : begin + 64]
        body = {"prompt": [a + b for a, b in part], "prompt_logprobs": 0, "max_tokens": 1, "temperature": 0}
        answer = post(gateway, body, path="/v1/completions").json()
        for choice, (a, b) in zip(sorted(answer["choices"], key=lambda c: c["index"]), part, strict=True):
            entries = [choice["prompt_logprobs"][len(a) + place][str(token)] for place, token in enumerate(b)]
            rows.append(([entry["logprob"] for entry in entries], [entry["rank"] == 1 for entry in entries]))
    return rows


def engine(gateway: Running, model: str) -> str:
    """Address of the policy's engine."""
    with gateway.store.session() as session:
        (url,) = [row.url for row in session.query(Engine) if row.checkpoint == model]
    return url


def cached(gateway: Running, model: str) -> float:
    """Prompt tokens that the policy's engine has read from its cache, by its own metrics."""
    lines = httpx.get(f"{engine(gateway, model)}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))


def adversarial(rng: random.Random, vocabulary: int) -> list[tuple[Ids, Ids]]:
    """Choices of questions whose contexts end around a block's end, that begin alike up to and beyond it, or repeat."""

    def ids(count: int) -> Ids:
        return [rng.randrange(5, vocabulary) for _ in range(count)]

    pairs: list[tuple[Ids, Ids]] = []
    for blocks in (1, 2, 3):
        for beside in (-2, -1, 0, 1, 2):
            context = ids(blocks * BLOCK_TOKENS + beside)
            start = ids(rng.randint(0, 3))
            pairs += [(context, start + ids(rng.randint(1, 40))) for _ in range(4)]
    context = ids(20)
    alike = ids(2 * BLOCK_TOKENS)
    pairs += [(context, alike[:count] + ids(3)) for count in (10, 11, 12, 13, 43, 44, 45)]
    pairs += [(context[:10], context[10:] + alike), (context + alike[:12], alike[12:]), pairs[0], pairs[5]]
    pairs += [(ids(rng.randint(1, 120)), ids(rng.randint(1, 30))) for _ in range(60)]
    few_shot = ids(100)
    for _ in range(15):
        question = few_shot + ids(rng.randint(1, 50))
        pairs += [(question, ids(rng.randint(1, 10))) for _ in range(4)]
    return pairs


@pytest.mark.parametrize("order", ["as they come", "shuffled"])
def test_values_are_those_without_the_cache(gateway: Running, tiny_policy: Checkpoint, order: str) -> None:
    rng = random.Random(order)
    pairs = adversarial(rng, 500)
    if order == "shuffled":
        rng.shuffle(pairs)
    expected = whole(gateway, pairs)
    before = cached(gateway, tiny_policy.id)
    salt = f"test {order}"
    for attempt in range(2):  # by the second, every prompt of this salt is in the cache as a whole
        answer = post(gateway, {"pairs": pairs_body(pairs), "cache_salt": salt})
        assert answer.status_code == 200, answer.text
        rows = answer.json()["data"]
        assert [row["index"] for row in rows] == list(range(len(pairs)))
        for row, (values, greedy), pair in zip(rows, expected, pairs, strict=True):
            assert row["logprobs"] == pytest.approx(values, abs=1e-5), (attempt, pair)
            assert row["greedy"] == greedy
    few_shot_tokens = 59 * 96  # of 60 prompts that begin with the same three blocks, all but the first read them
    assert cached(gateway, tiny_policy.id) - before >= few_shot_tokens


@pytest.mark.parametrize("first", [1, 2, 5, 8])
def test_our_engines_leave_out_what_no_value_is_needed_of(
    gateway: Running, tiny_policy: Checkpoint, first: int
) -> None:
    """Positions before the first needed one have an id that no token has; the others are those of the whole prompt."""
    ids = [11, 12, 13, 14, 15, 16, 17, 18, 19]
    rows = []
    for start in (0, first):
        sampling = {"prompt_logprobs": 0, "max_tokens": 1, "temperature": 0, "extra_args": {SCORE_FROM: start}}
        body = {"model": tiny_policy.id, "token_ids": ids, "sampling_params": sampling | {"detokenize": False}}
        answer = httpx.post(engine(gateway, tiny_policy.id) + TOKENS, json=body, trust_env=False, timeout=60)
        rows.append(answer.json()["prompt_logprobs"])
    whole_prompt, part = rows
    assert [list(row) for row in part[1:first]] == [["-1"]] * (first - 1)
    for place in range(first, len(ids)):
        one, other = part[place][str(ids[place])], whole_prompt[place][str(ids[place])]
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-5)
        assert one["rank"] == other["rank"]


def test_a_pair_that_cannot_be_computed_does_not_spoil_the_others(gateway: Running) -> None:
    pairs = [([5, 6, 7], [8, 9]), ([5] * 250, [6] * 50), ([], [5]), ([5], []), ([5, 6, 7], [10**6]), ([5, 6], [7])]
    answer = post(gateway, {"pairs": pairs_body(pairs)})
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    expected = whole(gateway, [pairs[0], pairs[5]])
    assert (rows[0]["logprobs"], rows[5]["logprobs"]) == (
        pytest.approx(expected[0][0], abs=1e-5),
        pytest.approx(expected[1][0], abs=1e-5),
    )
    codes = [row["error"]["code"] if "error" in row else None for row in rows]
    assert codes == [None, "context_length_exceeded", "invalid_value", "invalid_value", "invalid_value", None]
    assert all("logprobs" not in rows[place] for place in (1, 2, 3, 4))
    assert "context" in rows[2]["error"]["message"]
    assert "continuation" in rows[3]["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "pairs"),
        ({"pairs": []}, 400, "pairs"),
        ({"pairs": [{"context": [1.5], "continuation": [2]}]}, 400, "context"),
        ({"pairs": [{"context": [True], "continuation": [2]}]}, 400, "context"),
        ({"pairs": [{"context": [-1], "continuation": [2]}]}, 400, "context"),
        ({"pairs": [{"context": [1], "continuation": [2], "prompt": "a"}]}, 400, "prompt"),
        ({"pairs": [{"context": [1], "continuation": [2]}], "cache_salt": ""}, 400, "cache_salt"),
        ({"pairs": [{"context": [1], "continuation": [2]}] * 1025}, 400, "send fewer"),
        ({"pairs": [{"context": [1], "continuation": [2]}], "model": "reward/production"}, 400, "is a reward model"),
        ({"pairs": [{"context": [1], "continuation": [2]}], "model": "nobody"}, 404, "does not exist"),
    ],
)
def test_mistakes(gateway: Running, body: dict[str, Any], status: int, message: str) -> None:
    answer = post(gateway, body)
    assert (answer.status_code, message in answer.text) == (status, True), answer.text


def test_a_key_needs_the_scope(gateway: Running) -> None:
    body = {"pairs": pairs_body([([5], [6])])}
    assert post(gateway, body, gateway.add_key("score")).status_code == 403
    assert post(gateway, body, gateway.add_key("eval")).status_code == 200
