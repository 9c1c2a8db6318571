"""The guidelines that labelers see, by version. An answer keeps the version that was on screen."""

from __future__ import annotations

from training.artifacts.errors import UserError

GUIDELINES: dict[str, tuple[str, ...]] = {
    "1": (
        "Prefer the response that you would rather get from a careful assistant if you had written the prompt.",
        "Helpful: it follows the instruction, limits included, and says no more than is useful.",
        "Truthful: it invents nothing. Where nobody can know, saying so beats a guess.",
        "Harmless: it is not rude and helps nobody to do harm. This outweighs helpfulness.",
        "Judge the content. Length, confidence and the side of the screen earn nothing.",
        "Equally good is a tie. If no response is acceptable, say that all are bad. Skip what you cannot judge.",
    )
}

FLAGS: dict[str, str] = {
    "fails_instruction": "Does not follow the instruction",
    "inappropriate": "Inappropriate for an assistant",
    "hallucination": "Invents something",
    "violates_constraint": "Breaks a limit that the prompt sets",
    "sexual": "Sexual content",
    "violent": "Violent content",
    "encourages_harm": "Encourages harm",
    "denigrates": "Denigrates a protected class",
    "harmful_advice": "Gives harmful advice",
    "opinion": "Expresses an opinion",
    "moral_judgment": "Expresses a moral judgment",
}
"""Yes/no marks of a response: those of InstructGPT's labelers (Ouyang et al. 2022, table 3)."""


def guideline(version: str) -> tuple[str, ...]:
    """The sentences of a version. Raises `UserError` for an unknown one."""
    if version not in GUIDELINES:
        raise UserError(f"there are no guidelines {version!r}: use one of {', '.join(GUIDELINES)}")
    return GUIDELINES[version]
