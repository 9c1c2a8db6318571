"""Generation marks of templates that reach too far, or that the tokenizer cannot place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import pre_tokenizers, processors

from tests.support import tiny_models
from tests.support.conversations import PLAIN, assistant, learned, one, user
from tests.support.families import CHATML, tokenizer_of
from training.artifacts.rendering import Renderer

pytestmark = pytest.mark.unit

EVERY_TURN_MARKED = tiny_models.TEMPLATE.replace(
    "{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}"
)
ANSWERS_MARKED = tiny_models.TEMPLATE.replace(
    "{{ m['content'] }}",
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}",
)
EVERYTHING_MARKED = "{% generation %}" + tiny_models.TEMPLATE.replace(
    "{% if add_generation_prompt", "{% endgeneration %}{% if add_generation_prompt"
)


@pytest.mark.parametrize("template", [ANSWERS_MARKED, EVERY_TURN_MARKED, EVERYTHING_MARKED])
@pytest.mark.parametrize("prefix", [False, True])
def test_marks_teach_nothing_of_what_users_say(template: str, prefix: bool) -> None:
    """Some tokenizers leave blanks out of their offsets, and transformers then marks all that follows, or nothing."""
    tokenizer = tiny_models.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    talk = [user("q"), assistant("go on "), user("the day"), assistant("at home "), user("so")]
    for turns in (talk[:3], talk[:4], talk):
        tokenizer.chat_template = tiny_models.TEMPLATE
        plain = one(Renderer(tokenizer), turns)
        tokenizer.chat_template = template
        assert one(Renderer(tokenizer), turns) == plain
    assert learned(tokenizer, plain).replace(" ", "") == "goon<|end|>athome<|end|>"


def test_marks_that_end_with_a_blank_which_the_next_token_takes_in() -> None:
    answer = "{{ '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}"
    template = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
        + answer
        + "{% endgeneration %}{% else %}",
    ).replace("{% endfor %}", "{% endif %}{% endfor %}", 1)
    tokenizer = tokenizer_of(replace(PLAIN, template=template), lstrip=True)
    row = one(Renderer(tokenizer), [user("q"), assistant("no"), user("r"), assistant("yes")])
    assert learned(tokenizer, row) == "no<|im_end|>yes<|im_end|>"
