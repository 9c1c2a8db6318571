"""`python -m training world`: write the miniature world of a seed as the files that training and evaluation read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder, sha256_file, to_disk
from training.miniature.items import KINDS
from training.miniature.prompts import row
from training.miniature.world import SIZES, World, world_name
from training.runtime.configuration import parse

PURPOSES = ("reward", "ppo", "collect", "evaluation")
GROUPS = ("training", "heldout")
LOCKED = "locked"  # folder of the files that are measured once, for published figures


@dataclass(frozen=True)
class WorldConfig:
    """Write the miniature world: text, demonstrations, prompts, items, labelers. An existing world is kept."""

    home: Path = Path("runs")
    """Folder of everything that commands make; the world goes to HOME/world/VERSION-SIZE-SEED."""
    seed: int = 0
    """Seed of the whole world."""
    size: str = "demo"
    """`demo` (2.7 million words of text) or `miniature` (9 million)."""

    @property
    def folder(self) -> Path:
        return self.home / "world" / world_name(self.size, self.seed)


def main(arguments: Sequence[str]) -> None:
    folder = run(parse(WorldConfig, "world", arguments))
    print(folder)


def run(config: WorldConfig) -> Path:
    """Write the world unless a whole one exists.

    Returns:
        The folder. `world.json` in it has version, seed, size, counts and the sha256 of each file.
    """
    world = World.build(config.seed, config.size)
    if is_whole(config.folder):
        return config.folder
    make_folder(config.folder.parent)
    temporary = Path(tempfile.mkdtemp(dir=config.folder.parent, prefix=f".{config.folder.name}."))
    try:
        _write(world, temporary)
        temporary.chmod(0o755)
        if config.folder.exists():  # damaged: a whole one has returned above
            shutil.rmtree(config.folder)
        temporary.replace(config.folder)
    except OSError as error:
        raise UserError(f"cannot write {config.folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return config.folder


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a world with every file as it was written."""
    manifest = folder / "world.json"
    if not manifest.is_file():
        return False
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    return all((folder / name).is_file() and sha256_file(folder / name) == sha for name, sha in files.items())


def parts(world: World) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
    """Each file's name and rows."""
    training: set[str] = set()

    def documents() -> Iterator[dict[str, str]]:
        for text in world.pretraining_documents():
            training.add(text)
            yield {"text": text}

    yield "pretrain.jsonl", documents()
    yield from evaluation_parts(world, training, locked=False)
    yield "demonstrations.jsonl", map(row, world.demonstrations())
    for purpose in PURPOSES:
        yield f"prompts-{purpose}.jsonl", map(row, world.prompts(purpose))  # type: ignore[arg-type]  # PURPOSES are the literals
    yield "toxicity.jsonl", world.toxic_comments()
    yield "labelers.jsonl", (asdict(labeler) for group in GROUPS for labeler in world.labelers(group))  # type: ignore[arg-type]  # the same
    for name, rows in evaluation_parts(world, training, locked=True):
        yield f"{LOCKED}/{name}", rows
    yield f"{LOCKED}/prompts-evaluation.jsonl", map(row, world.prompts("locked"))


def evaluation_parts(world: World, training: Set[str], locked: bool) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
    """The files that evaluation reads and that the first and the locked set both have."""
    yield "heldout.jsonl", ({"text": text} for _, text in world.heldout_by_maker(training, locked))
    yield "heldout-tail.jsonl", ({"text": text} for text in world.heldout_tail(training, locked))
    for kind in KINDS:
        yield f"items-{kind}.jsonl", world.items(kind, locked)


def _write(world: World, folder: Path) -> None:
    counts: dict[str, int] = {}
    files: dict[str, str] = {}
    (folder / LOCKED).mkdir()
    with progress.bar("world", SIZES[world.size].documents) as bar:
        for name, rows in parts(world):
            bar.note(name)
            counts[name] = _write_rows(folder / name, rows, lambda: bar.advance(1000))
            files[name] = sha256_file(folder / name)
    described = world.describe() | {"counts": counts, "files": files}
    _write_text(folder / "world.json", [json.dumps(described, indent=2) + "\n"])


def _write_rows(path: Path, rows: Iterable[dict[str, Any]], advance: Any) -> int:
    """Write JSONL; `advance` is called after every thousand rows."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for one in rows:
            count += 1
            if count % 1000 == 0:
                advance()
            yield json.dumps(one, ensure_ascii=False) + "\n"

    _write_text(path, lines())
    return count


def _write_text(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        to_disk(file)
