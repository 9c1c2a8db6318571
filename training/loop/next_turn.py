"""The next turn of `python -m training real`: from rankings that people gave on the page to a policy, and its check.

Rankings of a stand-in labeler are marked `simulated` in the export, in the manifest of what is trained on them and in
the report, and are not taken for a person's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.artifacts import checkpoints, comparisons
from training.artifacts.comparisons import SIMULATED, Comparison
from training.artifacts.errors import UserError
from training.artifacts.layouts import prompts as prompt_rows
from training.loop import client, simulate, standin
from training.loop.client import Service
from training.loop.steps import command
from training.runtime import runs

if TYPE_CHECKING:
    from training.loop.real import Steps, Turn

print_status = runs.CONSOLE.print
FEWEST = 20  # rankings: with fewer, chance decides what is learned
STEP = "next-turn"
K = 4  # responses that the stand-in labeler ranks at once: two of each policy
LABELERS = 8  # side by side: engines write several answers at once in little more time than one
NOISE = 0.25  # of the stand-in labeler, in standard deviations of its scores
# Few rankings: more passes over them in smaller steps than the preset has for thousands.
FEW = ("--epochs", "3", "--batch", "8")


def select(rows: Sequence[Comparison], allow_simulated: bool) -> list[Comparison]:
    """The rankings to train on; says what is left out.

    Raises:
        UserError: there are fewer than `FEWEST`.
    """
    blind = [row for row in rows if comparisons.is_blind(row)]
    if len(blind) < len(rows):
        print_status(f"left out: {len(rows) - len(blind)} rankings given after the names were shown")
    people = [row for row in blind if row.labeler_group != SIMULATED]
    simulated = len(blind) - len(people)
    usable = blind if allow_simulated else people
    if len(usable) < FEWEST:
        beside = f", and {simulated} simulated ones (--allow-simulated takes them too)" if simulated else ""
        raise UserError(
            f"there are {len(people)} rankings of people{beside}: rank at least {FEWEST} prompts on /compare, then run "
            "the same command"
        )
    if simulated and not allow_simulated:
        print_status(f"left out: {simulated} simulated rankings (--allow-simulated takes them too)")
    return usable


def train(steps: Steps, turn: Turn) -> str:
    """Train the next policy on the rankings in the store, from the newest policy; its id."""
    exported = steps.home / "human" / "rankings.jsonl"
    command("service", "export", str(exported), "--home", str(steps.home))
    rows = comparisons.read(exported)[0] if exported.stat().st_size else []
    return train_on(steps, turn, select(rows, steps.config.allow_simulated))


def train_on(steps: Steps, turn: Turn, rows: Sequence[Comparison]) -> str:
    """Freeze the rankings, train on them, and remember the policy as the newest."""
    key = hashlib.sha256("\n".join(sorted(row.id for row in rows)).encode()).hexdigest()[:12]
    frozen = steps.home / "human" / f"rankings-{key}.jsonl"
    digest, count = comparisons.freeze(rows, frozen)
    simulated = sum(row.labeler_group == SIMULATED for row in rows)
    mark = f", {simulated} of them simulated" if simulated else ""
    print_status(f"frozen: {count} rankings{mark}, sha256 {digest[:12]}", highlight=False)
    start, started = turn.policies[0], time.monotonic()
    if steps.config.method == "dpo":
        options = ["--data", str(frozen), "--limit", str(count), *FEW]
        policy = steps.one("next-dpo", steps.stage("dpo", "--model", start, *options))
    else:
        human = steps.home / "human"
        data = ["--data", str(human / "training.jsonl"), str(frozen)]
        reward = steps.one("next-reward", steps.stage("reward", "--model", turn.base, *data))
        options = ["--reward", reward, "--prompts", str(human / "pool.jsonl"), "--ptx-coefficient", "0"]
        policy = steps.one("next-ppo", steps.stage("ppo", "--model", start, *options))
    steps.keep(STEP, policy, time.monotonic() - started)
    return policy


def check(
    steps: Steps, service: Service, turn: Turn, files: Mapping[str, Path], drift: Mapping[str, Any]
) -> dict[str, Any]:
    """Have a stand-in labeler rank answers over HTTP, train the next turn on that, and measure it.

    Args:
        drift: of the policies before, which is not measured again.

    Returns:
        `stand_in` (what it is and how far it agrees with people), `next` (policy, rankings) and `drift` of all
        policies.

    Raises:
        UserError: a simulated ranking is not marked in the export, or the new policy does not answer.
    """
    from training.loop import real  # it imports this module

    own = comparisons.read(files["labeler"])[0]
    labeler = standin.fit(own)
    spread = labeler.spread([response.text for row in own for response in row.responses])
    agreement, pairs = labeler.agreement(comparisons.read(files["development"])[0])
    print_status(f"stand-in labeler: orders {100 * agreement:.0f} % of {pairs} pairs as people did", highlight=False)
    labelers = [replace(labeler, id=f"stand-in-{number}", noise=NOISE * spread) for number in range(LABELERS)]
    rows = _rankings(steps, service, labelers, files["pool"])
    first = real.Turn(turn.base, turn.reward, turn.policies[:1])
    policy = train_on(steps, first, rows)
    real.promote(steps, service, policy)
    _ask(service)
    measured = real.measure_drift(steps, replace(first, policies=(policy,)), files)
    return {
        "stand_in": {"agreement": agreement, "pairs": pairs, "trained_on": len(own)},
        "next": {"policy": policy, "rankings": len(rows), "simulated": len(rows), "used": _used(steps, policy)},
        "policies": [*first.policies, policy],
        "drift": {**measured, "policies": {**drift["policies"], **measured["policies"]}},
    }


def _rankings(steps: Steps, service: Service, labelers: Sequence[standin.StandIn], pool: Path) -> list[Comparison]:
    """The stand-ins' rankings, marked; asked for where the store does not hold enough yet."""

    def simulated() -> list[Comparison]:
        return [row for row in client.export(service) if row.labeler_group == SIMULATED]

    wanting = steps.config.rankings - len({row.prompt_id for row in simulated()})
    if wanting > 0:
        prompts = prompt_rows.load(str(pool)).records
        started = time.monotonic()
        counts = simulate.rank_prompts(service, prompts, labelers, wanting, K, steps.config.seed)
        steps.seconds["rankings over HTTP"] = round(time.monotonic() - started, 1)
        if not simulated():
            raise UserError(f"{counts['answered']} simulated rankings are not marked `{SIMULATED}` in the export")
    return simulated()


def _used(steps: Steps, policy: str) -> int:
    """Rankings that a policy was trained on: those with answers that were cut off are left out."""
    metrics = checkpoints.resolve(policy, steps.home / "checkpoints").manifest.metrics
    return int(metrics.get("simulated_comparisons", 0))


def _ask(service: Service) -> None:
    """Raise `UserError` where the new policy does not answer."""
    body = {"model": "policy/candidate", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    answer = service.ask("POST", "/v1/chat/completions", json=body)
    if not answer["choices"][0]["message"]["content"]:
        raise UserError("policy/candidate answers with nothing: see the service's log")
