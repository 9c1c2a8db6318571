"""The served model answers lm-eval's requests as `lm_eval --model hf` does on the same checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_models
from tests.support.live_service import Running, running_service
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
PAIRS = [
    ("the red fox", " runs away"),
    ("one two three ", "four"),
    ("Question: who?\nAnswer:", " you and me"),
    ("a", " b"),
    ("", "from nothing at all"),
    ("", "<|end|> and more"),
    ("the water", " the"),
    ("the water", " of"),
    ("the café", "s…"),
    ("mid", "word continues"),
    ("the <|user|>", "what is it"),
    ("trailing  spaces   ", " then words"),
    ("line\n\n", "next line"),
]


@dataclass
class Served:
    """A checkpoint behind a running service."""

    running: Running
    checkpoint: Checkpoint


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tiny policy whose tokenizer puts a token in front of every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    def tokenizer() -> PreTrainedTokenizerFast:
        tok = plain()
        tok.bos_token = "<|system|>"
        number = tok.convert_tokens_to_ids("<|system|>")
        tok.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|system|> $A", pair="<|system|> $A $B", special_tokens=[("<|system|>", number)]
        )
        return tok

    plain = tiny_models.tokenizer
    home = tmp_path_factory.mktemp("bos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "tokenizer", tokenizer)
        checkpoint = tiny_models.publish_tiny(home / "checkpoints", seed=5)
    with running_service(home, ("--with-engines", checkpoint.id)) as running:
        running.wait_ready()
        yield Served(running, checkpoint)


@pytest.fixture(params=["no first token", "first token"])
def served(request: pytest.FixtureRequest) -> Served:
    if request.param == "first token":
        bos: Served = request.getfixturevalue("with_bos")
        return bos
    return Served(request.getfixturevalue("gateway"), request.getfixturevalue("tiny_policy"))


def use(served: Served, work: Callable[[Any], Any], folder: Path | None = None, context: int = 256) -> Any:
    """Run `work` on the adapter in a thread, as the suite does."""
    from evals.client import Client
    from evals.lm import ServedModel
    from evals.tokens import tokens_of

    async def main() -> Any:
        async with Client(served.running.url, served.running.add_key("eval")) as client:
            loop = asyncio.get_running_loop()

            def inside() -> Any:
                tokens = tokens_of(client, served.checkpoint.id, folder, loop)
                return work(ServedModel(client, served.checkpoint.id, loop, tokens, context))

            return await asyncio.to_thread(inside)

    return asyncio.run(main())


def lm_eval_model(checkpoint: Checkpoint, max_length: int | None = None) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(checkpoint.path), device="cpu", dtype="float32", batch_size=1, max_length=max_length)


def requests(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, 0, ("task", number, 1)) for number, one in enumerate(arguments)]


def test_log_probabilities_are_those_of_lm_evals_own_model(served: Served) -> None:
    instances = requests("loglikelihood", PAIRS)
    expected = lm_eval_model(served.checkpoint).loglikelihood(instances)
    long = requests("loglikelihood", [("word " * 400, "x")])[0]
    long.doc_id = len(PAIRS)

    def work(model: Any) -> Any:
        return model.loglikelihood([*instances, long]), model.failures, model.lengths

    for folder in (served.checkpoint.path, None):  # the folder's tokenizer, and the service's
        answers, failures, lengths = use(served, work, folder)
        for pair, mine, theirs in zip(PAIRS, answers[:-1], expected, strict=True):
            assert mine[0] == pytest.approx(theirs[0], abs=1e-3), pair
            assert mine[1] == theirs[1], pair
        assert failures == {("task", len(PAIRS)): "longer than the model's context"}
        assert len(lengths) == len(PAIRS)


def test_greedy_continuations_are_seen(served: Served) -> None:
    """Continuations that the model itself writes, of one token and of several, and the same with a wrong end."""
    import torch

    model = lm_eval_model(served.checkpoint)
    contexts = ["the red fox", "some water", "a number of people"]
    pairs = []
    for context in contexts:
        ids = torch.tensor([model.tok_encode(context)])
        for _ in range(8):
            ids = torch.cat([ids, model.model(ids).logits[:, -1:].argmax(-1)], dim=1)
            text = model.tokenizer.decode(ids[0], skip_special_tokens=True)
            if text.startswith(context):
                pairs += [(context, text[len(context) :]), (context, text[len(context) :] + " word")]
    pairs = [pair for pair in pairs if pair[1]]
    instances = requests("loglikelihood", pairs)
    expected = model.loglikelihood(instances)
    assert {greedy for _, greedy in expected} == {True, False}
    answers = use(served, lambda adapter: adapter.loglikelihood(instances), served.checkpoint.path)
    assert [greedy for _, greedy in answers] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("context", [34, 256])
def test_texts_are_rolled_through_lm_evals_windows(served: Served, context: int) -> None:
    texts = [(text,) for text in ("the", " ".join(tiny_models.sentences(12, seed=4)), "two words")]
    instances = requests("loglikelihood_rolling", texts)
    # The engine reads prompt and answer in its context; a window is one token shorter than its text, the answer is one.
    expected = lm_eval_model(served.checkpoint, max_length=context - 2).loglikelihood_rolling(instances)

    def work(model: Any) -> Any:
        assert model.max_length == context - 2
        return model.loglikelihood_rolling(instances), model.lengths

    answers, lengths = use(served, work, served.checkpoint.path, context)
    assert answers == pytest.approx(expected, abs=1e-3)
    tokens = lm_eval_model(served.checkpoint).tok_encode(texts[1][0])
    assert lengths["task", 1] == {0: len(tokens)}
    assert len(tokens) > 34


def test_the_whole_context_is_used(served: Served) -> None:
    """The longest text that the adapter lets through is one that the engine takes."""
    words = [(" ".join(["the"] * count), " fox") for count in range(248, 262)]
    instances = requests("loglikelihood", words)

    def work(model: Any) -> Any:
        return model.loglikelihood(instances), model.failures, [len(pair.ids) for pair in model.pairs(words)]

    _, failures, sizes = use(served, work, served.checkpoint.path)
    assert {("task", n): "longer than the model's context" for n, size in enumerate(sizes) if size > 255} == failures
    assert {254, 255, 256} <= set(sizes)


def test_generated_texts_are_those_of_lm_evals_own_model(served: Served) -> None:
    settings = [
        {"until": ["\n"], "max_gen_toks": 12},
        {"until": ["the"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.7},
        {"until": [" of", ""], "max_gen_toks": 20},
    ]
    contexts = ("the red fox", "some people", "Question: who?\nAnswer:")
    arguments = [(text, one) for text in contexts for one in settings]
    # transformers cannot stop at an empty text; and it shows the first bytes of an unfinished character, vLLM does not.
    theirs = [(text, one | {"until": [until for until in one["until"] if until]}) for text, one in arguments]
    expected = lm_eval_model(served.checkpoint).generate_until(requests("generate_until", theirs))
    answers = use(served, lambda model: model.generate_until(requests("generate_until", arguments)))
    assert answers == [text.rstrip("\ufffd") for text in expected]
    assert any(answers)


def test_sampled_texts_have_seeds_of_their_own(served: Served) -> None:
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    instances = requests("generate_until", [("the red fox", settings)] * 3)

    def work(model: Any) -> Any:
        return model.generate_until([*instances, instances[0]])

    first = use(served, work)
    assert len(set(first)) == 4
    assert use(served, work) == first


def test_the_chat_template_gives_lm_evals_ids(served: Served) -> None:
    history = [
        {"role": "user", "content": "what is it"},
        {"role": "assistant", "content": "water"},
        {"role": "user", "content": "how many"},
    ]
    reference = lm_eval_model(served.checkpoint)
    for messages, generation in ((history, True), (history[:2], False)):
        text = reference.apply_chat_template(messages, add_generation_prompt=generation)
        expected = reference.tok_encode(text + " two")
        for folder in (served.checkpoint.path, None):

            def work(model: Any, messages: Any = messages, generation: bool = generation) -> Any:
                rendered = model.apply_chat_template(messages, add_generation_prompt=generation)
                return rendered, model.pairs([(rendered, " two")])[0].ids

            rendered, ids = use(served, work, folder)
            assert rendered == text
            assert list(ids) == expected
