"""vLLM's offline engine as a process of its own: `python -m training.rl.engine_process SETTINGS`.

SETTINGS is a JSON object, the arguments of `vllm.LLM`. Requests are lines of JSON on standard input; each gets one
line of JSON on standard output, and so does the start: the answer, or {"error": ...}. What vLLM prints goes to standard
error. It ends when standard input does, which it does with the process that asks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TextIO

Request = Mapping[str, Any]


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        try:
            engine = Engine(json.loads(sys.argv[1]))
        except Exception as error:  # whatever vLLM raises is told to the process that asks
            _tell(answers, {"error": _words(error)})
            _exit(1)
        _tell(answers, {})
        for line in sys.stdin:
            try:
                answer = engine.handle(json.loads(line))
            except Exception as error:
                answer = {"error": _words(error)}
            _tell(answers, answer)
    engine.close()
    _exit(0)


class Engine:
    """The engine and the requests that it knows."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        # Not before: the environment that vLLM reads when it is imported is this process's own.
        import vllm
        from vllm.model_executor.models import registry

        # vLLM looks at a model's class in yet another process, for the sake of GPUs that this one must not touch first;
        # here nothing else uses one.
        registry._run_in_subprocess = lambda inspect: inspect()
        self._llm = vllm.LLM(**settings)
        self._parameters = vllm.SamplingParams
        # It starts with random weights ("dummy"), so that a tensor which no sync brings shows; now it reads files.
        self._llm.collective_rpc("update_config", args=({"load_config": {"load_format": "safetensors"}},))

    def handle(self, request: Request) -> Mapping[str, Any]:
        known: dict[str, Callable[[Request], Mapping[str, Any]]] = {
            "sync": self.sync, "generate": self.generate, "sleep": self.sleep,
        }  # fmt: skip
        return known[request["do"]](request)

    def sync(self, request: Request) -> Mapping[str, Any]:
        """Load the weights of a folder. An engine that slept has memory for them first, then for its cache."""
        if request["asleep"]:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": request["folder"]})
        if request["asleep"]:
            self._llm.wake_up(tags=["kv_cache"])
        self._llm.reset_prefix_cache()
        return {}

    def generate(self, request: Request) -> Mapping[str, Any]:
        """One response to each prompt, with the log-probabilities of the distribution that it was sampled from."""
        parameters = [
            self._parameters(
                temperature=request["temperature"],
                top_p=1.0,
                top_k=0,
                max_tokens=request["max_tokens"],
                stop_token_ids=request["stop_ids"],
                ignore_eos=True,  # of the model's own ends only those named above count
                seed=seed,
                logprobs=0,  # of the sampled token alone
                flat_logprobs=True,
                detokenize=False,
            )
            for seed in request["seeds"]
        ]
        prompts = [{"prompt_token_ids": ids} for ids in request["prompts"]]
        outputs = [output.outputs[0] for output in self._llm.generate(prompts, parameters, use_tqdm=False)]
        logprobs = [list(output.logprobs.logprobs) for output in outputs]
        return {"ids": [list(output.token_ids) for output in outputs], "logprobs": logprobs}

    def sleep(self, request: Request) -> Mapping[str, Any]:
        """Give the GPU's memory back. Weights are not kept: the next sync brings others."""
        self._llm.sleep(level=2)
        return {}

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()


def _tell(answers: TextIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _exit(status: int) -> NoReturn:
    """At once: threads that vLLM leaves abort a process that ends in the usual way."""
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
