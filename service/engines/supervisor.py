"""The supervisor: owns the vLLM processes of one machine and keeps the endpoint table true.

What is wanted = what answers for an alias now, the checkpoints given on the command line, those requested over HTTP,
and those that aliases were promoted to. A promotion or rollback takes effect when an engine of its target is ready.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from service.endpoints import REFRESH_SECONDS, STALE
from service.engines import environment, launching, planning, promotions, table, wanted, watching, weights
from service.engines.failures import NoRoom, Permanent, Transient
from service.engines.process import Engine
from service.engines.slots import Slot
from service.engines.wanted import Demand, Target
from service.engines.watching import Sign
from service.settings import Settings
from service.store.database import Store
from training.artifacts import machine
from training.artifacts.checkpoints import Checkpoint, resolve
from training.artifacts.errors import UserError

TICK_SECONDS = 0.5
BEAT_SECONDS = 1.0
WATCH_SECONDS = 1.5  # between two looks at an engine
GRACE_SECONDS = 4 * REFRESH_SECONDS  # a ready engine stays this long when nothing names it: gateways look behind
SIGN_FILE = "supervisor.sign"  # in the folder of logs: its age and its word
WATCHERS = 32  # looks at engines, and starts of servers elsewhere, at once: all may hang
log = logging.getLogger(__name__)


class Supervisor:
    """Follows the store until `stop` is set. `remote_urls` maps checkpoints to engines that others run."""

    def __init__(
        self,
        settings: Settings,
        serve: Sequence[str],
        remote_urls: Mapping[str, Sequence[str]],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look the checkpoints up. Raises `UserError` if one does not exist."""
        self.settings = settings
        self.store = Store(settings.database)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.remote: dict[str, list[str]] = {}
        for name, urls in remote_urls.items():
            self.remote.setdefault(resolve(name, settings.checkpoints).id, []).extend(urls)
        # Folders given by path may lie outside the store: remember where.
        self.named = {c.id: c for c in (resolve(name, settings.checkpoints) for name in serve)}
        self.slots: dict[tuple[str, str], Slot] = {}
        self.kinds: dict[str, str] = {}
        self.first_seen: dict[Target, float] = {}
        self.stop = threading.Event()
        # Starting is bound by the processor: more at once would only make all of them late.
        self.pool: Executor = ThreadPoolExecutor(max_workers=max(2, machine.cores()))
        self.watchers: Executor = ThreadPoolExecutor(max_workers=WATCHERS)

    def run(self) -> None:
        """Work until `stop`, then end every engine."""
        self.store.migrate()
        with self.store.session() as session:
            table.forget_stale(session)
        heart = threading.Thread(target=self._beat, name="heartbeat")
        heart.start()
        try:
            with self.console.status("") as status:
                while not self.stop.is_set():
                    if self._try_tick():
                        self._sign()
                    status.update(self._headline())
                    if any(slot.work for slot in self.slots.values()):
                        status.start()
                    else:
                        status.stop()
                    self.stop.wait(TICK_SECONDS)
        finally:
            self.stop.set()
            heart.join()
            self._end()

    def _try_tick(self) -> bool:
        """Whether it went through, the store's absence included: nothing here would be better after a new start."""
        try:
            self.tick()
            return True
        except SQLAlchemyError as error:
            # The engines keep serving; the table is written again when the database is back.
            self._say(f"the store does not answer, trying again: {error}")
            return bool(self.slots)
        except Exception:
            log.exception("the supervisor goes on after a failure of its own")
            return False

    def _sign(self) -> None:
        """Tell those who look after this process (deploy/images/health.py) that it works, and whether engines start."""
        waiting = any(slot.state != "ready" and not slot.given_up for slot in self.slots.values())
        with suppress(OSError):
            self.settings.logs.mkdir(parents=True, exist_ok=True)
            (self.settings.logs / SIGN_FILE).write_text("starting" if waiting else "ready")

    def _beat(self) -> None:
        """Keep the heartbeat apart from all work: whatever hangs, engines that answer stay in the table."""
        while not self.stop.wait(BEAT_SECONDS):
            try:
                with self.store.session() as session:
                    table.beat(session, self.name)
            except Exception as error:
                log.warning("no heartbeat, trying again: %s", error)

    def tick(self) -> None:
        """Compare what is to be served with what runs, and act on the difference."""
        with self.store.session() as session:
            now_wanted = wanted.read(session)
        names = self._to_serve(now_wanted)
        self._open_slots(names, now_wanted)
        for slot in list(self.slots.values()):
            self._poll(slot)
        self._plan(names, now_wanted)
        for slot in list(self.slots.values()):
            if slot.id not in names:
                self._retire(slot)
            else:
                slot.unwanted_since = None
                self._reconcile(slot)
        self._write(now_wanted)

    def _to_serve(self, now_wanted: Demand) -> list[str]:
        """Checkpoints by importance: where memory is short, the last ones do without. Where this supervisor serves one
        kind alone, those of the other are left out; one that cannot be read is not, for somebody has to say so."""
        names = now_wanted.checkpoints(*self.named, *self.remote)
        return [
            name for name in names if self.settings.engine_kind in (None, self._kind(name) or self.settings.engine_kind)
        ]

    def _kind(self, name: str) -> str:
        """Kind of a checkpoint, read once; empty while it cannot be read."""
        if name not in self.kinds:
            try:
                self.kinds[name] = self._checkpoint(name).manifest.kind
            except Exception:  # a folder that no version of ours wrote; `_usable` says what is wrong
                return ""
        return self.kinds[name]

    def _open_slots(self, names: Sequence[str], now_wanted: Demand) -> None:
        for name in names:
            for url in self.remote.get(name, [""]):
                slot = self.slots.setdefault((name, url), Slot(name, url, self._kind(name), began=self.clock()))
                slot.proven = slot.proven or name in now_wanted.served
                wish = now_wanted.wishes.get(name, ())
                if slot.given_up and slot.wish != wish:
                    slot.try_anew()
                slot.wish = wish

    def _plan(self, names: Sequence[str], now_wanted: Demand) -> None:
        """Plan all engines together that are about to start and have no plan yet. Where memory does not hold them, the
        first ones are planned and the last ones fail, to be tried again when others have left."""
        owned = [slot for slot in self.slots.values() if slot.id in names and not slot.url]
        new = [slot for slot in owned if slot.plan is None and slot.is_due(self.clock())]
        new.sort(key=lambda slot: names.index(slot.id))
        checkpoints = {slot.id: checkpoint for slot in new if (checkpoint := self._usable(slot)) is not None}
        new = [slot for slot in new if slot.id in checkpoints]
        # What starts, or starts again, will take its memory and has not taken it yet.
        waiting = [slot for slot in owned if slot.plan and slot.state in ("starting", "failed") and not slot.given_up]
        taken = sum(slot.plan.total_bytes for slot in waiting if slot.plan)
        while new:
            try:
                plans = planning.plans_for(
                    [checkpoints[slot.id] for slot in new],
                    self.settings,
                    on_cpu=environment.on_cpu(),
                    among=len(owned),
                    taken=taken,
                )
            except NoRoom as error:
                # Room that is about to be free says nothing against the checkpoint.
                leaving = any(slot.leaving or slot.unwanted_since is not None for slot in self.slots.values())
                self._fail(new.pop(), Transient(str(error)) if leaving else error)
                continue
            except UserError as error:
                self._fail(new.pop(), error)
                continue
            for slot, plan in zip(new, plans, strict=True):
                slot.plan = replace(plan, options=now_wanted.options.get(slot.id, {}))
            return

    def _usable(self, slot: Slot) -> Checkpoint | None:
        """The checkpoint of a slot, with all its files; None, and the slot has failed, where it has not."""
        try:
            checkpoint = self._checkpoint(slot.id)
            weights.check_present(checkpoint)
            planning.needs_of(checkpoint, self.settings)
            return checkpoint
        except UserError as error:
            self._fail(slot, error)
        except Exception as error:  # a folder that no version of ours wrote
            self._fail(slot, UserError(f"{slot.id} cannot be planned: {type(error).__name__}: {error}"))
        return None

    def _checkpoint(self, name: str) -> Checkpoint:
        """Raises `Permanent` when this machine does not have it."""
        try:
            return self.named.get(name) or resolve(name, self.settings.checkpoints)
        except UserError as error:
            raise Permanent(str(error)) from None

    def _reconcile(self, slot: Slot) -> None:
        """Start what should run, and start it again when it died."""
        if slot.state == "ready" and slot.engine is not None:
            if not slot.engine.alive():
                self._fail(slot, UserError(f"the engine of {slot.id} died: {slot.engine.failure()}"))
            else:
                self._watch(slot, slot.engine)
        if slot.is_due(self.clock()) and (slot.plan is not None or slot.url):
            slot.state, slot.began = "starting", self.clock()
            pool = self.watchers if slot.url else self.pool
            find = partial(self._checkpoint, slot.id)
            slot.work = pool.submit(launching.start, slot, find, self.settings, self.stop.is_set)

    def _watch(self, slot: Slot, engine: Engine) -> None:
        """Look at an engine now and then, in the background: one that hangs must not hold up the others."""
        if slot.check is not None and slot.check.done():
            sign = Sign.SILENT if slot.check.cancelled() or slot.check.exception() else slot.check.result()
            slot.take_in(sign, self.clock())
            if slot.hangs(self.settings.upstream_seconds):
                engine.kill()
                reason = f"is down: {engine.failure()}" if slot.url else "hangs: it gives no token and does not compute"
                self._fail(slot, Transient(f"the engine of {slot.id} {reason}"))
        elif slot.check is None and (slot.missed or self.clock() - slot.checked > WATCH_SECONDS):
            slot.check = self.watchers.submit(watching.look, engine)

    def _retire(self, slot: Slot) -> None:
        """No longer wanted: let it finish, then end it."""
        if slot.leaving:
            return
        slot.unwanted_since = self.clock() if slot.unwanted_since is None else slot.unwanted_since
        if slot.state == "ready" and self.clock() - slot.unwanted_since < GRACE_SECONDS:
            return
        slot.leaving = True
        if slot.engine is None and slot.work is None:
            self._drop(slot)
            return
        slot.state, slot.detail = "draining", None
        slot.work = self.pool.submit(launching.drain, slot, slot.work, self.settings)

    def _poll(self, slot: Slot) -> None:
        """Take in how a start or stop ended."""
        if slot.work is None or not slot.work.done():
            return
        error = None if slot.work.cancelled() else slot.work.exception()
        slot.work = None
        if slot.leaving:
            self._drop(slot)
        elif error is None:
            seconds = self.clock() - slot.began
            slot.succeed(self.clock())
            url = slot.engine.url if slot.engine else ""
            self._say(f"engine {slot.id} ready after {seconds:.0f} s at {url}{launching.remarks(slot)}")
        else:
            self._fail(slot, error)

    def _fail(self, slot: Slot, error: BaseException) -> None:
        after = slot.fail(error, self.clock())
        self._say(f"engine {slot.id} failed, {after}: {slot.detail}")

    def _drop(self, slot: Slot) -> None:
        del self.slots[slot.key]
        self._say(f"engine {slot.id} ended")
        for other in self.slots.values():
            if other.given_up and other.no_room:
                other.try_anew()

    def _write(self, now_wanted: Demand) -> None:
        """Bring this supervisor's rows up to date; in the same transaction promotions take effect or are taken back."""
        time_ = self.clock()
        self.first_seen = {target: self.first_seen.get(target, time_) for target in now_wanted.targets}
        ages = {target: time_ - seen for target, seen in self.first_seen.items()}
        with self.store.session() as session:
            table.write(session, self.name, self.slots.values())
            sentences = promotions.settle(session, self.name, now_wanted.targets, self.slots.values(), ages)
        for sentence in sentences:
            self._say(sentence)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _headline(self) -> str:
        busy = [s for s in self.slots.values() if s.work is not None]
        parts = [f"{s.id} {s.state} {self.clock() - s.began:.0f} s" for s in busy]
        return "engines: " + ", ".join(parts)

    def _end(self) -> None:
        """Stop everything, at once and in parallel."""
        self.stop.set()
        with suppress(SQLAlchemyError), self.store.session() as session:
            table.mark_draining(session, self.name)
        for pool in (self.pool, self.watchers):
            pool.shutdown(wait=True, cancel_futures=True)
        engines = [slot.engine for slot in self.slots.values() if slot.engine is not None]
        if engines:
            with ThreadPoolExecutor(max_workers=len(engines)) as stopping:
                list(stopping.map(Engine.stop, engines))
        try:
            with self.store.session() as session:
                table.forget(session, self.name)
        except SQLAlchemyError as error:
            self._say(f"the store keeps rows of ended engines for {STALE.seconds} s: {error}")
        self.store.close()
