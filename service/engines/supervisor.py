"""The supervisor: owns the vLLM processes of one machine and keeps the endpoint table true.

What is wanted = the checkpoints given on the command line, those asked for over HTTP, and those that aliases name.
While a newly promoted checkpoint starts, the one that its alias had before stays.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from rich.console import Console
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from service.aliases import previous_targets
from service.endpoints import REFRESH_SECONDS, STALE
from service.engines import conformance, desired, parsers, planning, process
from service.engines.planning import EnginePlan
from service.engines.process import Engine
from service.settings import Settings
from service.store import models
from service.store.database import Store
from service.store.models import Alias, new_id, now
from service.tokenizers import load_tokenizer, renderer_for
from training.artifacts import machine
from training.artifacts.checkpoints import Checkpoint, resolve
from training.artifacts.errors import UserError
from training.artifacts.templates import special_strings

TICK_SECONDS = 0.5
BACKOFF_SECONDS = (1, 2, 5, 10, 30, 60)
STEADY_SECONDS = 120.0  # an engine that ran this long has earned a fresh count of failures


class NotConform(UserError):
    """The engine runs but is not the published checkpoint: starting it again would not help."""


@dataclass
class Slot:
    """One wanted checkpoint on this machine.

    Attributes:
        state: starting, ready, draining or failed, as in the endpoint table.
        work: the start or the stop that runs in the background.
        plan: its context, memory and threads; kept for as long as it is wanted.
    """

    id: str
    state: str = "starting"
    detail: str | None = None
    engine: Engine | None = None
    plan: EnginePlan | None = None
    row: str = field(default_factory=new_id)
    manifest: dict[str, object] = field(default_factory=dict)
    work: Future[None] | None = None
    began: float = field(default_factory=time.monotonic)
    failures: int = 0
    retry_at: float = 0.0
    permanent_failure: bool = False
    leaving: bool = False


class Supervisor:
    """Follows the store until `stop` is set. `remote` maps checkpoint ids to engines that others run."""

    def __init__(
        self, settings: Settings, serve: Sequence[str], remote: Mapping[str, str], console: Console | None = None
    ) -> None:
        """Look the checkpoints up. Raises `UserError` if one does not exist."""
        self.settings = settings
        self.store = Store(settings.database)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.console = console or Console(stderr=True)
        self.remote = {resolve(name, settings.checkpoints).id: url.rstrip("/") for name, url in remote.items()}
        # Folders given by path may lie outside the store: remember where.
        self.served = {c.id: c for c in (resolve(name, settings.checkpoints) for name in serve)}
        self.slots: dict[str, Slot] = {}
        self.stop = threading.Event()
        # Starting is bound by the processor: more at once would only make all of them late.
        self.pool = ThreadPoolExecutor(max_workers=max(2, machine.cores()))

    def run(self) -> None:
        """Work until `stop`, then end every engine."""
        self.store.migrate()
        self._forget_stale()
        try:
            with self.console.status("") as status:
                while not self.stop.is_set():
                    try:
                        self.tick()
                    except SQLAlchemyError as error:
                        # The engines keep serving; the table is written again when the database is back.
                        self._say(f"the store does not answer, trying again: {error}")
                    status.update(self._headline())
                    if not any(slot.work for slot in self.slots.values()):
                        status.stop()
                    else:
                        status.start()
                    self.stop.wait(TICK_SECONDS)
        finally:
            self._end()

    def tick(self) -> None:
        """Compare what is to be served with what runs, and act on the difference."""
        checkpoints = self._checkpoints_to_serve()
        for checkpoint in checkpoints:
            if checkpoint not in self.slots:
                self.slots[checkpoint] = Slot(checkpoint)
        self._plan(checkpoints)
        for slot in list(self.slots.values()):
            self._poll(slot)
            if slot.id not in checkpoints:
                self._retire(slot)
            elif not slot.leaving:
                self._reconcile(slot)
        self._write()

    def _checkpoints_to_serve(self) -> list[str]:
        """Those named on the command line, requested, or behind an alias, each once."""
        with self.store.session() as session:
            ready = set(
                session.scalars(
                    select(models.Engine.checkpoint).where(
                        models.Engine.state == "ready", models.Engine.heartbeat > now() - STALE
                    )
                )
            )
            names = [*self.served, *self.remote, *desired.requested(session)]
            for alias in session.scalars(select(Alias)):
                names.append(alias.checkpoint)
                if alias.checkpoint not in ready:
                    names += [c for c in previous_targets(session, alias.name) if c in ready][:1]
        return list(dict.fromkeys(names))

    def _plan(self, to_serve: Sequence[str]) -> None:
        """Plan all engines together that are about to start and have no plan yet. Where memory does not hold them, the
        first ones are planned and the last ones fail, to be tried again when others have left."""
        owned = [slot for slot in self.slots.values() if slot.id in to_serve and slot.id not in self.remote]
        new = [slot for slot in owned if slot.plan is None and slot.work is None and self._due(slot)]
        checkpoints = {}
        for slot in new:
            try:
                checkpoints[slot.id] = self._checkpoint(slot.id)
            except UserError as error:
                self._fail(slot, error)
        new = [slot for slot in new if slot.id in checkpoints]
        # What starts, or starts again, will take its memory and has not taken it yet.
        taken = sum(slot.plan.total_bytes for slot in owned if slot.plan and slot.state in ("starting", "failed"))
        while new:
            try:
                plans = planning.plans_for(
                    [checkpoints[slot.id] for slot in new],
                    self.settings,
                    on_cpu=process.on_cpu(),
                    among=len(owned),
                    taken=taken,
                )
            except UserError as error:
                self._fail(new.pop(), error)
                continue
            for slot, plan in zip(new, plans, strict=True):
                slot.plan = plan
            return

    def _due(self, slot: Slot) -> bool:
        """Whether it is time for a start."""
        waits = slot.state == "failed" and not slot.permanent_failure and time.monotonic() >= slot.retry_at
        return (slot.state == "starting" or waits) and not slot.leaving

    def _checkpoint(self, name: str) -> Checkpoint:
        return self.served.get(name) or resolve(name, self.settings.checkpoints)

    def _reconcile(self, slot: Slot) -> None:
        """Start what should run, and start it again when it died."""
        if slot.work is not None or slot.permanent_failure:
            return
        if slot.state == "ready" and slot.engine and not slot.engine.alive():
            if time.monotonic() - slot.began > STEADY_SECONDS:
                slot.failures = 0
            self._fail(slot, UserError(f"the engine of {slot.id} died: {slot.engine.failure()}"))
        if self._due(slot) and (slot.plan is not None or slot.id in self.remote):
            slot.state, slot.began = "starting", time.monotonic()
            slot.work = self.pool.submit(self._start, slot)

    def _start(self, slot: Slot) -> None:
        """In the background: start, wait for a real token, check conformance. Raises `UserError`."""
        if slot.engine is not None:
            slot.engine.stop()
        if self.stop.is_set():
            return
        checkpoint = self._checkpoint(slot.id)
        context = slot.plan.context if slot.plan else checkpoint.manifest.context
        slot.manifest = served_manifest(checkpoint, context, self.settings.engine_options)
        if slot.plan is None:
            slot.engine = Engine(checkpoint, self.remote[slot.id])
        else:
            slot.engine = process.start(checkpoint.path, checkpoint.manifest.kind, self.settings, slot.plan)
        try:
            slot.engine.wait(self.settings.engine_start_seconds, lambda: self.stop.is_set() or slot.leaving)
            try:
                conformance.check(checkpoint, slot.engine.url, process.coarser_dtype(checkpoint, self.settings))
            except UserError as error:
                if slot.engine.alive() and slot.engine.ready():
                    raise NotConform(str(error)) from None
                raise
        except BaseException:
            slot.engine.stop()
            raise

    def _retire(self, slot: Slot) -> None:
        """No longer wanted: let it finish, then end it."""
        if slot.leaving:
            return
        slot.leaving = True
        if slot.engine is None and slot.work is None:
            self._drop(slot)
            return
        slot.state = "draining"
        started = slot.work
        slot.work = self.pool.submit(self._drain, slot, started)

    def _drain(self, slot: Slot, started: Future[None] | None) -> None:
        if started is not None and not started.cancel():
            started.exception()  # waits: the start sees `leaving` and gives up
        if slot.engine is not None:
            # Gateways look twice a second: after this nobody sends more.
            time.sleep(3 * REFRESH_SECONDS)
            if slot.engine.owned and slot.engine.alive():
                slot.engine.drain(slot.engine.running, self.settings.drain_seconds)
            slot.engine.stop()

    def _poll(self, slot: Slot) -> None:
        """Take in how a start or stop ended."""
        if slot.work is None or not slot.work.done():
            return
        error = slot.work.exception()
        slot.work = None
        if slot.leaving:
            self._drop(slot)
        elif error is None:
            slot.state, slot.detail = "ready", None
            seconds = time.monotonic() - slot.began
            url = slot.engine.url if slot.engine else ""
            self._say(f"engine {slot.id} ready after {seconds:.0f} s at {url}{_remarks(slot)}")
            slot.began = time.monotonic()
        else:
            self._fail(slot, error)

    def _fail(self, slot: Slot, error: BaseException) -> None:
        slot.state, slot.detail = "failed", " ".join(str(error).split()) or type(error).__name__
        slot.permanent_failure = isinstance(error, NotConform)
        wait = BACKOFF_SECONDS[min(slot.failures, len(BACKOFF_SECONDS) - 1)]
        slot.failures += 1
        slot.retry_at = time.monotonic() + wait
        after = "it stays down" if slot.permanent_failure else f"trying again in {wait} s"
        self._say(f"engine {slot.id} failed, {after}: {slot.detail}")

    def _drop(self, slot: Slot) -> None:
        del self.slots[slot.id]
        with self.store.session() as session:
            session.execute(delete(models.Engine).where(models.Engine.id == slot.row))
        self._say(f"engine {slot.id} ended")

    def _write(self) -> None:
        """Bring this supervisor's rows up to date, heartbeat included."""
        with self.store.session() as session:
            for slot in self.slots.values():
                row = session.get(models.Engine, slot.row)
                engine = slot.engine
                if row is None:
                    row = models.Engine(
                        id=slot.row, checkpoint=slot.id, kind="", url="", supervisor=self.name, manifest={}
                    )
                    session.add(row)
                if engine is not None:
                    row.kind, row.url, row.manifest = engine.checkpoint.manifest.kind, engine.url, slot.manifest
                row.state, row.detail, row.heartbeat = slot.state, slot.detail, now()

    def _forget_stale(self) -> None:
        """Delete rows of supervisors that are gone."""
        with self.store.session() as session:
            gone = models.Engine.heartbeat < now() - STALE
            session.execute(delete(models.Engine).where(gone, models.Engine.state != desired.REQUESTED))

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _headline(self) -> str:
        busy = [s for s in self.slots.values() if s.work is not None]
        parts = [f"{s.id} {s.state} {time.monotonic() - s.began:.0f} s" for s in busy]
        return "engines: " + ", ".join(parts)

    def _end(self) -> None:
        """Stop everything, at once and in parallel."""
        self.stop.set()
        self._mark_draining()
        self.pool.shutdown(wait=True, cancel_futures=True)
        engines = [slot.engine for slot in self.slots.values() if slot.engine is not None]
        if engines:
            with ThreadPoolExecutor(max_workers=len(engines)) as pool:
                list(pool.map(Engine.stop, engines))
        try:
            with self.store.session() as session:
                session.execute(delete(models.Engine).where(models.Engine.supervisor == self.name))
        except SQLAlchemyError as error:
            self._say(f"the store keeps rows of ended engines for {STALE.seconds} s: {error}")
        self.store.close()

    def _mark_draining(self) -> None:
        try:
            with self.store.session() as session:
                mine = models.Engine.supervisor == self.name
                session.execute(update(models.Engine).where(mine).values(state="draining"))
        except SQLAlchemyError:
            return


def _remarks(slot: Slot) -> str:
    """How an engine differs from its checkpoint: a shorter context, or numbers that nobody could compare."""
    if slot.engine is None:
        return ""
    manifest, remarks = slot.engine.checkpoint.manifest, ""
    if slot.plan is not None and slot.plan.context < manifest.context:
        remarks += f", with a context of {slot.plan.context} of the model's {manifest.context} tokens"
    if reason := manifest.probe.get("absent"):
        remarks += f"; its numbers were not checked: {reason}"
    return remarks


def served_manifest(checkpoint: Checkpoint, context: int, options: Sequence[str] = ()) -> dict[str, object]:
    """What gateways need to know of a checkpoint and its engine's context, without its folder."""
    manifest = checkpoint.manifest
    tokenizer = load_tokenizer(checkpoint.path)
    renderer = None
    if getattr(tokenizer, "chat_template", None):
        renderer = renderer_for(checkpoint.path, manifest.system, manifest.stop_ids)
    return {
        "stage": manifest.stage,
        "created": manifest.created,
        "context": context,
        "generation": dict(manifest.generation),
        "reward_offset": manifest.reward_offset,
        "pad_id": manifest.pad_id,
        "stop_ids": list(manifest.stop_ids),
        "special": list(renderer.control_strings if renderer else special_strings(tokenizer)),
        "merge_system": renderer is not None and renderer.merges_system,
        "lost_system": list(renderer.lost_system) if renderer else [],
        "path": str(checkpoint.path.resolve()),
        **parsers.described(parsers.template_of(tokenizer), options),
    }
