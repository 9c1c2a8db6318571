"""Models as they are trained: nothing random is left in their forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    GPT2Config,
    GPTBigCodeConfig,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    XGLMConfig,
)

from training.artifacts.errors import UserError
from training.models import building, memory

pytestmark = pytest.mark.unit
SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT: dict[str, Any] = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 2}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt-2": GPT2Config(**GPT, attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5),
    "gpt-bigcode": GPTBigCodeConfig(**GPT, attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5),
    "opt": OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5, attention_dropout=0.5, layerdrop=0.5),
    "xglm": XGLMConfig(vocab_size=50, d_model=32, num_layers=2, attention_heads=2, ffn_dim=64, activation_dropout=0.5),
    "biogpt": BioGptConfig(**SIZES, intermediate_size=64, hidden_dropout_prob=0.5, layerdrop=0.5),
    "mixtral": MixtralConfig(
        **SIZES, intermediate_size=64, num_key_value_heads=2, attention_dropout=0.5, router_jitter_noise=0.5
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_checkpointed_activations_change_no_number(name: str) -> None:
    """transformers checkpoints in training mode only, in which a model's own dropout would take part."""
    torch.manual_seed(0)
    model = building.without_dropout(AutoModelForCausalLM.from_config(CONFIGS[name])).eval()
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    expected = model(ids, use_cache=False).logits
    memory.checkpoint_activations(model)
    torch.testing.assert_close(model(ids, use_cache=False).logits, expected)


def test_an_architecture_without_scores_is_refused_in_one_line(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a mamba model, which has no form with a score: use another"):
        building.new_scalar_head(str(tmp_path), 0, 0)
