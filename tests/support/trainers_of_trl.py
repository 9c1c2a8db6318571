"""TRL's SFT, reward and DPO trainers on given models and rows: seconds of each step, as JSON. Runs in TRL's own
environment.

python trainers_of_trl.py SETTINGS: a JSON file with `kind` (sft, reward or dpo), `model` (a folder), `rows`, `batch`
(rows per optimizer step), `micro`, `threads`, `packing` (tokens of a packed row; 0 for none). Rows are taken in their
order, as many steps as they fill. A row of sft is `ids` and `mask`; of the others `prompt`, `better`, `worse`: token
ids.
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
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    trl: Any = importlib.import_module("trl")  # by name: no requirement of this project
    torch.set_num_threads(settings["threads"])
    kind, rows, packing = settings["kind"], settings["rows"], settings.get("packing", 0)
    config_type, trainer_type = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "reward": (trl.RewardConfig, trl.RewardTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
    }[kind]
    moments: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not moments:
                moments.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.perf_counter())

    class Trainer(trainer_type):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
            return dataset if kind == "dpo" else super()._prepare_dataset(dataset, *arguments, **named)

    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    options: dict[str, Any] = {"dtype": torch.float32}
    auto = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    model = auto.from_pretrained(settings["model"], **options, **({"num_labels": 1} if kind == "reward" else {}))
    with tempfile.TemporaryDirectory() as folder:
        more: dict[str, Any] = {}
        if kind == "sft" and packing:
            more = {"packing": True, "packing_strategy": settings["strategy"], "max_length": packing}
        elif kind != "dpo":
            more = {"max_length": None}
        arguments = config_type(
            output_dir=folder, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, logging_strategy="no",
            save_strategy="no", gradient_checkpointing=False, num_train_epochs=1, learning_rate=1e-5,
            per_device_train_batch_size=settings["micro"],
            gradient_accumulation_steps=max(1, settings["batch"] // settings["micro"]), dataloader_drop_last=True,
            **more,
        )  # fmt: skip
        trainer = Trainer(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([_row(kind, row) for row in rows]),
            callbacks=[Clock()],
        )
        trainer.train()
    counted = [sum(label != -100 for label in row["labels"][1:]) for row in trainer.train_dataset] if packing else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = [end - start for start, end in itertools.pairwise(moments)]
    print(json.dumps({"seconds": seconds, "peak": peak, "packed": counted}))


def _row(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    if kind == "sft":
        labels = [token if learned else -100 for token, learned in zip(row["ids"], row["mask"], strict=True)]
        return {"input_ids": row["ids"], "labels": labels}
    if kind == "dpo":
        return {"prompt_ids": row["prompt"], "chosen_ids": row["better"], "rejected_ids": row["worse"]}
    return {"chosen_ids": row["prompt"] + row["better"], "rejected_ids": row["prompt"] + row["worse"]}


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
