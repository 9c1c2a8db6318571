"""Multiple choice item by item against `lm_eval --model hf`: `python -m tests.benchmarks.equality_vs_lm_eval`.

The same rows of six published benchmarks, through the service and through lm-eval's own model in this process, both in
float32 on CPU with the same weights. A table says in how many items the chosen answer is the same, by the sum of
log-probabilities and by that sum per character, and by how much any choice's sum differs at most. Needs what
`tax_vs_lm_eval` needs, or a checkpoint of one's own by --home.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.tax_vs_lm_eval import DATA, MODEL

FILES = {
    "hellaswag": "hellaswag_val_1k.jsonl",
    "piqa": "piqa.jsonl",
    "arc_easy": "arc_easy.jsonl",
    "arc_challenge": "arc_challenge.jsonl",
    "winogrande": "winogrande.jsonl",
    "openbookqa": "openbook_qa.jsonl",
}
METRICS = ("acc", "acc_norm")


@dataclass(frozen=True)
class Row:
    """One document's choices: sums of log-probabilities, whether each is greedy, and the task's scores."""

    sums: tuple[float, ...]
    greedy: tuple[bool, ...]
    scores: tuple[float | None, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument(
        "--home", type=Path, help="folder whose checkpoints/ID is compared; default: SmolLM2 adopted anew"
    )
    parser.add_argument("--tasks", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    from tests.support.live_service import running_service
    from training.artifacts.checkpoints import load
    from training.stages.adopt import Config, adopt

    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        if options.home is None:
            adopt(Config(str(MODEL), home=home))
        checkpoint = load(next(path for path in sorted((home / "checkpoints").iterdir()) if path.is_dir()))
        threads = {"ALIGNLOOP_ENGINE_THREADS": str(options.threads)}
        with running_service(home, ("--with-engines", checkpoint.id), environment=threads) as running:
            running.wait_ready()
            compare(running, checkpoint, Path(folder), options)


def compare(running: Any, checkpoint: Any, folder: Path, options: argparse.Namespace) -> None:
    """One line per benchmark."""
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(options.threads)
    theirs = HFLM(pretrained=str(checkpoint.path), device="cpu", dtype="float32", batch_size=8)
    key = running.add_key("eval")
    print("benchmark items same-by-sum same-by-characters same-greedy largest-difference", flush=True)
    for name in options.tasks:
        file = folder / f"{name}.jsonl"
        lines = (DATA / "icl" / FILES[name]).read_text().splitlines()
        file.write_text("\n".join(lines[: options.items]) + "\n")
        a, b = served(running.url, key, checkpoint, name, file), rows_of(theirs, name, file)
        pairs = list(zip(a, b, strict=True))
        same = [sum(one.scores[place] == other.scores[place] for one, other in pairs) for place in range(len(METRICS))]
        greedy = sum(one.greedy == other.greedy for one, other in pairs)
        largest = max(abs(x - y) for one, other in pairs for x, y in zip(one.sums, other.sums, strict=True))
        print(f"{name} {len(pairs)} {same[0]} {same[1]} {greedy} {largest:.1e}", flush=True)


def served(url: str, key: str, checkpoint: Any, name: str, file: Path) -> list[Row]:
    """Rows by the adapter that the suite uses."""
    from evals.client import Client
    from evals.lm import ServedModel
    from evals.tokens import tokens_of

    async def work() -> list[Row]:
        async with Client(url, key) as client:
            loop = asyncio.get_running_loop()
            context = (await client.contexts())[checkpoint.id]

            def inside() -> list[Row]:
                tokens = tokens_of(client, checkpoint.id, checkpoint.path, loop)
                model = ServedModel(client, checkpoint.id, loop, tokens, context)
                rows = rows_of(model, name, file)
                assert not model.failures
                return rows

            return await asyncio.to_thread(inside)

    return asyncio.run(work())


def rows_of(model: Any, name: str, file: Path) -> list[Row]:
    """Rows of lm-eval's own evaluation with a model, in the order of the documents."""
    from lm_eval.evaluator import evaluate

    from evals.tasks.build import build, quiet, spec_of

    quiet()
    (task,) = build(spec_of(name, name, str(file), file.parent), (0,), file.parent)
    output = evaluate(model, {"tasks": {task.name: task.task}, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    assert output is not None
    rows = sorted(output["samples"][task.name], key=lambda row: int(row["doc_id"]))
    return [
        Row(
            tuple(float(value) for value, _ in row["filtered_resps"]),
            tuple(bool(greedy) for _, greedy in row["filtered_resps"]),
            tuple(row.get(metric) for metric in METRICS),
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
