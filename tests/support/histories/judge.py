"""What a client may see of an alias, whatever happens behind the gateway."""

from __future__ import annotations


class Violation(AssertionError):
    """The client saw what it must never see."""


class Judge:
    """Follows the answers of one alias. It holds that

    - the alias never answers from a checkpoint that was not promoted since the one before it,
    - it never stops while an engine of what answered last is up,
    - it never vanishes.

    Attributes:
        last: the checkpoint that answered last.
        answered: the checkpoints that answered, each once in a row.
        promoted: what the alias was promoted or rolled back to since the last answer.
        disturbed: the environment has taken the last engine of `last` away.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.last: str | None = None
        self.answered: list[str] = []
        self.promoted: list[str] = []
        self.disturbed = False

    def see(self, status: int, checkpoint: str | None) -> None:
        """Take in one reply. Raises `Violation`."""
        if status == 200:
            assert checkpoint is not None
            if checkpoint != self.last:
                if checkpoint not in self.promoted:
                    raise Violation(f"{self.alias} answers from {checkpoint}, after {self.last}, unpromoted")
                place = len(self.promoted) - self.promoted[::-1].index(checkpoint)
                self.last, self.promoted = checkpoint, self.promoted[place:]
                self.answered.append(checkpoint)
            elif self.promoted[-1:] == [checkpoint]:
                self.promoted = []  # back to what answers: whatever was promoted meanwhile is called off
            self.disturbed = False
        elif self.last is not None and status == 404:
            raise Violation(f"{self.alias} vanished")
        elif self.last is not None and not self.disturbed:
            raise Violation(f"{self.alias} stopped ({status}) while engines of {self.last} were up")
