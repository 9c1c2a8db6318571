"""Bring a checkpoint that was not trained here into a folder of the store: located, checked by its headers, copied."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from training.artifacts import machine
from training.artifacts.checkpoints import MANIFEST, Kind
from training.artifacts.errors import UserError
from training.artifacts.files import exists
from training.models import unpacking, weights
from training.models.loading import load_whole

NAMED_TEMPLATES = "additional_chat_templates"  # folder in which transformers saves all but the one named `default`
COPIED = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".md"}
PICKLED = {".bin", ".pt", ".pth", ".ckpt"}
SHOW_AFTER_SECONDS = 2.0


def source_of(source: str) -> Path:
    """The local folder or GGUF file of a checkpoint, downloaded where `source` is a hub id.

    Raises:
        UserError: there is none, or it is not a model as transformers or llama.cpp save it.
    """
    path = Path(source).expanduser().resolve()
    if not exists(path):
        path = _download(source)
    if path.is_file():
        if not unpacking.is_gguf(path):
            raise UserError(f"{source} is a file: give the folder that transformers saved, or a .gguf file")
        return path
    if not _has_weights(path) and (file := unpacking.gguf_of(path)):
        return file
    if (path / MANIFEST).is_file():
        raise UserError(f"{path} has a manifest already: use its path or id, there is nothing to adopt")
    if (path / "adapter_config.json").is_file():
        raise UserError(f"{path} is a LoRA adapter: merge it into its base (merge_and_unload) and save that")
    if not (path / "config.json").is_file():
        raise UserError(f"{path} has no config.json: give a folder that transformers saved (save_pretrained)")
    return path


def _download(source: str) -> Path:
    if source.count("/") > 1 or source[:1] in {".", "/", "~"}:
        raise UserError(f"{source} does not exist: give the folder that transformers saved, or a hub id")
    import huggingface_hub

    patterns = [f"*{suffix}" for suffix in COPIED | PICKLED | {".safetensors"}]
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=patterns))
    except Exception as error:  # its transport library, and so the errors, differ between versions
        raise UserError(
            f"{source} is not a local folder, and the Hugging Face hub did not give it ({type(error).__name__}): "
            "give a folder, or check the id, the network and HF_TOKEN"
        ) from None


def _has_weights(folder: Path) -> bool:
    return bool(weights.files_of(folder)) or any(p.suffix in PICKLED for p in folder.iterdir() if p.is_file())


def copy_checkpoint(source: Path, staged: Path, kind: Kind, say: Callable[[str], None]) -> None:
    """Copy what serving needs; weights in a pickled format are loaded (tensors only) and saved as safetensors.

    Files are copied, not linked: a later run that saves into the source must not change a published checkpoint.

    Args:
        say: called with the progress, once copying has taken two seconds.

    Raises:
        UserError: no weights, a full disk, or pickled weights that do not fit in memory or that transformers refuses.
    """
    files = [file for file in source.iterdir() if file.is_file() and not file.name.startswith(".")]
    small = [file for file in files if file.suffix in COPIED or file.name.upper().startswith("LICENSE")]
    large = weights.files_of(source)
    pickled = [] if large else [file for file in files if file.suffix in PICKLED]
    if not large and not pickled:
        raise UserError(f"{source} holds no weights: give a folder with .safetensors files")
    total = sum(file.stat().st_size for file in (*small, *large, *pickled))
    free = shutil.disk_usage(staged).free
    if total > free:
        raise UserError(f"{source} takes {gib(total)} and {gib(free)} are free where --home lies: make room there")
    for file in small:
        shutil.copyfile(file, staged / file.name)
    if (source / NAMED_TEMPLATES).is_dir():
        shutil.copytree(source / NAMED_TEMPLATES, staged / NAMED_TEMPLATES)
    start, done = time.monotonic(), 0
    for file in large:

        def show(copied: int, before: int = done) -> None:
            if time.monotonic() - start > SHOW_AFTER_SECONDS:
                say(f"copying {source.name}: {gib(before + copied)} of {gib(total)}")

        weights.copy(file, staged / file.name, show)
        done += file.stat().st_size
    if pickled:
        _convert(source, staged, kind, sum(file.stat().st_size for file in pickled))


def _convert(source: Path, staged: Path, kind: Kind, size: int) -> None:
    """Pickled weights as safetensors."""
    if size > machine.memory():
        raise UserError(
            f"{source} has pickled weights of {gib(size)}, which are read whole, and {gib(machine.memory())} of memory "
            "are free: save it with safetensors, which are copied"
        )
    try:
        load_whole(source, kind, str(source)).save_pretrained(staged)
    except UserError as error:
        raise UserError(f"its pickled weights cannot be converted, save them with safetensors: {error}") from None
    for index in staged.glob("pytorch_model*.index.json"):
        index.unlink()


def gib(size: float) -> str:
    """A number of bytes in GiB, with its unit."""
    return f"{size / 2**30:.1f} GiB"
