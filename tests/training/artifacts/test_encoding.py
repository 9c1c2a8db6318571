"""Responses to one prompt share its encoding, and long conversations are refused early: the rows stay the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tiny_models
from tests.support.conversations import assistant, user, with_template
from tests.support.families import CHATML, FAMILIES, tokenizer_of
from training.artifacts.conversations import Refusal
from training.artifacts.encoding import Encoder
from training.artifacts.rendering import Renderer

pytestmark = pytest.mark.unit

ANSWERS = ["Paris", " Paris", "\nParis", "1. a\n2. b", "é", "no </s", "Paris"]


@pytest.mark.parametrize("name", FAMILIES)
def test_responses_to_one_prompt_are_rendered_as_each_alone(name: str) -> None:
    renderer = Renderer(tokenizer_of(FAMILIES[name]))
    prompts = [[user("q?")], [user("q?"), assistant("a"), user("  r ")], [user("s")]]
    talks = [[*prompt, assistant(answer)] for prompt in prompts for answer in ANSWERS]
    assert renderer.render(talks) == [renderer.render([talk])[0] for talk in talks]


@settings(max_examples=60)
@given(st.lists(st.text(max_size=12), min_size=2, max_size=4), st.text(max_size=12))
def test_whatever_the_responses_say(answers: list[str], question: str) -> None:
    renderer = Renderer(TOKENIZER)
    talks = [[user("one"), assistant("two"), user(question), assistant(answer)] for answer in answers]
    assert renderer.render(talks) == [renderer.render([talk])[0] for talk in talks]


TOKENIZER = tokenizer_of(FAMILIES["Llama 3"])


def test_a_shared_prompt_is_encoded_once() -> None:
    tokenizer = with_template(CHATML)
    encoder = Encoder(tokenizer, ("<|im_start|>",))
    seen: list[str] = []

    class Recording:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, texts: Any, **options: Any) -> Any:
            seen.extend(texts if isinstance(texts, list) else [texts])
            return tokenizer(texts, **options)

    encoder.tokenizer = Recording()
    prompt = "<|im_start|>user\n" + "long " * 50 + "<|im_end|>\n<|im_start|>assistant\n"
    rows = list(encoder.encode_answers([(prompt + answer, prompt) for answer in ("a", "b", "c")]))
    assert [row.ids for row in rows] == [encoder.ids(prompt + answer) for answer in ("a", "b", "c")]
    assert sum("long" in text for text in seen) == 4  # the first of the three, and the three to compare with


@pytest.mark.parametrize("turns", [64, 66, 3000])
def test_a_conversation_of_very_many_turns_is_refused_without_rendering_each_of_its_beginnings(turns: int) -> None:
    renderer = Renderer(tiny_models.tokenizer())
    written = 0
    texts = renderer.template.texts

    def counting(conversations: Any, **options: Any) -> Any:
        nonlocal written
        written += sum(map(len, conversations))
        return texts(conversations, **options)

    renderer.template.texts = counting  # type: ignore[method-assign]
    talk = [(user, assistant)[i % 2]("the water is hot") for i in range(turns)]
    assert renderer.render([talk], learn=True, longest=100) == [Refusal("too_long", "100")]
    assert written <= 64 * 64 * 2
    (whole,) = renderer.render([talk[:66]], learn=True, longest=2000)
    assert not isinstance(whole, Refusal)


def test_many_turns_that_a_prompt_holds_without_their_thoughts_are_not_refused() -> None:
    """Some templates write thoughts where nothing is to be sampled, and only there."""
    shortened = "(m.content.split('</think>')[-1] if add_generation_prompt else m.content)"
    renderer = Renderer(with_template(CHATML.replace("m.content", shortened)))
    talk = [(user, assistant)[i % 2]("so" if i % 2 == 0 else "hm " * 100 + "</think>yes") for i in range(66)]
    talk[-1] = assistant("yes")
    (row,) = renderer.render([talk])
    assert not isinstance(row, Refusal)
    assert renderer.render([talk], longest=len(row.ids)) == [row]
