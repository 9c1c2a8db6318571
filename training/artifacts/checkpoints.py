"""Published checkpoints: a Hugging Face folder plus `manifest.json`, written last and never changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from training.artifacts import templates
from training.artifacts.errors import UserError
from training.artifacts.files import exists, sha256_file, write_atomically
from training.artifacts.machine import boot_id, pid_namespace
from training.artifacts.provenance import git_state, package_versions

FORMAT = 1
MANIFEST = "manifest.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
STAGING_SECONDS = 7 * 24 * 3600  # a staging folder of another machine, untouched for this long, is left over
LOG = logging.getLogger(__name__)
Kind = Literal["policy", "reward"]
System = Literal["keep", "merge"]


@dataclass(frozen=True)
class Manifest:
    """What made a checkpoint, and how to serve it.

    Attributes:
        id: unique name, also the folder's name; sorts by time within a stage.
        stage: the command that made it: pretrain, sft, reward, ppo, ppo-ptx, adopt, ...
        kind: `policy` writes text, `reward` scores it.
        parents: ids of the checkpoints that it was made from.
        base_model: name of the model at the root, where it was not trained here.
        created: time in UTC, ISO 8601.
        tokenizer_hash: sha256 over the tokenizer's files.
        template_hash: sha256 of the chat template, None without one.
        stop_ids: token ids that end an assistant turn.
        system: `merge` if a system turn that the chat template refuses is merged into the first user turn.
        context: greatest number of tokens of prompt and response together.
        generation: defaults for sampling: temperature, top_p, max_tokens.
        reward_offset: mean raw score of demonstrations; reward = raw score - offset. None for a policy.
        pad_id: token at a row's end that a reward model takes for padding: its score is read before it (see
            `scores.scored_part`). None for a policy, and where the model has none.
        probe: {"dtype": ..., "ids": [[...], ...]} with "logprobs" (policy: of ids[1:], natural log) or "rewards"
            (reward: raw scores), computed in that dtype: what any server of this checkpoint must reproduce.
            {"absent": reason} where nothing but an engine could compute them.
        config: the resolved configuration of the stage.
        data: name -> {"path", "sha256", "rows", "skipped": {reason: count}}.
        seed: seed of the run.
        git_commit: commit of AlignLoop's checkout, None outside one.
        git_dirty: whether tracked files differed from that commit.
        packages: versions of the packages that shape numbers.
        metrics: final figures of the run.
        weights: file name -> sha256.
        format: version of this schema.
    """

    id: str
    stage: str
    kind: Kind
    parents: tuple[str, ...]
    created: str
    tokenizer_hash: str
    template_hash: str | None
    stop_ids: tuple[int, ...]
    context: int
    base_model: str | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    reward_offset: float | None = None
    pad_id: int | None = None
    probe: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    system: System = "keep"
    format: int = FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.id


def new_id(stage: str) -> str:
    """A fresh id such as `sft-20260131-101502-9f3a`: sorts by time within its stage."""
    return f"{stage}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def publish(
    staged: Path,
    store: Path,
    *,
    stage: str,
    kind: Kind,
    tokenizer: Any,
    context: int,
    parents: tuple[str, ...] = (),
    base_model: str | None = None,
    generation: Mapping[str, Any] | None = None,
    reward_offset: float | None = None,
    pad_id: int | None = None,
    probe: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    system: System = "keep",
    stop_ids: Sequence[int] = (),
) -> Checkpoint:
    """Turn a saved Hugging Face folder into a checkpoint of the store.

    `staged` must lie on the store's file system (use `staging`); it is moved. The manifest is written last,
    then the folder is renamed into place, so a folder of the store is either whole or not there.

    Args:
        stop_ids: ids that end an assistant turn, beside those of the chat template and the tokenizer; by
            default those of the folder's generation_config.json, which a reward model does not have.

    Raises:
        UserError: no safetensors, or weights in a pickled format.
    """
    files = sorted(p for p in staged.rglob("*") if p.is_file())
    if not any(p.suffix == ".safetensors" for p in files):
        raise UserError(f"{staged} holds no .safetensors file: save the model with safetensors")
    pickled = [p.name for p in files if p.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    if pickled:
        raise UserError(f"{staged} holds pickled weights ({pickled[0]}): only safetensors are published")
    commit, dirty = git_state()
    manifest = Manifest(
        id=new_id(stage),
        stage=stage,
        kind=kind,
        parents=parents,
        base_model=base_model,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),  # orders checkpoints of one second
        tokenizer_hash=tokenizer_hash(staged),
        template_hash=templates.template_hash(tokenizer),
        stop_ids=templates.stop_ids(tokenizer, stop_ids or templates.generation_eos(staged)),
        system=system,
        context=context,
        generation=dict(generation or {}),
        reward_offset=reward_offset,
        pad_id=pad_id,
        probe=dict(probe or {}),
        config=dict(config or {}),
        data=dict(data or {}),
        seed=seed,
        git_commit=commit,
        git_dirty=dirty,
        packages=package_versions(),
        metrics=dict(metrics or {}),
        weights={p.relative_to(staged).as_posix(): sha256_file(p) for p in files if p.suffix == ".safetensors"},
    )
    write_atomically(staged / MANIFEST, json.dumps(asdict(manifest), indent=2, default=str) + "\n")
    target = store / manifest.id
    staged.rename(target)
    return Checkpoint(target, manifest)


def staging(store: Path) -> Path:
    """A new empty folder inside the store to save a model into before `publish`. Its name starts with a dot and says
    which process of which machine writes it: several machines may share a store."""
    folder = store / f"{_staging_prefix()}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    return folder


def _staging_prefix() -> str:
    return f".staging-{boot_id()}-{pid_namespace()}-"


def sweep(store: Path) -> int:
    """Delete staging folders that a killed process left (`left_over`). Returns how many."""
    folders = left_over(store)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def left_over(store: Path) -> list[Path]:
    """Staging folders that a killed process left: of this machine by its process id, of any other machine when nothing
    in them has changed for a week."""
    return [folder for folder in sorted(store.glob(".staging-*")) if _is_left(folder)]


def _is_left(folder: Path) -> bool:
    pid = folder.name.removeprefix(_staging_prefix()).split("-")[0]
    if folder.name.startswith(_staging_prefix()) and pid.isdecimal():
        return not Path(f"/proc/{pid}").exists()
    return time.time() - _last_change(folder) > STAGING_SECONDS


def _last_change(folder: Path) -> float:
    """Time of the newest change in a folder, in seconds since 1970; now where the folder has just gone."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return time.time()


def load(path: Path) -> Checkpoint:
    """Read the manifest of a checkpoint's folder. Raises `UserError` if it has none or another format."""
    file = path / MANIFEST
    if not file.is_file():
        raise UserError(f"{path} has no {MANIFEST}: run `python -m training adopt {path}` first")
    try:
        fields = json.loads(file.read_bytes())
        if isinstance(fields, dict) and fields.get("format", FORMAT) != FORMAT:
            raise UserError(f"{file} has format {fields['format']}, this version reads {FORMAT}: update AlignLoop")
        for name in ("parents", "stop_ids"):
            fields[name] = tuple(fields[name])
        if not all(isinstance(one, str) for one in (fields["id"], fields["stage"], fields["kind"], *fields["parents"])):
            raise TypeError("id, stage, kind and parents are texts")
        if not all(isinstance(fields.get(name, {}), dict) for name in ("data", "weights", "metrics", "generation")):
            raise TypeError("data, weights, metrics and generation are objects")
        manifest = Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError) as error:  # ValueError: no JSON, or no UTF-8
        raise UserError(f"{file} is not a manifest ({error}): publish or adopt the checkpoint again") from None
    if manifest.system not in ("keep", "merge"):
        raise UserError(f"{file} has `system` {manifest.system!r}: it is `keep` or `merge`")
    return Checkpoint(path, manifest)


def checkpoints(store: Path) -> Iterator[Checkpoint]:
    """Every checkpoint of the store, oldest first. One whose manifest cannot be read is left out, with a warning."""
    readable = []
    for file in sorted(store.glob(f"[!.]*/{MANIFEST}")):
        try:
            readable.append(load(file.parent))
        except UserError as error:
            LOG.warning("left out: %s", error)
    yield from sorted(readable, key=lambda c: (str(c.manifest.created), str(c.id)))


def resolve(reference: str | Path, store: Path) -> Checkpoint:
    """Find a checkpoint by id, by folder, or by stage (`sft` or `latest:sft`: the newest of that stage).

    Raises:
        UserError: there is none; the message lists what there is.
    """
    name = str(reference)
    local = Path(name).expanduser()
    for folder in (store / name, local):
        if exists(folder / MANIFEST):
            return load(folder)
    every = list(checkpoints(store)) if store.is_dir() else []
    newest = _newest(every, name)
    if newest is not None:
        return newest
    if exists(local):
        return load(local)
    known = ", ".join(c.id for c in every[-5:]) or "none yet"
    raise UserError(f"no checkpoint {name!r} in {store} (the newest there: {known})")


def id_of(name: str, store: Path) -> str | None:
    """The id of a checkpoint of the store by its id or its stage, as in `resolve`; None where there is none. Nothing
    outside the store is looked at, so that names may come from strangers."""
    if is_inside(name) and exists(store / name / MANIFEST):
        try:
            return load(store / name).id
        except UserError:
            return None
    newest = _newest(list(checkpoints(store)), name)
    return newest.id if newest is not None else None


def is_inside(name: str) -> bool:
    """Whether a name is of a folder in a store, and leads nowhere else."""
    return "/" not in name and not name.startswith(".")


def _newest(every: list[Checkpoint], name: str) -> Checkpoint | None:
    """The newest checkpoint of a stage, `STAGE` or `latest:STAGE`, of all from oldest to newest."""
    stage = name.removeprefix("latest:")
    return next((one for one in reversed(every) if one.manifest.stage == stage), None)


def tokenizer_hash(folder: Path) -> str:
    """sha256 over the names and bytes of the tokenizer's files in a checkpoint's folder."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()
