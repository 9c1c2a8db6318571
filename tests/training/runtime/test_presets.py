"""Every preset fits the stages that it has tables of."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import MODULES
from training.runtime.configuration import PRESETS, from_preset

pytestmark = pytest.mark.unit
FILES = sorted(PRESETS.glob("*.toml"))
TABLES = [
    (file, stage)
    for file in FILES
    for stage, table in tomllib.loads(file.read_text()).items()
    if isinstance(table, dict) and stage != "world"  # its size and seed are checked by whoever reads the preset
]


@pytest.mark.parametrize(("file", "stage"), TABLES, ids=[f"{file.stem}-{stage}" for file, stage in TABLES])
def test_its_tables_are_options_of_their_stages(file: Path, stage: str) -> None:
    module: Any = importlib.import_module(MODULES[stage])
    from_preset(module.Config, stage, str(file))


def test_an_untried_recipe_says_so_first() -> None:
    assert (PRESETS / "llama-8b-8gpu.toml").read_text().startswith("# UNTRIED.")
