"""TRL's PPO on given models and prompts: seconds of each iteration and memory, as JSON. Runs in TRL's own environment.

python ppo_of_trl.py SETTINGS: a JSON file with `policy`, `reward` (folders), `prompts` (token ids, of one length),
`batch`, `micro`, `tokens`, `iterations`, `threads`, `seed`.
"""

from __future__ import annotations

import importlib
import itertools
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main(settings: dict[str, Any]) -> None:
    import psutil
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )

    of_trl: Any = importlib.import_module("trl.experimental.ppo")  # by name: no requirement of this project
    torch.set_num_threads(settings["threads"])
    moments: list[float] = []
    steps = 0

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.perf_counter())

    def load(auto: Any, name: str, **options: Any) -> Any:
        return auto.from_pretrained(settings[name], dtype=torch.float32, **options)

    tokenizer = AutoTokenizer.from_pretrained(settings["policy"], padding_side="left")
    models = [
        load(AutoModelForCausalLM, "policy"),
        load(AutoModelForCausalLM, "policy"),
        load(AutoModelForSequenceClassification, "reward", num_labels=1),
        load(AutoModelForSequenceClassification, "reward", num_labels=1),
    ]
    batch, micro = settings["batch"], settings["micro"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = of_trl.PPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            gradient_checkpointing=False,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=batch // micro,
            local_rollout_forward_batch_size=micro,
            num_mini_batches=1,
            num_ppo_epochs=1,
            num_sample_generations=0,
            total_episodes=batch * settings["iterations"],
            response_length=settings["tokens"],
            temperature=1.0,
            seed=settings["seed"],
        )
        # More batches than are taken: at the end of its data accelerate makes a step after every micro-batch.
        rows = Dataset.from_dict({"input_ids": settings["prompts"] * (settings["iterations"] + 1)})
        policy, reference, reward, value = models
        trainer = of_trl.PPOTrainer(
            args=arguments,
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=reward,
            value_model=value,
            train_dataset=rows,
            eval_dataset=rows,
            callbacks=[Clock()],
        )
        step = trainer.optimizer.step

        def counted(*positional: Any, **named: Any) -> Any:
            nonlocal steps
            steps += bool(trainer.accelerator.sync_gradients)
            return step(*positional, **named)

        trainer.optimizer.step = counted
        loaded = psutil.Process().memory_info().rss
        started = time.perf_counter()
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ends = [started, *moments]
    seconds = [end - start for start, end in itertools.pairwise(ends)]
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak": peak, "optimizer_steps": steps}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
