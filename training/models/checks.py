"""Whether a model is whole and of the right kind: by its configuration, and by what transformers reports of loading."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from training.artifacts.checkpoints import Kind
from training.artifacts.errors import UserError
from training.artifacts.files import exists

ENDINGS: dict[str, Kind] = {"ForSequenceClassification": "reward", "ForCausalLM": "policy", "LMHeadModel": "policy"}
LANGUAGE_HEADS = ("lm_head.", "embed_out.")  # by which architectures call their output matrix
OTHER_HEADS = re.compile(r"For(TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM)$")
# What training saved beside weights and no version of the model reads: tables and masks that are computed anew.
BUFFERS = re.compile(r"(^|\.)(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids|num_batches_tracked)$")


def read_config(path: str | Path, name: str) -> Any:
    """The model's configuration. Raises `UserError` where the hub does not give it or transformers cannot use it."""
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # each configuration class checks its fields in its own way
        if not exists(Path(path)):
            raise UserError(
                f"{name} is neither a checkpoint nor a folder here, and the Hugging Face hub did not give it "
                f"({type(error).__name__}): check the id, the network and HF_TOKEN"
            ) from None
        raise UserError(f"the config.json of {name} cannot be used: {first_line(error)}") from None


def kind_of(config: Any) -> Kind | None:
    """What a configuration's architecture does; None where its name does not tell."""
    for architecture in config.architectures or []:
        for ending, kind in ENDINGS.items():
            if architecture.endswith(ending):
                return kind
    return None


def check_kind(config: Any, kind: Kind, name: str) -> None:
    """Raise `UserError` unless the configuration is that of a decoder which writes (policy) or scores (reward)."""
    architectures = ", ".join(config.architectures or [type(config).__name__])
    if getattr(config, "is_encoder_decoder", False):
        form = "an encoder-decoder"
    elif config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        form = "an encoder"
    else:
        form = ""
    if form:
        raise UserError(f"{name} is {form} ({architectures}): use a decoder, such as a Llama, Qwen or GPT-NeoX model")
    actual = kind_of(config)
    if actual is not None and actual != kind:
        raise UserError(f"{name} is a {actual} model ({architectures}), not a {kind} model: name one of that kind")
    if any(OTHER_HEADS.search(architecture) for architecture in config.architectures or []):
        raise UserError(f"{name} neither writes nor scores text ({architectures}): name a {kind} model")


def check_labels(config: Any, name: str) -> None:
    """Raise `UserError` unless a classifier's configuration has one label."""
    if config.num_labels != 1:
        raise UserError(
            f"{name} has {config.num_labels} labels and a reward model gives one score: adopt it with --label-weights "
            f"({config.num_labels} numbers, one per label), which makes one score of them"
        )


def quantisation(config: Any) -> str | None:
    """The method of quantised weights (awq, gptq, fp8, ...), None for plain ones."""
    about = getattr(config, "quantization_config", None)
    if about is None:
        return None
    method = about.get("quant_method") if isinstance(about, Mapping) else getattr(about, "quant_method", None)
    return str(getattr(method, "value", method) or "unknown method")


def check_report(
    report: Mapping[str, Any], kind: Kind, name: str, *, new: Collection[str] = (), unused: Collection[str] = ()
) -> None:
    """Raise `UserError` for weights that are missing, left over or of another shape.

    Args:
        report: as `from_pretrained(..., output_loading_info=True)` gives it; tied weights are not in it.
        new: weights that are made anew and need not be in the files.
        unused: weights of the files that are left out on purpose.
    """
    mismatched = sorted(report.get("mismatched_keys") or ())
    missing = sorted(set(report["missing_keys"]) - set(new))
    unexpected = sorted(key for key in report["unexpected_keys"] if key not in unused and not BUFFERS.search(key))
    errors = list(report.get("error_msgs") or ())
    head, other_head = ("score.", LANGUAGE_HEADS) if kind == "reward" else ("lm_head.", ("score.",))
    renamed = [key for key in unexpected if not key.startswith(other_head)]
    if missing and all(key.startswith(head) for key in missing) and renamed:
        raise UserError(
            f"{name} has no weights for its head `{missing[0]}` but has `{renamed[0]}`: save its head under that "
            "name, or name another model"
        )
    if missing:
        raise UserError(f"{name} lacks {_count(missing)}, such as `{missing[0]}`: give a whole {kind} checkpoint")
    if mismatched:
        key, stored, described = mismatched[0]
        raise UserError(
            f"{name}: `{key}` has shape {tuple(stored)}, by its config.json {tuple(described)}: "
            "give weights and config.json of one model"
        )
    if unexpected == ["score.bias"]:
        raise UserError(
            f"the head of {name} has a bias: adopt it (`python -m training adopt`), which takes the bias into the "
            "offset of its rewards"
        )
    if unexpected:
        raise UserError(
            f"{name} has {_count(unexpected)} that its config.json does not describe, such as `{unexpected[0]}`: "
            f"save it as a plain {kind} model, without what else was trained"
        )
    if errors:
        raise UserError(f"{name} cannot be loaded as a {kind} model: {str(errors[0]).splitlines()[0]}")


def check_head(model: Any, name: str) -> None:
    """Raise `UserError` unless the classifier's head is a linear layer called `score`, the only one that is served."""
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise UserError(
            f"{name}: {type(model).__name__} has no linear head named `score`: engines serve no other reward model"
        )


def _count(keys: list[str]) -> str:
    return f"{len(keys)} weight{'s' if len(keys) > 1 else ''}"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
