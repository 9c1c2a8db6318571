"""Residual dropout: seeded by step, row and layer, so that no cut into passes changes a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from tests.support import architectures
from training.artifacts.errors import UserError
from training.data.items import Example
from training.models import building, memory
from training.models.dropout import ResidualDropout
from training.stages import sft

pytestmark = pytest.mark.unit


def load(folder: Path) -> Any:
    return building.without_dropout(AutoModelForCausalLM.from_pretrained(folder))


def examples(count: int = 6) -> list[Example]:
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 500, size=4 + 3 * number) for number in range(count)]
    return [Example(row, np.ones(len(row), np.uint8)) for row in rows]


def gradients(model: Any, dropped: ResidualDropout | None, tokens: int, step: int = 0) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    loss = sft.add_gradients(model, examples(), tokens, dropout=dropped, step=step)
    return loss, torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", architectures.CONFIGS)
def test_every_architecture_drops_and_no_cut_into_passes_changes_it(name: str, tmp_path: Path) -> None:
    model = load(architectures.save(tmp_path, name))
    without = gradients(model, None, 10_000)
    dropped = ResidualDropout(model, 0.2, seed=3)
    whole = gradients(model, dropped, 10_000)
    assert abs(whole[0] - without[0]) > 1e-3
    for tokens in (1, 40):
        loss, gradient = gradients(model, dropped, tokens)
        assert loss == pytest.approx(whole[0], abs=1e-5)
        torch.testing.assert_close(gradient, whole[1], atol=1e-5, rtol=1e-3)
    assert gradients(model, dropped, 10_000, step=1)[0] != pytest.approx(whole[0], abs=1e-4)
    again = gradients(model, dropped, 10_000)
    assert again[0] == whole[0]
    assert torch.equal(again[1], whole[1])
    assert gradients(model, None, 10_000)[0] == without[0]  # nothing is dropped outside a block


def test_activations_that_are_computed_again_drop_the_same(tmp_path: Path) -> None:
    model = load(architectures.save(tmp_path, "llama"))
    dropped = ResidualDropout(model, 0.2, seed=3)
    plain = gradients(model, dropped, 10_000)
    memory.checkpoint_activations(model)
    loss, gradient = gradients(model, dropped, 10_000)
    assert loss == pytest.approx(plain[0], abs=1e-6)
    torch.testing.assert_close(gradient, plain[1], atol=1e-6, rtol=1e-4)


def test_a_fifth_of_what_is_added_is_dropped_and_the_mean_stays(tmp_path: Path) -> None:
    model = load(architectures.save(tmp_path, "llama"))
    dropped = ResidualDropout(model, 0.2, seed=0)
    part, seen = model.model.layers[0].mlp, []
    part.register_forward_hook(lambda module, arguments, output: seen.append(output))
    ids = torch.arange(5, 105)[None]
    with torch.no_grad():
        model(ids)
        with dropped.rows(0, [0], [100]):
            model(ids)
    share = float((seen[1] == 0).float().mean())
    assert share == pytest.approx(0.2, abs=0.03)  # of 3,200 numbers: four standard deviations
    mask = torch.ones(100, 32)
    with dropped.rows(0, [0], [100]):
        mask = dropped._mask(0, mask[None])[0]
    assert set(mask.unique().tolist()) == {0.0, 1.25}


def test_layers_that_add_elsewhere_are_refused() -> None:
    config = BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=2)
    with pytest.raises(UserError, match="--dropout: BloomForCausalLM has parts that cannot be dropped"):
        ResidualDropout(BloomForCausalLM(config), 0.2, seed=0)
