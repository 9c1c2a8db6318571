"""Published layouts of benchmark files, turned into the columns of the hub's copy that lm-eval's own task reads.

The prompt is then lm-eval's by construction. Each benchmark is read as the hub has it, as its authors publish it, and
as the files of MosaicML's gauntlet write it (`query`, `choices`, `gold`; `context_options`, `continuation`, `gold`;
`context`, `continuation`). Where the gauntlet lost what the hub's columns hold (the pronoun of a Winograd schema), the
columns are chosen so that the prompt is the same. A file whose questions lack some of the original choices cannot give
the original prompt: it raises `NotOfficial`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.artifacts.skips import Skip

Row = dict[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_CHOICE = "the gold label names no choice"
PRONOUN = "it"  # stands where a gauntlet file has lost the pronoun; the prompt does not hold it
ARTICLES = ("A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their")  # lm-eval lowers these


class NotOfficial(Skip):
    """The file asks something else than the benchmark that its name says."""

    def __init__(self, reason: str) -> None:
        super().__init__("not_official", reason)


@dataclass(frozen=True)
class Official:
    """A benchmark whose published files can be read.

    Attributes:
        task: lm-eval's name.
        yaml: lm-eval's file, below its folder `tasks`.
        columns: from a row as published to the hub's columns. Raises `Skip`, or `KeyError` for an unknown layout.
    """

    task: str
    yaml: str
    columns: Callable[[Mapping[str, Any]], Row]


def _hellaswag(row: Mapping[str, Any]) -> Row:
    if "query" in row:  # the context as lm-eval cleans it: cleaned again, it stays as it is
        activity, colon, context = filled(row["query"]).partition(": ")
        if not colon:
            raise Skip("malformed_column", "a column holds something else than it should")
        endings, label = _choices(row)
        return {"activity_label": activity, "ctx_a": context, "ctx_b": "", "endings": endings, "label": str(label)}
    endings = texts(row["endings"])
    return {
        "activity_label": filled(row["activity_label"]),
        "ctx_a": text(row["ctx_a"]),
        "ctx_b": text(row["ctx_b"]),
        "endings": endings,
        "label": str(index(row["label"], endings)),
    }


def _winogrande(row: Mapping[str, Any]) -> Row:
    if "sentence" in row:
        sides = text(row["sentence"]).split("_")
        if len(sides) != 2 or not sides[1].strip():
            raise Skip("no_gap", "the sentence does not have one gap with words behind it")
        options = texts([row["option1"], row["option2"]])
        answer = ordinal(row["answer"], options)
        return {
            "sentence": row["sentence"], "option1": options[0], "option2": options[1], "answer": str(answer + 1)
        }  # fmt: skip
    prefix, options, continuation, gold = _partial(row)
    if "_" in prefix:
        prefix, options = "", [prefix + option for option in options]
    return {
        "sentence": f"{prefix}_ {continuation}",
        "option1": options[0],
        "option2": options[1],
        "answer": str(gold + 1),
    }


def _wsc273(row: Mapping[str, Any]) -> Row:
    if "pronoun_loc" in row:
        options = texts(row["options"])
        return {
            "text": filled(row["text"]),
            "pronoun": filled(row["pronoun"]),
            "pronoun_loc": int(row["pronoun_loc"]),
            "options": options,
            "label": index(row["label"], options),
        }
    prefix, options, continuation, gold = _partial(row)
    # lm-eval lowers an article at the head of an option, except behind a full stop: keep it from the option's head.
    while prefix and any(option.split()[0] in ARTICLES for option in options) and not prefix.endswith(". "):
        prefix, word = _without_last_word(prefix)
        options = [word + option for option in options]
    # At the head of a text lm-eval lowers an article, in the hub's row too: the prompt is still the official one.
    return {
        "text": f"{prefix}{PRONOUN} {continuation}",
        "pronoun": PRONOUN,
        "pronoun_loc": len(prefix),
        "options": options,
        "label": gold,
    }


def _arc(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        choices, gold = _choices(row)
        question = filled(row["query"]).removeprefix("Question: ").removesuffix("\nAnswer:").rstrip("\n")
        return {"question": question} | _labelled(choices, gold)
    return {"question": filled(_stem(row))} | _with_key(row)


def _openbookqa(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        choices, gold = _choices(row)
        return {"question_stem": filled(row["query"]).rstrip()} | _labelled(choices, gold)
    stem = row["question_stem"] if "question_stem" in row else _stem(row)
    return {"question_stem": filled(stem)} | _with_key(row)


def _commonsense_qa(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        raise NotOfficial("four of the five choices of CommonsenseQA")
    columns: Row = {"question": filled(_stem(row))} | _with_key(row)
    if columns["choices"]["label"] != list("ABCDE"):
        raise Skip("no_choices", "choices are not five texts labelled A to E")
    return columns


def _piqa(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        choices, gold = _choices(row, exactly=2)
        goal = filled(row["query"]).removeprefix("Question: ").removesuffix("\nAnswer:").removesuffix("\n")
        return {"goal": goal, "sol1": choices[0], "sol2": choices[1], "label": gold}
    options = texts([row["sol1"], row["sol2"]])
    return {"goal": filled(row["goal"]), "sol1": options[0], "sol2": options[1], "label": index(row["label"], options)}


def _boolq(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        passage, mark, question = filled(row["query"]).rpartition("\nQuestion: ")
        choices, gold = _choices(row, exactly=2)
        if not mark or choices != ["no", "yes"]:
            raise Skip("malformed_column", "a column holds something else than it should")
        question = question.removesuffix("\nAnswer:").rstrip().removesuffix("?")
        return {"passage": passage.removeprefix("Passage: "), "question": question, "label": gold}
    label = row["label"] if "label" in row else row["answer"]
    if not isinstance(label, bool | int) or label not in (0, 1):
        raise Skip("no_choice", NO_CHOICE)
    return {"passage": filled(row["passage"]), "question": filled(row["question"]), "label": int(label)}


def _lambada(row: Mapping[str, Any]) -> Row:
    if "text" in row:
        passage = filled(row["text"])
    else:
        word = filled(row["continuation"]).strip()
        if " " in word:
            raise Skip("no_word", "the continuation is not one word")
        passage = f"{filled(row['context']).rstrip()} {word}"
    if " " not in passage.strip() or passage.endswith(" "):
        raise Skip("short_text", "fewer than two words")
    return {"text": passage}


def _social_iqa(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        raise NotOfficial("two of the three answers of Social IQa")
    answers = texts([row["answerA"], row["answerB"], row["answerC"]])
    gold = ordinal(row["label"], answers) if "label" in row else index(LETTERS.find(str(row["correct"])), answers)
    columns = dict(zip(("answerA", "answerB", "answerC"), answers, strict=True))
    return {"context": filled(row["context"]), "question": filled(row["question"])} | columns | {"label": str(gold + 1)}


def _copa(row: Mapping[str, Any]) -> Row:
    if "query" in row:
        choices, gold = _choices(row, exactly=2)
        premise, _, connector = filled(row["query"]).strip().rpartition(" ")
        question: Any = {"because": "cause", "therefore": "effect"}.get(connector)
        if question is None:
            raise Skip("malformed_column", "a column holds something else than it should")
        premise = premise.removesuffix(",") + "."  # lm-eval drops the last sign and has no comma
    else:
        choices = texts([row["choice1"], row["choice2"]])
        premise, question, gold = filled(row["premise"]), row["question"], index(row["label"], choices)
    if question not in ("cause", "effect"):
        raise Skip("malformed_column", "a column holds something else than it should")
    return {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": question, "label": gold}


def _entailment(first: str, second: str) -> Callable[[Mapping[str, Any]], Row]:
    """RTE in the columns of GLUE (`sentence1`, `sentence2`) or SuperGLUE (`premise`, `hypothesis`)."""

    def columns(row: Mapping[str, Any]) -> Row:
        premise, hypothesis = (
            (row["premise"], row["hypothesis"]) if "premise" in row else (row["sentence1"], row["sentence2"])
        )
        label = {"entailment": 0, "not_entailment": 1}.get(row["label"], row["label"])
        return {first: filled(premise), second: filled(hypothesis), "label": index(label, ["True", "False"])}

    return columns


def _sst2(row: Mapping[str, Any]) -> Row:
    sentence = row["sentence"] if "sentence" in row else row["text"]
    return {"sentence": filled(sentence), "label": index(row["label"], ("negative", "positive"))}


OFFICIAL = {
    "hellaswag": Official("hellaswag", "hellaswag/hellaswag.yaml", _hellaswag),
    "winogrande": Official("winogrande", "winogrande/default.yaml", _winogrande),
    "wsc273": Official("wsc273", "wsc273/default.yaml", _wsc273),
    "arc_easy": Official("arc_easy", "arc/arc_easy.yaml", _arc),
    "arc_challenge": Official("arc_challenge", "arc/arc_challenge.yaml", _arc),
    "piqa": Official("piqa", "piqa/piqa.yaml", _piqa),
    "boolq": Official("boolq", "super_glue/boolq/default.yaml", _boolq),
    "lambada_openai": Official("lambada_openai", "lambada/lambada_openai.yaml", _lambada),
    "openbookqa": Official("openbookqa", "openbookqa/openbookqa.yaml", _openbookqa),
    "commonsense_qa": Official("commonsense_qa", "commonsense_qa/default.yaml", _commonsense_qa),
    "social_iqa": Official("social_iqa", "siqa/siqa.yaml", _social_iqa),
    "copa": Official("copa", "super_glue/copa/default.yaml", _copa),
    "rte": Official("rte", "glue/rte/default.yaml", _entailment("sentence1", "sentence2")),
    "sglue_rte": Official("sglue_rte", "super_glue/rte/default.yaml", _entailment("premise", "hypothesis")),
    "sst2": Official("sst2", "glue/sst2/default.yaml", _sst2),
}
ALIASES = {"siqa": "social_iqa", "openbook_qa": "openbookqa", "winograd_wsc": "wsc273", "wsc": "wsc273"}


def official(name: str) -> Official | None:
    """The benchmark of that name, None where none of the files of `OFFICIAL` is called so."""
    return OFFICIAL.get(ALIASES.get(name, name))


def text(value: Any) -> str:
    """A text, which may be empty."""
    if not isinstance(value, str):
        raise Skip("malformed_column", "a column holds something else than it should")
    return value


def filled(value: Any) -> str:
    """A text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise Skip("empty_text", "an empty text")
    return value


def texts(values: Any) -> list[str]:
    """A list of texts that say something."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise Skip("empty_text", "an empty text")
    return [filled(value) for value in values]


def index(value: Any, options: Sequence[str]) -> int:
    """Index of the right option. With a single option every answer would be right; where the right one stands twice,
    the answer depends on which comes first."""
    if len(options) < 2:
        raise Skip("no_choices", "fewer than two choices")
    position = _whole(value)
    if not 0 <= position < len(options):
        raise Skip("no_choice", NO_CHOICE)
    if list(options).count(options[position]) > 1:
        raise Skip("repeated_choice", "the right choice stands there twice")
    return position


def ordinal(value: Any, options: Sequence[str]) -> int:
    """Index of the right option, where labels count from 1."""
    position = _whole(value)
    if position < 1:
        raise Skip("no_choice", NO_CHOICE)
    return index(position - 1, options)


def _whole(value: Any) -> int:
    """A label as a whole number. Raises `Skip`."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Skip("no_choice", NO_CHOICE) from None
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise Skip("no_choice", NO_CHOICE)
    return number


def _choices(row: Mapping[str, Any], exactly: int | None = None) -> tuple[list[str], int]:
    options = texts([str(choice) for choice in row["choices"]])
    if exactly is not None and len(options) != exactly:
        raise Skip("no_choices", f"not {exactly} choices")
    return options, index(row["gold"], options)


def _stem(row: Mapping[str, Any]) -> Any:
    question = row["question"]
    return question["stem"] if isinstance(question, Mapping) else question


def _with_key(row: Mapping[str, Any]) -> Row:
    """Choices and key as the hub has them, from a column of each or a list with one of each."""
    listed = row["question"]["choices"] if isinstance(row.get("question"), Mapping) else row["choices"]
    if isinstance(listed, Mapping):
        options, labels = list(listed["text"]), [str(label) for label in listed["label"]]
    else:
        options, labels = [choice["text"] for choice in listed], [str(choice["label"]) for choice in listed]
    key = str(row["answerKey"]).strip()
    if len(options) != len(labels) or len(options) < 2:
        raise Skip("no_choices", "choices are not at least two texts with a label each")
    if labels.count(key) != 1:
        raise Skip("no_choice", NO_CHOICE)
    index(labels.index(key), texts(options))
    return {"choices": {"text": texts(options), "label": labels}, "answerKey": key}


def _labelled(choices: list[str], gold: int) -> Row:
    labels = list(LETTERS[: len(choices)])
    return {"choices": {"text": choices, "label": labels}, "answerKey": labels[gold]}


def _partial(row: Mapping[str, Any]) -> tuple[str, list[str], str, int]:
    """What both contexts begin with (whole words), what each ends with, what follows, and the index of the right one.

    Raises:
        Skip: there are not two contexts.
    """
    contexts = texts(row["context_options"])
    if len(contexts) != 2:
        raise Skip("no_choices", "not 2 choices")
    contexts = [context.strip() for context in contexts]
    first, second = contexts
    length = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(map(len, contexts)))
    prefix = first[: first.rfind(" ", 0, length) + 1]
    ends = [context[len(prefix) :] for context in contexts]
    return prefix, ends, filled(row["continuation"]).strip(), index(row["gold"], contexts)


def _without_last_word(prefix: str) -> tuple[str, str]:
    """The text without its last word (and the space behind it), and that word."""
    cut = prefix.rstrip().rfind(" ") + 1
    return prefix[:cut], prefix[cut:]
