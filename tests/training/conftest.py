"""A trained toy chain, made once for all tests of the stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.support import toy_world as toy
from training.artifacts.checkpoints import Checkpoint
from training.models import hardware


class Toy(NamedTuple):
    home: Path
    policy: Checkpoint
    reward: Checkpoint


@pytest.fixture(scope="session", autouse=True)
def full_precision() -> Iterator[None]:
    """Tests compare with tight tolerances, on machines with and without native bfloat16 or a GPU alike."""
    with hardware.full_precision(), hardware.on_cpu():
        yield


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make_home(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_chain(toy_home: Path) -> Iterator[Toy]:
    """Home, policy and reward model of the toy world. Tests read them and write elsewhere or publish beside them."""
    threads = torch.get_num_threads()
    policy, scorer = toy.make_models(toy_home)
    yield Toy(toy_home, policy, scorer)
    torch.set_num_threads(threads)
