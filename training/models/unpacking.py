"""GGUF files: which one of a folder, and its weights unpacked into a Hugging Face folder."""

from __future__ import annotations

import io
import math
import re
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.gguf.reader import GgufHeader

from training.artifacts import machine
from training.artifacts.errors import UserError
from training.models.checks import check_kind, check_report, first_line

SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def gguf_of(folder: Path) -> Path | None:
    """The GGUF model of a folder, None without one.

    Raises:
        UserError: there are several.
    """
    # A projector (mmproj) is a part that turns images into tokens.
    files = sorted(p for p in folder.iterdir() if is_gguf(p) and p.is_file() and not p.name.startswith("mmproj"))
    wholes = {SPLIT.sub("", file.name) for file in files}
    if len(wholes) > 1:
        names = ", ".join(file.name for file in files[:4]) + (", ..." if len(files) > 4 else "")
        raise UserError(f"{folder} holds {len(wholes)} GGUF models ({names}): give one of the files")
    return files[0] if files else None


def unpack(file: Path, folder: Path) -> None:
    """Write model, tokenizer and configuration of a GGUF file into `folder` as transformers saves them.

    Files of float32 or float16 stay so; quantised weights become bfloat16, whose error is a tenth of theirs or less.

    Raises:
        UserError: it is not a whole GGUF file, its architecture is unknown, or memory does not hold its weights.
    """
    parts = SPLIT.search(file.name)
    if parts and int(parts[1]) > 1:
        raise UserError(f"{file} is one of {int(parts[1])} parts: join them first (llama-gguf-split --merge)")
    dtype, size = _contents(file)
    need, free = size * dtype.itemsize, machine.memory()
    if need > free:
        raise UserError(
            f"{file} needs {need / 2**30:.1f} GiB of memory to be unpacked and {free / 2**30:.1f} are free: adopt the "
            "model's safetensors instead, which are copied"
        )
    try:
        # Its readers draw bars on stderr, which belongs to the caller's own.
        with redirect_stderr(io.StringIO()):
            model, report = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except Exception as error:  # readers of GGUF raise errors of many kinds on what they do not know
        raise UserError(f"{file} cannot be used: {first_line(error)}") from None
    check_kind(model.config, "policy", str(file))
    check_report(report, "policy", str(file))
    _plain(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _contents(file: Path) -> tuple[torch.dtype, int]:
    """The dtype to unpack to, and the number of weights, from the file's header."""
    try:
        header = GgufHeader.from_file(str(file))
        sizes = [math.prod(tensor.shape) for tensor in header.tensors]
        end = max(header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors)
        dtype = header.dtype or torch.bfloat16
    except Exception as error:  # a damaged file ends in whatever its bytes happen to be read as
        raise UserError(f"{file} is not a whole GGUF model: fetch it again ({first_line(error)})") from None
    if end > file.stat().st_size:
        raise UserError(f"{file} is not a whole GGUF model: fetch it again (it ends before its last weight)")
    return dtype, sum(sizes)


def _plain(model: Any) -> Any:
    """The same weights in a model that knows nothing of GGUF: transformers refuses to save one that does."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        fresh = type(model)(config)
    state = model.state_dict()
    fresh.load_state_dict(state, assign=True)
    fresh.tie_weights()
    fresh.generation_config = model.generation_config
    return fresh
