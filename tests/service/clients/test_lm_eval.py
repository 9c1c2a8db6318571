"""lm-eval's own models of an OpenAI server, `local-completions` and `local-chat-completions`, on the service."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from tests.support.live_service import Running
from tests.support.tiny_models import sentences
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hf(tiny_policy: Checkpoint) -> Any:
    """The same checkpoint, computed by lm-eval with transformers."""
    return get_model("hf")(pretrained=str(tiny_policy.path), dtype="float32", device="cpu", batch_size=8)


def served(name: str, gateway: Running, tiny_policy: Checkpoint, path: str, **options: Any) -> Any:
    return get_model(name)(
        model="policy/production", base_url=f"{gateway.url}{path}", tokenizer=str(tiny_policy.path), **options
    )


@pytest.fixture(autouse=True)
def openai_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)


def requests(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, row, number) for number, row in enumerate(arguments)]


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}, {"num_concurrent": 4}])
def test_local_completions_finds_the_log_probabilities_of_transformers(
    gateway: Running, tiny_policy: Checkpoint, hf: Any, options: dict[str, Any]
) -> None:
    pairs = list(zip(sentences(24, 30, 10), [f" {text}" for text in sentences(24, 31, 5)], strict=True))
    model = served("local-completions", gateway, tiny_policy, "/v1/completions", **options)
    found = model.loglikelihood(requests("loglikelihood", pairs))
    expected = hf.loglikelihood(requests("loglikelihood", pairs))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-2)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_local_completions_scores_whole_texts(gateway: Running, tiny_policy: Checkpoint, hf: Any) -> None:
    texts = [(text,) for text in sentences(8, 32, 20)]
    model = served("local-completions", gateway, tiny_policy, "/v1/completions")
    found = model.loglikelihood_rolling(requests("loglikelihood_rolling", texts))
    assert found == pytest.approx(hf.loglikelihood_rolling(requests("loglikelihood_rolling", texts)), abs=1e-2)


def test_local_completions_writes_the_text_of_transformers(gateway: Running, tiny_policy: Checkpoint, hf: Any) -> None:
    settings = {"until": ["."], "max_gen_toks": 12, "do_sample": False}
    asked = [(text, dict(settings)) for text in sentences(8, 33, 10)]
    model = served("local-completions", gateway, tiny_policy, "/v1/completions")
    found = model.generate_until(requests("generate_until", asked))
    expected = hf.generate_until(requests("generate_until", [(text, dict(settings)) for text, _ in asked]))
    # A character cut in the middle by the limit: the engine holds it back, transformers shows U+FFFD.
    assert [text.rstrip("\ufffd") for text in found] == [text.rstrip("\ufffd") for text in expected]


def test_local_chat_completions_writes_what_a_chat_writes(
    gateway: Running, tiny_policy: Checkpoint, client: Any
) -> None:
    model = served("local-chat-completions", gateway, tiny_policy, "/v1/chat/completions")
    texts = sentences(4, 34, 10)
    asked = []
    for text in texts:
        turns: Any = model.apply_chat_template([{"role": "user", "content": text}])
        asked.append((turns, {"until": ["."], "max_gen_toks": 12}))
    found = model.generate_until(requests("generate_until", asked))
    for text, answer in zip(texts, found, strict=True):
        own = client.chat.completions.create(
            model="policy/production", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=12,
            stop=["."],
        )  # fmt: skip
        assert answer == own.choices[0].message.content
