"""The renderer beyond single families: refusals, generation marks, odd ends of turns, tokenizers without offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from tests.support import tiny_models
from tests.support.conversations import assistant, codes, learned, one, user, with_template
from tests.support.families import CHATML, FAMILIES, GEMMA, ROLE_TOKENS, tokenizer_of
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.rendering import Rendered, Renderer, show
from training.artifacts.templates import generation_eos, stop_ids, template_hash

pytestmark = pytest.mark.unit

# The same rendering as tiny_models.TEMPLATE, with the marks that transformers makes its own mask from.
MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED_WITHOUT_END = MARKED.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>")
TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "and now"},
    {"role": "assistant", "content": "go on"},
]


TINY: list[Any] = []


def tiny_with(template: str) -> Any:
    """One tokenizer for all examples, with this template."""
    TINY[:] = TINY or [tiny_models.tokenizer()]
    TINY[0].chat_template = template
    return TINY[0]


@settings(max_examples=40)
@given(st.lists(st.text(max_size=20), min_size=2, max_size=7))
def test_the_mask_equals_that_of_generation_marks(texts: list[str]) -> None:
    tokenizer = tiny_with(MARKED)
    turns = [(user, assistant)[i % 2](text) for i, text in enumerate(texts)]
    marked = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    by_marks = one(Renderer(tokenizer), turns)
    assert (by_marks.ids, by_marks.mask) == (marked["input_ids"], marked["assistant_masks"])
    for other in (tiny_models.TEMPLATE, MARKED_WITHOUT_END):
        assert one(Renderer(tiny_with(other)), turns) == by_marks


def test_marks_may_hold_the_header_and_what_follows_the_end() -> None:
    """As SmolLM 3 has them: a header is never sampled, so it is not learned either."""
    answer = "{{ '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}"
    marked = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
        + answer
        + "{% endgeneration %}{% else %}",
    ).replace("{% endfor %}", "{% endif %}{% endfor %}", 1)
    talk = [user("q"), assistant("no"), user("r"), assistant("yes")]
    tokenizer = with_template(marked)
    row = one(Renderer(tokenizer), talk)
    assert row == one(Renderer(with_template(CHATML)), talk)
    assert learned(tokenizer, row) == "no<|im_end|>yes<|im_end|>"


def test_marks_hold_where_rendering_alone_would_learn_more() -> None:
    # This template's author marks the words alone, not the thought before them.
    tokenizer = tiny_with(MARKED.replace("{% generation %}", "(hm){% generation %}"))
    row = one(Renderer(tokenizer), TURNS[1:])
    assert learned(tokenizer, row) == "hi<|end|>go on<|end|>"
    first_weightless = [TURNS[1], assistant("hi", weight=0), *TURNS[3:]]
    assert learned(tokenizer, one(Renderer(tokenizer), first_weightless)) == "go on<|end|>"


@pytest.mark.parametrize("name", ["Qwen 3", "DeepSeek-R1 distill"])
def test_a_thought_is_learned_in_the_last_turn_and_stripped_from_earlier_ones(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    thought = {"Qwen 3": "<think>\nhm\n</think>\n\nyes", "DeepSeek-R1 distill": "hm\n</think>\n\nyes"}[name]
    renderer = Renderer(tokenizer)
    row = one(renderer, [user("q"), assistant(thought)])
    assert learned(tokenizer, row) == thought + tokenizer.eos_token
    again = one(renderer, [user("q"), assistant(thought), user("r"), assistant(thought)])
    assert learned(tokenizer, again) == thought + tokenizer.eos_token
    assert again.context_turns == 1


def test_a_thought_that_the_prompt_has_opened_is_not_opened_twice() -> None:
    tokenizer = tokenizer_of(FAMILIES["DeepSeek-R1 distill"])
    opened, unopened = (
        one(Renderer(tokenizer), [user("q"), assistant(t + "hm</think>yes")]) for t in ("<think>\n", "")
    )
    assert opened == unopened
    assert tokenizer.decode(opened.ids).count("<think>") == 1


END_THEN_EOS = ROLE_TOKENS + "{% if not add_generation_prompt %}<|endoftext|>{% endif %}"
ALWAYS_A_HEADER = ROLE_TOKENS.replace("{% if add_generation_prompt %}<|assistant|>{% endif %}", "<|assistant|>")
TWO_TOKENS = ROLE_TOKENS.replace("<|eot|>", "<|end_response|><|eot|>")
WORDS_THEN_END = ROLE_TOKENS.replace("<|eot|>", "\n<|eot|>")


@pytest.mark.parametrize(
    "template, eos, end, words, rest",
    [
        (END_THEN_EOS, "<|endoftext|>", "<|eot|>", "yes<|eot|>", "<|endoftext|>"),  # as Phi 3 small
        (ALWAYS_A_HEADER, "<|endoftext|>", "<|eot|>", "yes<|eot|>", "<|assistant|>"),  # as Llama 3 at first
        (TWO_TOKENS, "<|eot|>", "<|eot|>", "yes<|end_response|><|eot|>", ""),  # as Command R 7B
        (WORDS_THEN_END, "<|endoftext|>", "<|eot|>", "yes\n<|eot|>", ""),  # as DeepSeek Coder
    ],
)
def test_odd_ends_of_turns(template: str, eos: str, end: str, words: str, rest: str) -> None:
    tokens = ("<|user|>", "<|assistant|>", "<|eot|>", "<|end_response|>", "<|endoftext|>")
    tokenizer = with_template(template, eos=eos, tokens=tokens)
    renderer = Renderer(tokenizer)
    row = one(renderer, [user("q"), assistant("no"), user("r"), assistant("yes")])
    assert renderer.stop_ids[0] == tokenizer.convert_tokens_to_ids(end)
    assert learned(tokenizer, row) == words.replace("yes", "no") + words
    assert tokenizer.decode(row.ids).endswith(words + rest)
    (prompt,) = renderer.prompts([[user("q"), assistant("no"), user("r")]])
    assert isinstance(prompt, Rendered)
    response = tokenizer(words, add_special_tokens=False)["input_ids"]
    assert renderer.extend(prompt.ids, response) == row.ids
    assert renderer.answer(response) == "yes"


def test_where_nothing_can_end_a_turn_training_is_refused_and_serving_is_not() -> None:
    several_tokens = with_template(CHATML, eos=None, tokens=())
    renderer = Renderer(several_tokens)
    assert renderer.stop_ids == ()
    with pytest.raises(UserError, match=r"nothing ends an assistant's turn.*--chat-template default"):
        renderer.require_end()
    assert learned(several_tokens, one(renderer, [user("q"), assistant("yes")])) == "yes"
    assert renderer.extend([1, 2], [3]) == [1, 2, 3]
    # generation_config.json may name what the tokenizer does not.
    named = Renderer(several_tokens, stop_ids=[7])
    assert named.stop_ids == (7,)
    named.require_end()


def test_a_template_that_never_writes_the_answer_leaves_a_model_that_can_be_served() -> None:
    renderer = Renderer(with_template("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"))
    (prompt,) = renderer.prompts([[user("q")]])
    assert isinstance(prompt, Rendered)
    assert renderer.stop_ids
    for learn in (True, False):  # nor is such an answer trained, or scored like any other
        refusal = Refusal("template", "it does not write what the assistant says")
        assert renderer.render([[user("q"), assistant("a")]], learn=learn) == [refusal]


@pytest.mark.parametrize("template", [" ", "You help."])
def test_a_prompt_without_the_user_s_words_is_refused(template: str) -> None:
    refusal = Refusal("template", "it does not write what the user says")
    assert Renderer(with_template(template)).prompts([[user("q")], [user("r")]]) == [refusal, refusal]


def test_an_answer_that_stands_before_its_question_is_refused() -> None:
    """Else a question of the renderer's own, by which it looks for the end of a turn, would be trained on."""
    renderer = Renderer(with_template("{% for m in messages|reverse %}{{ m.content + eos_token }}{% endfor %}"))
    refusal = Refusal("template", "it writes the user's words after the answer")
    for learn in (True, False):
        assert renderer.render([[user("q"), assistant("a")]], learn=learn) == [refusal]


def test_an_answer_keeps_its_space_where_the_header_of_its_turn_is_written_otherwise() -> None:
    """As Falcon: a finished turn has one more blank line before its header, and a space after it."""
    template = (
        "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
        "{{ '\n\n' + m.role.title() + ': ' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
    )
    renderer = Renderer(with_template(template))
    for answer in ("yes", "Assistant: yes"):
        row = one(renderer, [user("q"), assistant("no"), user("r"), assistant(answer)])
        assert learned(renderer.tokenizer, row) == f" {answer}<|endoftext|>"
        written = "\n\nUser: q\n\n\nAssistant: no\n\n\nUser: r\n\nAssistant:"
        assert renderer.tokenizer.decode(row.ids) == f"{written} {answer}<|endoftext|>"
        assert renderer.answer([i for i, mark in zip(row.ids, row.mask, strict=True) if mark]) == answer


def test_refusals_have_their_true_name_and_spare_the_others() -> None:
    tokenizer = with_template(GEMMA, bos="<bos>", tokens=("<start_of_turn>", "<end_of_turn>"))
    fine = [user("q"), assistant("a")]
    conversations: list[Any] = [
        fine,
        [{"role": "system", "content": "s"}, *fine],
        [user("q"), user("r"), assistant("a")],
        [user("half \ud83d"), assistant("a")],
        [user("q <end_of_turn>\n<start_of_turn>user\nb"), assistant("a")],
        [user("q " * 40), assistant("a")],
        [],
        fine,
    ]
    expected = ["", "system_role", "template", "broken_text", "special_token", "too_long", "malformed", ""]
    for learn in (True, False):
        rows = Renderer(tokenizer).render(conversations, learn=learn, longest=30)
        assert codes(rows) == expected
        assert rows[0] == rows[-1]
        sentences = [sentence(row) for row in rows if isinstance(row, Refusal)]
        assert sentences[:2] == [
            "the chat template refuses the system role",
            "the chat template refuses the conversation: roles must alternate",
        ]
        assert sentences[4] == "longer than 30 tokens"
    prompts = [conversation[:-1] for conversation in conversations[:-1]]
    assert codes(Renderer(tokenizer).prompts([*prompts, fine], longest=30)) == [*expected[:-1], "malformed"]


def test_a_template_that_fails_in_python_refuses_its_conversation_alone() -> None:
    needs_text = CHATML.replace("'\n' + m.content", "'\n' + (m.content if m.content else 5)")
    rows = Renderer(with_template(needs_text)).render([[user(""), assistant("a")], [user("q"), assistant("a")]])
    assert codes(rows) == ["template", ""]
    assert isinstance(rows[0], Refusal)
    assert 'can only concatenate str (not "int") to str' in sentence(rows[0])


def test_a_template_that_reads_text_parts_alone_gets_them() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role + '\n' }}{% for part in m.content %}{{ part.text }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    parts, strings = Renderer(with_template(template)), Renderer(with_template(CHATML))
    talk = [user("q"), assistant("a")]
    assert one(parts, talk) == one(strings, talk)
    as_parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in talk]
    assert one(strings, as_parts) == one(strings, talk)


def test_tokens_that_mark_turns_are_refused_in_messages_whatever_their_kind() -> None:
    tokenizer = tokenizer_of(FAMILIES["DeepSeek-R1 distill"])
    renderer = Renderer(tokenizer)
    for mark in ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<pad>"):
        assert renderer.render([[user(f"a{mark}b"), assistant("c")]]) == [Refusal("special_token", mark)]
    one(renderer, [user("what is <think> ?"), assistant("so</think>it is")])
    end_is_plain = with_template(CHATML, tokens=(), plain_tokens=("<|im_start|>", "<|im_end|>"))
    renderer = Renderer(end_is_plain)
    assert renderer.stop_ids[0] == end_is_plain.convert_tokens_to_ids("<|im_end|>")
    assert {"<|im_start|>", "<|im_end|>"} <= set(renderer.control_strings)
    row = one(renderer, [user("q"), assistant("a")])
    end = max(index for index, mark in enumerate(row.mask) if mark)
    assert renderer.answer(row.ids[end - 1 : end + 1]) == "a"


NEVER_CLOSED = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def test_a_tokenizer_without_offsets_gives_the_same_rows() -> None:
    """ByT5 is plain Python: every byte is a token, but it tells no places."""
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "</s>")
    renderer = Renderer(tokenizer)
    assert renderer.stop_ids == (tokenizer.eos_token_id,)
    row = one(
        renderer, [user("é?"), assistant("no"), user("r"), assistant("\nyes", weight=1), user("s"), assistant("ü")]
    )
    assert learned(tokenizer, row) == "no</s>\nyes</s>ü</s>"
    (prompt,) = renderer.prompts([[user("é?")]])
    assert isinstance(prompt, Rendered)
    assert row.ids[: len(prompt.ids)] == prompt.ids
    tokenizer.chat_template = NEVER_CLOSED
    row = one(Renderer(tokenizer), [user("q"), assistant("no"), user("r"), assistant("yes")])
    assert learned(tokenizer, row) == "noyes</s>"


def test_without_offsets_an_earlier_turn_that_merges_with_its_header_is_counted_as_context() -> None:
    tokenizer = with_template(NEVER_CLOSED)

    class WithoutOffsets:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, text: Any, **options: Any) -> dict[str, Any]:
            return {"input_ids": tokenizer(text, **options)["input_ids"]}

    talk = [user("q"), assistant("the"), user("r"), assistant("the")]
    row = one(Renderer(WithoutOffsets()), talk)
    assert (learned(tokenizer, row), row.context_turns) == ("the<|endoftext|>", 1)


def test_without_a_template_the_error_names_the_ready_one() -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = None
    assert template_hash(tokenizer) is None
    assert stop_ids(tokenizer, [9]) == (0, 9)
    with pytest.raises(UserError, match=r"has no chat template.*`--chat-template default`"):
        Renderer(tokenizer)
    tokenizer.chat_template = {"rag": "x", "tool_use": "y"}
    with pytest.raises(UserError, match="named rag, tool_use and none named `default`"):
        Renderer(tokenizer)


def test_the_template_hash_is_that_of_its_text() -> None:
    assert template_hash(tiny_with(MARKED)) != template_hash(tiny_models.tokenizer())
    assert template_hash(tiny_with(tiny_models.TEMPLATE)) == template_hash(tiny_models.tokenizer())
    assert template_hash(tokenizer_of(FAMILIES["named templates"])) != template_hash(with_template(CHATML))


def test_stop_ids_are_the_template_s_end_the_tokenizer_s_and_the_generation_config_s(tmp_path: Path) -> None:
    tokenizer = with_template(CHATML)
    file = tmp_path / "generation_config.json"
    assert generation_eos(tmp_path) == ()
    file.write_text('{"eos_token_id": [3, 4]}')
    assert generation_eos(tmp_path) == (3, 4)
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert stop_ids(tokenizer, generation_eos(tmp_path)) == (end, eos, 3, 4)
    for text, ids in (
        ('{"eos_token_id": 5}', (5,)),
        ('{"eos_token_id": null}', ()),
        ('{"eos_token_id": [true, -1, 6]}', (6,)),
        ("[]", ()),
        ("no JSON", ()),
    ):
        file.write_text(text)
        assert generation_eos(tmp_path) == ids


def test_many_conversations_are_rendered_as_each_alone() -> None:
    renderer = Renderer(tiny_models.tokenizer())
    talks = [[*talk, assistant("so it is")] for talk in tiny_models.conversations(600, seed=1)]
    talks[300] = [user("<|end|>"), assistant("a")]
    rows = renderer.render(talks, learn=True)
    assert len(rows) == 600
    assert [i for i, row in enumerate(rows) if isinstance(row, Refusal)] == [300]
    for index in (0, 255, 256, 299, 301, 599):
        assert rows[index] == one(renderer, talks[index])
    assert renderer.render([]) == []


def test_what_is_learned_is_shown_green() -> None:
    tokenizer = tiny_models.tokenizer()
    text = show(tokenizer, one(Renderer(tokenizer), TURNS[1:]))
    assert text.plain == "<|user|>hello there<|assistant|>hi<|end|><|user|>and now<|assistant|>go on<|end|>"
    green = [text.plain[span.start : span.end] for span in text.spans if span.style == "green"]
    assert green == ["hi<|end|>", "go on<|end|>"]


def test_a_token_that_the_model_has_no_weights_for_leaves_out_its_row() -> None:
    tokenizer = tiny_models.tokenizer()
    size = len(tokenizer)
    tokenizer.add_tokens(["<extra>"])
    renderer = Renderer(tokenizer, size=size)
    rows = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "so"}] for text in ("say <extra>", "a")
    ]
    refused, row = renderer.render(rows, learn=True)
    assert refused == Refusal("unknown_token", "<extra>")
    assert isinstance(row, Rendered)
    assert isinstance(renderer.prompts([rows[0][:1]])[0], Refusal)
    assert isinstance(Renderer(tokenizer, size=size + 1).prompts([rows[0][:1]])[0], Rendered)
