"""The command capacity: what a load needs, by `service.capacity`."""

from __future__ import annotations

import argparse
from dataclasses import fields

from service.capacity import Costs, Load, Machines, plan, refuse_nonsense
from service.settings import Settings


def capacity(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print a plan, with what each number follows from."""
    load = Load(**{field.name: getattr(parsed, field.name) for field in fields(Load)})
    machines = Machines(**{field.name: getattr(parsed, field.name) for field in fields(Machines)})
    refuse_nonsense(load, machines)
    costs = Costs()
    need = plan(load, machines, costs)
    tasks = load.votes * load.responses
    seconds = f"{machines.answer_seconds:g} s"
    lines = (
        ("gateways", f"{need.gateways}", f"one core each, busy {need.busy:.0%}; work waits {need.wait * 1e3:.2f} ms"),
        ("  for their CPU", f"{need.for_cpu}", f"{load.work(costs):.1f} cores of work"),
        ("  to sample ahead", f"{need.for_sampling}", f"{load.votes:.1f} tasks/s, each {seconds}"),
        ("  to keep tasks ready", f"{need.for_keeping}", f"{load.ahead:g} for each labeler"),
        ("engines", f"{need.engines}", f"{load.token_rate:,.0f} tokens/s, {machines.engine_tokens:,.0f} each (given)"),
        ("requests at engines", f"{need.in_flight:,.0f}", f"{load.requests + tasks:,.0f}/s of {seconds}"),
        ("connections", f"{need.connections:,}", "to PostgreSQL at most (max_connections, or a pooler)"),
        ("transactions", f"{need.transactions:,.0f}/s", f"{load.votes:.1f} votes/s, and gateways look at tables"),
        ("network", f"{need.bits / 1e6:,.0f} Mbit/s", "from gateways to clients, and as much from engines to gateways"),
        ("PostgreSQL", f"{need.bytes_per_year / 1e9:,.0f} GB/year", f"SQLite {need.bytes_per_year_sqlite / 1e9:,.0f}"),
    )  # fmt: skip
    print("\n".join(f"{name:22}{value:>14}   {why}" for name, value, why in lines))
