"""Why an engine failed, as far as it decides what to do next: wait, try again, or stop trying."""

from __future__ import annotations

import re

from training.artifacts.errors import UserError

# vLLM's last words where another start would end the same way.
HOPELESS = re.compile(
    r"[Mm]odel architectures? .* (?:failed to be inspected|(?:is|are) not supported)"
    r"|does not recognize this architecture|Cannot find any model weights|unrecognized arguments|invalid choice"
    r"|is not divisible by|[Hh]ead size \d+ is not supported|Unknown quantization method"
    r"|invalid (?:tool call|reasoning) parser"
)


class Permanent(UserError):
    """The checkpoint itself is at fault: starting it again would not help."""


class Transient(UserError):
    """Nothing is known against the checkpoint: an engine that is busy, slow, or elsewhere and down."""


class NoRoom(UserError):
    """The machine's memory does not hold it beside what runs already."""


def of_start(message: str) -> UserError:
    """The failure of a server that ended while it started, by what its log says."""
    return Permanent(message) if HOPELESS.search(message) else UserError(message)


def same_reason(one: str | None, other: str | None) -> bool:
    """Whether two failures are alike but for process ids, ports, sizes and times."""
    return one is not None and other is not None and _without_numbers(one) == _without_numbers(other)


def _without_numbers(text: str) -> str:
    # Logs are named with a random suffix: hexadecimal digits count as numbers where a digit is among them.
    return re.sub(r"\b[0-9a-f]*[0-9][0-9a-f.]*\b", "0", re.sub(r"\(log: [^)]*\)", "", text))
