"""System turns that a chat template refuses, leaves out or takes: kept, merged or refused, never lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import tiny_models
from tests.support.conversations import assistant, codes, learned, one, user, with_template
from tests.support.families import CHATML, GEMMA
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.rendering import Rendered, Renderer

pytestmark = pytest.mark.unit

TURNS = [
    {"role": "system", "content": "be brief"},
    user("hello there"),
    assistant("hi"),
    user("and now"),
    assistant("go on"),
]


@pytest.mark.parametrize("drops", [False, True])
def test_a_refused_system_turn_can_be_merged(drops: bool) -> None:
    template = GEMMA
    if drops:  # some templates leave a system turn out without a word
        template = (
            "{% for m in messages if m.role != 'system' %}{{ '<start_of_turn>' + m.role + '\n' + m.content }}"
            "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
        )
    tokenizer = with_template(template, bos="<bos>", tokens=("<start_of_turn>", "<end_of_turn>"))
    talk = [{"role": "system", "content": "s"}, user("q"), assistant("a")]
    merging = Renderer(tokenizer, system="merge")
    assert merging.merges_system
    assert one(merging, talk) == one(Renderer(tokenizer), [user("s\n\nq"), assistant("a")])
    assert merging.prompts([talk[:2]]) == Renderer(tokenizer).prompts([[user("s\n\nq")]])
    (kept,) = Renderer(tokenizer).render([talk], learn=True)
    assert isinstance(kept, Refusal)
    assert sentence(kept) == f"the chat template {'leaves out' if drops else 'refuses'} the system role"


def test_each_system_turn_is_merged_into_the_question_after_it() -> None:
    tokenizer = with_template(GEMMA, bos="<bos>", tokens=("<start_of_turn>", "<end_of_turn>"))
    s, t, blank = ({"role": "system", "content": text} for text in ("s", "t", " \n"))
    merging = Renderer(tokenizer, system="merge")
    talk = [s, t, user("q"), assistant("a"), blank, s, user("r"), assistant("b")]
    assert one(merging, talk) == one(merging, [user("s\n\nt\n\nq"), assistant("a"), user("s\n\nr"), assistant("b")])
    for lone in ([s], [s, assistant("a")], [user("q"), s, assistant("a")], [user("q"), assistant("a"), s]):
        assert codes(merging.render([lone])) == ["template"]  # nothing that it could be merged into


DROPPING = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
FIRST_ALONE = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + DROPPING


@pytest.mark.parametrize(
    "template, system, kept, lost",
    [
        (DROPPING, "keep", "", "sq sqa ssqa qsra s"),
        (DROPPING, "merge", "sq sqa ssqa qasra", "s sa qsa qas"),
        (FIRST_ALONE, "keep", "s sq sqa sa", "ssqa sqasra qasra qas"),
    ],
)
def test_a_system_turn_is_never_left_out_in_silence(template: str, system: Any, kept: str, lost: str) -> None:
    renderer = Renderer(with_template(template), system=system)
    turns: dict[str, Any] = {"s": {"role": "system", "content": "be brief"}, "q": user("q"), "a": assistant("a")}
    turns["r"] = user("r")
    for names in f"{kept} {lost}".split():
        (row,) = renderer.render([[turns[name] for name in names]])
        if names in kept.split():
            assert isinstance(row, Rendered), names
            assert renderer.tokenizer.decode(row.ids).count("be brief") == names.count("s")
        else:
            assert row == Refusal("system_role", "leaves out"), names


def test_a_system_turn_that_the_template_takes_is_never_merged() -> None:
    tokenizer = tiny_models.tokenizer()
    renderer = Renderer(tokenizer, system="merge")
    assert not renderer.merges_system
    assert one(renderer, TURNS) == one(Renderer(tokenizer), TURNS)
    empty = one(renderer, [{"role": "system", "content": ""}, *TURNS[1:]])
    assert learned(tokenizer, empty) == learned(tokenizer, one(renderer, TURNS))


def test_a_template_that_demands_a_system_turn_is_known_like_any_other() -> None:
    """How it ends and opens turns is read from a conversation with a system turn."""
    demands = "{% if messages[0].role != 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    turns = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ ' ' + m.content }}{% endgeneration %}"
        "{{ '<eot>' }}{% else %}{{ '[' + m.role + ']' + m.content + '>' }}{% endif %}{% endfor %}"
    )
    changes: dict[str, Any] = {
        "kind": "pieces",
        "eos": "</s>",
        "tokens": ("<eot>",),
        "plain_tokens": ("[user]", "[system]"),
    }
    system = {"role": "system", "content": "s"}
    freely, strictly = (Renderer(with_template(text, **changes)) for text in (turns, demands + turns))
    assert strictly.control_strings == freely.control_strings
    assert {"[system]", "[user]"} <= set(strictly.control_strings)
    assert (strictly.stop_ids, strictly.lost_system) == (freely.stop_ids, freely.lost_system)
    for answer in ("yes", " yes", ""):
        talk = [system, user("q"), assistant(answer), user("r"), assistant(answer)]
        row = one(strictly, talk)
        assert row == one(freely, talk)
        (prompt,) = strictly.prompts([talk[:-1]])
        assert isinstance(prompt, Rendered)
        assert strictly.answer(row.ids[len(prompt.ids) :]) == answer
    (refusal,) = strictly.prompts([[user("q")]])
    assert refusal == Refusal("template", "no system turn")
    odd = strictly.template.texts([[system, {"role": "assistant", "content": None}]])  # type: ignore[typeddict-item]
    assert isinstance(odd[0], Refusal)
    assert "no system turn" not in odd[0].detail
