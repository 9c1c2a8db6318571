"""Two named responses to one prompt, and a verdict between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from training.artifacts.comparisons import Comparison
from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import Layout, column_text, filled, number, parsed, text_in, truth
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.messages import plain, turns
from training.artifacts.layouts.preferences.record import comparison, question_of
from training.artifacts.loading import Row

WINNERS = {
    **dict.fromkeys(("model_a", "a", "response_a", "assistant_a"), 1),
    **dict.fromkeys(("model_b", "b", "response_b", "assistant_b"), -1),
    **dict.fromkeys(("tie", "tie (bothbad)", "bothbad", "both_bad", "both bad"), 0),
}
# Their prompt is in a column that other layouts do not know, or is not text.
OWN_PROMPTS = frozenset(
    (
        "SHP",
        "HelpSteer3 preference",
        "summarize_from_feedback",
        "Arena votes",
        "Arena votes in columns",
    )
)
PREDICTIONS = {1: 1, 2: -1, 0: 0}  # which of a pair is better, 1 or 2, 0 for a tie -> the sign used here


class Verdict(NamedTuple):
    """1 when the first response is better, -1 when the second is, 0 for a tie; whether both were called bad."""

    outcome: int
    all_bad: bool = False


def _voted(row: Row, messages: Sequence[Message], texts: Sequence[str], verdict: Verdict) -> Comparison:
    ranks = {1: (1, 2), -1: (2, 1), 0: (1, 1)}[verdict.outcome]
    return comparison(row, messages, texts, ranks=ranks, all_bad=verdict.all_bad)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _number(row: Row, name: str) -> float:
    value = number(row[name])
    if value is None:
        raise fault("not_a_number", name)
    return value


def _index(row: Row, name: str) -> Verdict:
    """The better response by its index, 0 or 1."""
    index = _number(row, name)
    if index not in (0, 1):
        raise fault("not_an_index", name)
    return Verdict(1 if index == 0 else -1)


def _label_of_shp(row: Row) -> Verdict:
    return Verdict(-_index(row, "labels").outcome)  # 1 when A is better


def _strength(name: str) -> Callable[[Row], Verdict]:
    """HelpSteer: negative where the first response is better."""
    return lambda row: Verdict(-_sign(_number(row, name)))


def _alpaca_farm(row: Row) -> Verdict:
    """1 or 2; 1.5 and 0 are ties."""
    value = _number(row, "preference")
    if value not in (0, 1, 1.5, 2):
        raise fault("unknown_preference")
    return Verdict({1: 1, 2: -1}.get(int(value), 0) if value in (1, 2) else 0)


def _scores(row: Row) -> Verdict:
    return Verdict(_sign(_number(row, "score_0") - _number(row, "score_1")))


def _winner(row: Row) -> Verdict:
    word = str(row["winner"]).strip().lower()
    if word not in WINNERS:
        raise fault("unknown_winner")
    return Verdict(WINNERS[word], "bad" in word)


def _winner_columns(row: Row) -> Verdict:
    flags = [
        truth(row[f"winner_{name}"]) if filled(row, f"winner_{name}") else None
        for name in ("model_a", "model_b", "tie")
    ]
    if flags.count(True) != 1:
        raise fault("no_winner")
    return Verdict((1, -1, 0)[flags.index(True)])


def _post(row: Row) -> tuple[Message, ...]:
    """summarize_from_feedback: a post or an article, in the form that its authors gave their models."""
    info = row["info"]
    if isinstance(info, Mapping) and isinstance(info.get("post"), str):
        heads = (("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"), ("POST: ", "post"))
        lines = [f"{head}{info[key].strip()}" for head, key in heads if isinstance(info.get(key), str)]
    elif isinstance(info, Mapping) and isinstance(info.get("article"), str):
        lines = [f"Article: {info['article'].strip()}"]
    else:
        raise fault("no_post")
    return (Message(role="user", content="\n\n".join([*lines, "TL;DR:"])),)


def _summaries(row: Row) -> Comparison:
    summaries = row["summaries"]
    texts = [text_in(summary) for summary in summaries] if isinstance(summaries, list | tuple) else []
    if len(texts) != 2 or None in texts:
        raise fault("not_two_summaries")
    return _voted(row, _post(row), [text for text in texts if text is not None], _index(row, "choice"))


def _context(row: Row) -> tuple[Message, ...]:
    return turns(row["context"])


def _history(row: Row) -> tuple[Message, ...]:
    return (Message(role="user", content=column_text(row, "history").strip()),)


def _two(
    first: str, second: str, verdict: Callable[[Row], Verdict], prompt: Callable[[Row], Sequence[Message]] = question_of
) -> Callable[[Row], Comparison]:
    """A reader of two columns of text."""
    return lambda row: _voted(row, prompt(row), [column_text(row, name) for name in (first, second)], verdict(row))


def _conversations(row: Row) -> Comparison:
    """Arena votes: both conversations share all but the last turn; otherwise the answers have different prompts."""
    first, second = (plain(turns(row[name])) for name in ("conversation_a", "conversation_b"))
    judged = int(_number(row, "turn")) if filled(row, "turn") else None  # MT-Bench: the vote is on this turn
    if judged is not None:
        first, second = (_up_to(messages, judged) for messages in (first, second))
    if any(len(messages) < 2 or messages[-1]["role"] != "assistant" for messages in (first, second)):
        raise fault("not_to_assistant")
    if first[:-1] != second[:-1]:
        raise fault("different_prompts", "conversation_a and conversation_b")
    return _voted(row, first[:-1], [first[-1]["content"], second[-1]["content"]], _winner(row))


def _up_to(messages: tuple[Message, ...], exchange: int) -> tuple[Message, ...]:
    """The conversation up to the answer of its n-th exchange."""
    system = int(messages[0]["role"] == "system")
    return messages[: system + 2 * exchange]


def _one_turn(row: Row, name: str) -> str:
    """The text of a column that holds the turns of a battle as a list."""
    value = parsed(row[name])
    if isinstance(value, list) and len(value) != 1:
        raise fault("several_turns")
    text = text_in(value)
    if text is None:
        raise fault("not_text", name)
    return text


def _battle(row: Row) -> Comparison:
    prompt = (Message(role="user", content=_one_turn(row, "prompt").strip()),)
    return _voted(row, prompt, [_one_turn(row, name) for name in ("response_a", "response_b")], _winner_columns(row))


def _predictions(row: Row) -> Comparison:
    """`prediction 1` to K, with `preference` over all pairs in the order (1,2), (1,3), ... (2,3), ..."""
    texts: list[str] = []
    while filled(row, f"prediction {len(texts) + 1}"):
        texts.append(column_text(row, f"prediction {len(texts) + 1}"))
    pairs, choices = list(combinations(range(len(texts)), 2)), row["preference"]
    numbers = [number(choice) for choice in choices] if isinstance(choices, list | tuple) else []
    if len(numbers) != len(pairs) or any(choice not in PREDICTIONS for choice in numbers):
        raise fault("preference_of_pairs")
    signs = tuple((i, j, PREDICTIONS[int(c or 0)]) for (i, j), c in zip(pairs, numbers, strict=True))
    return comparison(row, question_of(row), texts, pairs=signs)


def _layout(name: str, note: str, read: Callable[[Row], Comparison], *columns: str) -> Layout:
    return Layout(name, "comparisons", tuple((column,) for column in columns), note, read)


LAYOUTS = (
    _layout(
        "SHP",
        "`labels` 1: A is better. Votes and dates are not read.",
        _two("human_ref_A", "human_ref_B", _label_of_shp, _history),
        "human_ref_A",
        "human_ref_B",
        "labels",
        "history",
    ),
    _layout(
        "PKU-SafeRLHF",
        "`better_response_id` (helpfulness) ranks; the safer response and the flags of safety are not read.",
        _two("response_0", "response_1", lambda row: _index(row, "better_response_id")),
        "response_0",
        "response_1",
        "better_response_id",
    ),
    _layout(
        "HelpSteer2 preference",
        "`preference_strength` below 0: the first is better; 0 is a tie.",
        _two("response_1", "response_2", _strength("preference_strength")),
        "response_1",
        "response_2",
        "preference_strength",
    ),
    _layout(
        "HelpSteer3 preference",
        "`context` is the conversation; `overall_preference` below 0: the first is better.",
        _two("response1", "response2", _strength("overall_preference"), _context),
        "response1",
        "response2",
        "overall_preference",
        "context",
    ),
    _layout(
        "WebGPT comparisons",
        "The higher of `score_0` and `score_1` is better; quotes are not read.",
        _two("answer_0", "answer_1", _scores),
        "answer_0",
        "answer_1",
        "score_0",
        "score_1",
    ),
    _layout(
        "summarize_from_feedback",
        "`choice` is the index of the better summary; the post goes as its authors gave it to their models.",
        _summaries,
        "summaries",
        "choice",
        "info",
    ),
    _layout(
        "Arena votes",
        "`winner`: ties are kept as ties, and both bad is flagged; battles whose earlier turns differ are left out.",
        _conversations,
        "conversation_a",
        "conversation_b",
        "winner",
    ),
    _layout(
        "Arena votes in columns",
        "`winner_model_a`, `winner_model_b`, `winner_tie`; lists of one turn each, as JSON.",
        _battle,
        "response_a",
        "response_b",
        "winner_model_a",
        "winner_model_b",
        "prompt",
    ),
    _layout(
        "two responses and a winner",
        "`winner`: A, B or a tie.",
        _two("response_a", "response_b", _winner),
        "response_a",
        "response_b",
        "winner",
    ),
    _layout(
        "AlpacaFarm",
        "`preference` 1 or 2.",
        _two("output_1", "output_2", _alpaca_farm),
        "output_1",
        "output_2",
        "preference",
    ),
    _layout(
        "predictions",
        "`prediction 1` to K; `preference` has 1, 2 or 0 for every pair; `passages` follow the question.",
        _predictions,
        "prediction 1",
        "preference",
    ),
)
