"""PPO against TRL 1.12.0's, the last with PPO: `python -m tests.benchmarks.ppo_vs_trl --trl PYTHON`.

Random Llamas, or SmolLM2 under a random scalar head, in float32 on the CPU, each side alone in a process of its own,
one after the other in every round. Both sample as many tokens from the same prompts (nothing ends early), make one
optimizer step per iteration, and keep no samples. TRL runs at the best of its micro-batches; ours as shipped. An
iteration is from the end of the one before to its own; the first warms up and does not count. Memory is the peak of
the process above what it had with its models loaded, of the same runs: TRL's is that of its fastest micro-batch.

`--trl` is the interpreter of an environment with `trl==1.12.0` and the torch of this one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import beside_trl, tiny_models
from tests.support.speed_models import publish


@dataclass(frozen=True)
class Size:
    """A model, and the work of an iteration."""

    vocabulary: int
    width: int
    layers: int
    batch: int
    tokens: int
    iterations: int

    def save(self, folder: Path) -> int:
        """Save a random policy and a random reward model of this size; parameters of the policy."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

        torch.manual_seed(0)
        tokenizer = tiny_models.tokenizer()
        settings: dict[str, Any] = {
            "vocab_size": self.vocabulary, "hidden_size": self.width, "intermediate_size": self.width * 8 // 3,
            "num_hidden_layers": self.layers, "num_attention_heads": self.width // 64, "tie_word_embeddings": True,
            "num_key_value_heads": self.width // 64, "max_position_embeddings": 1024, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        }  # fmt: skip
        policy = LlamaForCausalLM(LlamaConfig(**settings))
        policy.save_pretrained(folder / "policy")
        LlamaForSequenceClassification(LlamaConfig(**settings, num_labels=1)).save_pretrained(folder / "reward")
        for name in ("policy", "reward"):
            tokenizer.save_pretrained(folder / name)
        return int(policy.num_parameters())


class SmolLM2(Size):
    """The real model, from the file that the tests keep in the user's cache."""

    def save(self, folder: Path) -> int:
        policy = publish("smollm2", folder / "home")
        (folder / "policy").symlink_to(policy.path)
        (folder / "reward").symlink_to(publish("smollm2", folder / "home", reward=True).path)
        return int(policy.manifest.metrics["parameters"])


SIZES = {
    "1M": Size(vocabulary=2048, width=128, layers=4, batch=128, tokens=32, iterations=6),
    "25M": Size(vocabulary=32_000, width=512, layers=3, batch=64, tokens=256, iterations=3),
    "SmolLM2": SmolLM2(vocabulary=49_152, width=576, layers=30, batch=16, tokens=48, iterations=3),
}
PROMPT = 24  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", required=True, help="python of TRL's environment")
    parser.add_argument("--size", choices=sorted(SIZES), default="1M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--micro", type=int, nargs="+", default=[4, 16, 64], help="TRL's micro-batches")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    size = SIZES[options.size]
    speed: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        parameters = size.save(Path(folder))
        print(f"{parameters:,} parameters; {size.batch} episodes of {size.tokens} tokens per iteration")
        for number in range(options.rounds):
            rng = random.Random(number)
            settings = {
                "policy": f"{folder}/policy", "reward": f"{folder}/reward", "batch": size.batch, "tokens": size.tokens,
                "iterations": size.iterations, "threads": options.threads, "seed": number,
                "prompts": [[rng.randrange(10, 400) for _ in range(PROMPT)] for _ in range(size.batch)],
            }  # fmt: skip
            ours = run([sys.executable, "-m", "tests.support.ppo_of_ours"], settings, size, "ours")
            trl = {
                micro: run(
                    [options.trl, beside_trl.ROOT / "tests/support/ppo_of_trl.py"],
                    settings | {"micro": micro},
                    size,
                    f"TRL {micro}",
                )
                for micro in options.micro
                if size.batch % micro == 0
            }
            steps = {ours["optimizer_steps"], *(one["optimizer_steps"] for one in trl.values())}
            if steps != {size.iterations}:
                raise SystemExit(f"the sides made different numbers of optimizer steps: {steps}")
            best = max(trl.values(), key=lambda one: one["episodes"])
            speed.append(ours["episodes"] / best["episodes"])
            memory.append(ours["above"] / best["above"])
    for name, ratios in (("episodes/s", speed), ("peak memory", memory)):
        beside_trl.report(f"ppo_vs_trl {options.size} {name}", ratios)


def run(command: list[Any], settings: dict[str, Any], size: Size, name: str) -> dict[str, float]:
    """Episodes per second and bytes above the loaded models of one side, in a process of its own."""
    result = beside_trl.run(command, settings, name)
    episodes = size.batch * (size.iterations - 1) / sum(result["seconds"][1:])
    above = result["peak"] - result["loaded"]
    print(f"  {name}: {episodes:.1f} episodes/s, {above / 1e6:,.0f} MB above the loaded models", flush=True)
    return {"episodes": episodes, "above": float(above), "optimizer_steps": result["optimizer_steps"]}


if __name__ == "__main__":
    main()
