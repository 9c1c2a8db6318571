"""The background work of a supervisor: starting an engine until it has proved itself, and letting one finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from service.endpoints import REFRESH_SECONDS
from service.engines import client, conformance, options, process, remote, weights
from service.engines.failures import Transient
from service.engines.manifests import served_manifest
from service.engines.process import Engine
from service.engines.slots import Slot
from service.settings import Settings
from training.artifacts.checkpoints import Checkpoint

CHECKS = 3  # tries of the conformance check with an engine that answers, but is busy
CHECK_SECONDS = 2.0  # between them
UNSEEN_SECONDS = 3 * REFRESH_SECONDS  # gateways look twice a second: after this nobody sends more


def start(slot: Slot, find: Callable[[], Checkpoint], settings: Settings, stopping: Callable[[], bool]) -> None:
    """Start the slot's engine, wait for a real token, and check that it is the published checkpoint.

    Args:
        find: looks the checkpoint up.
        stopping: whether the supervisor ends.

    Raises:
        UserError: it failed; `failures` tells what follows.
    """
    if slot.engine is not None:
        slot.engine.stop()
    if stopping():
        raise Transient("the supervisor ends")
    checkpoint = find()
    if not slot.url:
        weights.check_hashes(checkpoint)
    context = slot.plan.context if slot.plan else checkpoint.manifest.context
    plan_options = options.arguments(slot.plan.options) if slot.plan else []
    manifest = served_manifest(checkpoint, context, [*settings.engine_options, *plan_options])
    slot.manifest = manifest
    slot.engine = engine = _new_engine(slot, checkpoint, settings)
    try:
        engine.wait(settings.engine_start_seconds, lambda: stopping() or slot.leaving)
        own = client.context_of(engine.url, checkpoint.id, engine.key)
        context = min(context, own or context)
        slot.manifest = {**manifest, "context": context}
        _check(checkpoint, engine, process.coarser_dtype(checkpoint, settings), context)
    except BaseException:
        engine.stop()
        raise


def _new_engine(slot: Slot, checkpoint: Checkpoint, settings: Settings) -> Engine:
    if slot.url:
        return Engine(checkpoint, slot.url, key=remote.key_of(settings, slot.url))
    assert slot.plan is not None, "planned before it starts"
    return process.start(checkpoint.path, checkpoint.manifest.kind, settings, slot.plan)


def _check(checkpoint: Checkpoint, engine: Engine, dtype: str, context: int) -> None:
    for attempt in range(1, CHECKS + 1):
        try:
            return conformance.check(checkpoint, engine.url, dtype, engine.key, context)
        except Transient:
            if attempt == CHECKS or not engine.alive():
                raise
            time.sleep(CHECK_SECONDS)


def drain(slot: Slot, started: Future[None] | None, settings: Settings) -> None:
    """Let the slot's engine finish its requests, then end it. A server elsewhere is left alone."""
    if started is not None and not started.cancel():
        started.exception()  # waits: the start sees `leaving` and gives up
    if slot.engine is not None:
        time.sleep(UNSEEN_SECONDS)
        if slot.engine.owned and slot.engine.alive():
            slot.engine.drain(slot.engine.running, settings.drain_seconds)
        slot.engine.stop()


def remarks(slot: Slot) -> str:
    """How an engine differs from its checkpoint: a shorter context, or numbers that nobody could compare."""
    if slot.engine is None:
        return ""
    manifest, text = slot.engine.checkpoint.manifest, ""
    context = slot.manifest.get("context", manifest.context)
    if context < manifest.context:
        text += f", with a context of {context} of the model's {manifest.context} tokens"
    if slot.plan is not None and slot.plan.options:
        text += ", with " + " ".join(f"{name}={value}" for name, value in slot.plan.options.items())
    if reason := manifest.probe.get("absent"):
        text += f"; its numbers were not checked: {reason}"
    return text
