"""A model that reads its weights while it computes gives the numbers of the loaded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MixtralConfig

from tests.support import tiny_models
from tests.support.architectures import CONFIGS, CONTEXT, GROUPED, edit_weights, save
from training.models import loading, probes, streaming
from training.models.weights import Entry, headers

pytestmark = pytest.mark.unit
ROWS = [[5, 6, 7, 300, 9, 8], [300, 301], [8, 8, 8, 8, 9]]


def compare(folder: Path, kind: Any) -> None:
    streamed = streaming.open_streamed(folder, kind)
    loaded = loading.load_whole(folder, kind, "m", dtype=torch.float32).eval()
    probe = probes.policy_probe if kind == "policy" else probes.reward_probe
    ours, theirs = probe(streamed, ROWS, together=True), probe(loaded, ROWS)
    assert (ours["dtype"], ours["ids"]) == ("float32", theirs["ids"])
    values = "logprobs" if kind == "policy" else "rewards"
    for our_row, their_row in zip(ours[values], theirs[values], strict=True):
        assert our_row == pytest.approx(their_row, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["policy", "reward"])
@pytest.mark.parametrize("name", CONFIGS)
def test_streamed_and_loaded_models_agree(
    tmp_path: Path, name: str, kind: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SLICE_BYTES", 32 * 4 * 7)  # 7 outputs at a time: the last slice is short
    compare(save(tmp_path / "m", name, kind, dtype), kind)


def test_no_more_than_a_slice_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices by slices of their outputs, embeddings by the rows of the tokens at hand."""
    monkeypatch.setattr(streaming, "SLICE_BYTES", 4096)
    sizes: list[int] = []
    read = Entry.read

    def recorded(self: Entry, *arguments: int) -> torch.Tensor:
        tensor = read(self, *arguments)
        sizes.append(tensor.numel() * 4)
        return tensor

    monkeypatch.setattr(Entry, "read", recorded)
    folder = save(tmp_path / "m", "llama", vocab_size=5000, intermediate_size=300)
    probes.policy_probe(streaming.open_streamed(folder, "policy"), ROWS, together=True)
    assert max(sizes) <= 4096
    # 9 tokens differ among the rows' ids; nothing else of the embedding's 5,000 rows was read
    assert sum(sizes) < 4 * sum(entry.size for entry in headers(folder).values()) - 4 * 32 * (5000 - 9) + 1


def test_an_embedding_that_scales_itself(tmp_path: Path) -> None:
    config = Gemma3TextConfig(vocab_size=400, layer_types=["sliding_attention", "full_attention"], **GROUPED, **CONTEXT)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    compare(tmp_path, "policy")


def test_weights_without_the_body_s_prefix_and_tied_ones_by_the_head_s_name(tmp_path: Path) -> None:
    """As the first GPT-2 was published; and a tied pair saved under the other name."""
    folder = edit_weights(
        save(tmp_path / "a", "gpt2"), lambda t: {name.removeprefix("transformer."): value for name, value in t.items()}
    )
    compare(folder, "policy")
    folder = edit_weights(
        save(tmp_path / "b", "llama-tied"),
        lambda t: {name.replace("model.embed_tokens", "lm_head"): value for name, value in t.items()},
    )
    compare(folder, "policy")


def test_weights_in_another_layout_are_told(tmp_path: Path) -> None:
    """Experts lie one by one in the files and are joined when they are loaded."""
    sizes = {**GROUPED, **CONTEXT, "num_local_experts": 4, "vocab_size": len(tiny_models.tokenizer())}
    AutoModelForCausalLM.from_config(MixtralConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(streaming.NotStreamableError):
        streaming.open_streamed(tmp_path, "policy")
