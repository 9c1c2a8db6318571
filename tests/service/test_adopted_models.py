"""Models from elsewhere, adopted and served by a real engine, give the numbers of their own forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support import architectures, tiny_models
from tests.support.live_service import running_service
from training.artifacts.rendering import Renderer
from training.stages.adopt import Config, adopt

pytestmark = pytest.mark.integration
LABEL_WEIGHTS, BIAS = (0.5, -2.0, 1.25), (3.0, 0.5, -1.0)


def test_a_reward_model_of_several_labels_with_a_bias_whose_padding_ends_turns(tmp_path: Path) -> None:
    """`/score` gives the weighted sum of the labels' logits, read where the model's own forward reads them: before the
    end of the turn, which its padding token is. What the head's bias adds to every score is part of its offset."""
    tokenizer = tiny_models.tokenizer()
    folder = architectures.save(
        tmp_path / "labels",
        "llama",
        "reward",
        num_labels=3,
        pad_token_id=tokenizer.eos_token_id,
        # vLLM's attention on CPU knows no heads narrower than 32
        hidden_size=64,
        head_dim=32,
    )
    architectures.edit_weights(folder, lambda tensors: tensors | {"score.bias": torch.tensor(BIAS)})
    adopted = adopt(Config(str(folder), label_weights=LABEL_WEIGHTS, reward_offset=0.25, home=tmp_path / "runs"))
    assert adopted.manifest.pad_id == tokenizer.eos_token_id
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    added = float(torch.tensor(BIAS) @ torch.tensor(LABEL_WEIGHTS))  # which transformers' own class leaves out
    prompt = [{"role": "user", "content": "how is the water"}]
    answers = tiny_models.sentences(12, seed=3)
    conversations = [[*prompt, {"role": "assistant", "content": text}] for text in answers]
    rows = [row.ids for row in Renderer(tokenizer).render(conversations)]
    assert all(row[-1] == tokenizer.eos_token_id for row in rows)
    with torch.no_grad():
        logits = torch.cat([model(input_ids=torch.tensor([row])).logits for row in rows])
        at_the_end = model.score(model.model(input_ids=torch.tensor([rows[0]])).last_hidden_state[0, -1])
    expected = (logits @ torch.tensor(LABEL_WEIGHTS)).tolist()
    assert abs(float(at_the_end @ torch.tensor(LABEL_WEIGHTS)) - expected[0]) > 0.1, "the two readings differ"
    with running_service(tmp_path / "runs", aliases={"reward/production": adopted.id}) as service:
        service.wait_ready()
        body = {"model": "reward/production", "messages": prompt, "responses": answers}
        with service.client() as client:
            reply = client.post("/score", json=body)
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [row["raw"] for row in data] == pytest.approx(expected, abs=1e-3)
    assert [row["score"] for row in data] == pytest.approx([value + added - 0.25 for value in expected], abs=1e-3)
    assert json.loads((adopted.path / "config.json").read_text())["id2label"] == {"0": "LABEL_0"}
