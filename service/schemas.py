"""Bodies of the service's own routes. OpenAI's bodies are forwarded and checked by allow-list, not rebuilt."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from service.errors import ErrorDetail
from training.artifacts.text import text_fault

FAULTS = {
    "half_character": "holds half a character (a lone surrogate): mend the text's encoding",
    "null_character": "holds a null character: remove it",
}


class Body(BaseModel):
    """A request's body, the base of all.

    Unknown fields are refused: a misspelt one would be ignored silently. So is text that no store or engine can take,
    at any depth, but for the fields of `checked_apart`, whose entries are looked at one by one.
    """

    model_config = ConfigDict(extra="forbid")
    checked_apart: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, held in value.items():
                fault = text_fault(name) or (None if name in cls.checked_apart else text_fault(held))
                if fault is not None:
                    shown = str(name).encode(errors="replace").decode()
                    raise ValueError(f"`{shown}` {FAULTS[fault]}")
        return value


# Checked one conversation at a time, when it is rendered: one that is broken must not spoil the others of its request.
Unchecked = Annotated[Any, WithJsonSchema({"description": "text, or a list of text parts"})]


class Turn(Body):
    checked_apart = frozenset({"role", "content"})
    role: Any
    content: Unchecked


class PromptResponses(Body):
    """A prompt and responses to it."""

    checked_apart = frozenset({"messages", "responses"})
    messages: list[Turn] = Field(description="the prompt, ending with the user")
    responses: list[Unchecked] = Field(min_length=1, description="responses to `messages`")


class ScoreRequest(Body):
    """Responses to one prompt or to many, or whole conversations; each is scored as a finished assistant turn."""

    checked_apart = frozenset({"messages", "responses", "prompts", "conversations"})
    model: str = Field(description="id or alias of a reward model")
    messages: list[Turn] | None = Field(None, description="the prompt, ending with the user")
    responses: list[Unchecked] | None = Field(None, min_length=1, description="responses to `messages`")
    prompts: list[PromptResponses] | None = Field(
        None, min_length=1, description="many prompts, each with its responses, scored in this order"
    )
    conversations: list[list[Turn]] | None = Field(
        None, min_length=1, description="whole conversations, each ending with the assistant"
    )

    @model_validator(mode="after")
    def _one_form(self) -> ScoreRequest:
        one_prompt = self.messages is not None or self.responses is not None
        forms = (one_prompt, self.prompts is not None, self.conversations is not None)
        if sum(forms) != 1 or (one_prompt and (self.messages is None or self.responses is None)):
            raise ValueError("give `messages` with `responses`, or `prompts`, or `conversations`")
        return self


class Score(BaseModel):
    """One response's reward, or why it has none.

    Attributes:
        index: place in the request.
        score: reward = raw - the checkpoint's offset.
        raw: what the model gave.
        tokens: number of tokens scored.
        error: OpenAI's error object, when this response could not be scored.
    """

    index: int
    score: float | None = None
    raw: float | None = None
    tokens: int | None = None
    error: ErrorDetail | None = None


class TokenizeRequest(Body):
    """Texts, or a conversation, to be turned into token ids."""

    model: str = Field(description="id or alias of a policy")
    prompt: str | list[str] | None = Field(None, description="one text, or several")
    add_special_tokens: bool = Field(True, description="with what the tokenizer puts around a text")
    messages: list[Turn] | None = Field(None, min_length=1, description="a conversation; instead of `prompt`")
    add_generation_prompt: bool = Field(True, description="end where the answer begins")
    continue_final_message: bool = Field(False, description="end where the last turn would go on")


class TokenizeAnswer(BaseModel):
    """Token ids.

    Attributes:
        tokens: of the text or the conversation; of several texts a list of each.
        text: the rendered conversation.
        prefix_token_id: the tokenizer's first token, or its last one where it has no first.
        prefix_text: that token as text.
    """

    model: str
    tokens: list[int] | list[list[int]]
    text: str | None = None
    prefix_token_id: int | None = None
    prefix_text: str = ""


TokenId = Annotated[int, Field(ge=0, strict=True)]


class TokenPair(Body):
    """Token ids of a context and of what follows it."""

    context: list[TokenId]
    continuation: list[TokenId]


class LikelihoodRequest(Body):
    """Continuations whose log-probabilities are computed."""

    model: str = Field(description="id or alias of a policy")
    pairs: list[TokenPair] = Field(min_length=1, description="token ids of contexts and their continuations")
    cache_salt: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="requests of one salt share what their contexts have in common; default: nobody else's",
    )


class PairLikelihood(BaseModel):
    """One continuation's log-probabilities, or why it has none.

    Attributes:
        index: place in the request.
        logprobs: natural logs, one per token of the continuation.
        greedy: whether each token is the likeliest one.
        error: OpenAI's error object, when this pair could not be computed.
    """

    index: int
    logprobs: list[float] | None = None
    greedy: list[bool] | None = None
    error: ErrorDetail | None = None


class LikelihoodAnswer(BaseModel):
    """Log-probabilities in the order of the request. `model` is the immutable checkpoint id."""

    object: Literal["list"]
    model: str
    data: list[PairLikelihood]


class ScoreUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class ScoreAnswer(BaseModel):
    """Scores in the order of the request. `model` is the immutable checkpoint id."""

    object: Literal["list"]
    model: str
    reward_offset: float
    data: list[Score]
    usage: ScoreUsage


Version = Annotated[int, Field(ge=0, le=2**31 - 1)]  # as the table holds it


class WantEngine(Body):
    checkpoint: str = Field(min_length=1, max_length=200, description="checkpoint id, as in the supervisor's store")
    options: dict[str, Any] | None = Field(None, description="vLLM options of the checkpoint from its next start")


class SetAlias(Body):
    checkpoint: str = Field(min_length=1, max_length=200)
    options: dict[str, Any] | None = Field(
        None, description="vLLM options of the checkpoint; by default its own, or else those of the alias until now"
    )
    version: Version | None = Field(None, description="the alias's version that you saw; refused if it has moved on")


class NewKey(Body):
    name: str = Field(min_length=1, max_length=200)
    scopes: list[str] = Field(min_length=1)
    days: float | None = Field(None, gt=0, le=36500)


class NewLabeler(Body):
    name: str = Field(min_length=1, max_length=200)
    group: str | None = Field(None, min_length=1, max_length=40)


class RestorePrompts(Body):
    """Which prompts come back; see `administration.pool.restore`."""

    prompts: list[str] | None = Field(None, min_length=1, max_length=1000)
    checkpoint: str | None = Field(None, min_length=1, max_length=200, description="only what this one refused")


class RetirePrompts(Body):
    prompts: list[str] = Field(min_length=1, max_length=1000)
    reason: str = Field(min_length=1, max_length=1000)
