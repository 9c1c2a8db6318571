"""One wanted engine of a supervisor, and when it is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from service.engines.failures import NoRoom, Permanent, Transient, same_reason
from service.engines.planning import EnginePlan
from service.engines.process import Engine
from service.engines.watching import Sign
from service.store.models import new_id

BACKOFF_SECONDS = (1, 2, 5, 10, 30, 60)
STEADY_SECONDS = 120.0  # an engine that ran this long has earned a fresh count of failures
GIVE_UP = 3  # starts that failed alike, of a checkpoint that never answered here
MISSES = 2  # looks in a row at which an engine gave no sign, after which it hangs
MISSES_ELSEWHERE = 3  # the network between may be at fault
WATCHED_SECONDS = 30.0  # counted between two looks, at most: a supervisor that was stopped itself saw nothing


@dataclass
class Slot:
    """One wanted engine: of this machine, or a server elsewhere.

    Attributes:
        id: the checkpoint's.
        url: of a server elsewhere, empty for an engine of this machine.
        kind: of the checkpoint; empty where that is not known.
        state: starting, ready, draining or failed, as in the endpoint table.
        detail: why it failed.
        plan: its context, memory, threads and options; kept for as long as it is wanted.
        manifest: what gateways need to know, see `manifests.served_manifest`.
        work: the start or the stop that runs in the background.
        check: the look at whether it still works, in the background.
        checked: when the last look ended.
        missed: looks in a row at which it gave no sign.
        unheard: seconds without a token in which it was looked at.
        began: when its state began, on the supervisor's clock in seconds.
        failures: failures in a row, whatever their reason: they lengthen the wait.
        alike: starts in a row that failed for the same reason.
        given_up: it failed and is not tried again, until somebody wants it anew.
        no_room: it failed for want of memory alone.
        proven: it has answered here, or answers for an alias: it is never given up for failing repeatedly.
        wish: `wanted.Demand.wishes` of the checkpoint.
        unwanted_since: when it was first not wanted any more.
    """

    id: str
    url: str = ""
    kind: str = ""
    state: str = "starting"
    detail: str | None = None
    engine: Engine | None = None
    plan: EnginePlan | None = None
    row: str = field(default_factory=new_id)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    work: Future[None] | None = None
    check: Future[Sign] | None = None
    checked: float = 0.0
    missed: int = 0
    unheard: float = 0.0
    began: float = 0.0
    failures: int = 0
    alike: int = 0
    retry_at: float = 0.0
    given_up: bool = False
    no_room: bool = False
    proven: bool = False
    leaving: bool = False
    wish: tuple[Any, ...] = ()
    unwanted_since: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.id, self.url

    def is_due(self, time: float) -> bool:
        """Whether it is time for a start."""
        waits = self.state == "failed" and not self.given_up and time >= self.retry_at
        return (self.state == "starting" or waits) and not self.leaving and self.work is None

    def succeed(self, time: float) -> None:
        """Its start went well."""
        self.state, self.detail, self.began = "ready", None, time
        self.alike, self.proven = 0, True
        self.check, self.missed, self.checked, self.unheard = None, 0, time, 0.0

    def take_in(self, sign: Sign, time: float) -> None:
        """What a look has shown."""
        watched = min(time - self.checked, WATCHED_SECONDS)
        self.check, self.checked = None, time
        self.missed = self.missed + 1 if sign is Sign.SILENT else 0
        self.unheard = 0.0 if sign is Sign.ANSWERS else self.unheard + watched

    def hangs(self, longest: float) -> bool:
        """Whether it gave no sign too often, or no token for `longest` seconds."""
        return self.missed >= (MISSES_ELSEWHERE if self.url else MISSES) or self.unheard > longest

    def fail(self, error: BaseException, time: float) -> str:
        """Take in a failure; returns what follows, for the console."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if self.state == "ready" and time - self.began > STEADY_SECONDS:
            self.failures = 0
        crashed = self.state == "ready"
        if not crashed and not isinstance(error, Transient):
            self.alike = self.alike + 1 if same_reason(reason, self.detail) else 1
        self.no_room = isinstance(error, NoRoom)
        self.given_up = isinstance(error, Permanent) or (self.alike >= GIVE_UP and not self.proven and not crashed)
        self.state, self.detail = "failed", reason
        wait = BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS) - 1)]
        self.failures += 1
        self.retry_at = time + wait
        return "it stays down" if self.given_up else f"trying again in {wait} s"

    def try_anew(self) -> None:
        """Forget its failures: something that bears on them has changed."""
        self.failures = self.alike = 0
        self.retry_at, self.given_up, self.no_room = 0.0, False, False
