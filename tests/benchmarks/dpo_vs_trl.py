"""DPO against TRL's DPOTrainer: `python -m tests.benchmarks.dpo_vs_trl --trl PYTHON`.

Random Llamas in float32 on the CPU, trained whole on pairs of answers to the same prompts. The reference's
log-probabilities count for both: ours computes them before the first step, TRL in every step. TRL runs at the best of
its micro-batches; the first step warms up, and its share of the reference is taken off.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.reward_vs_trl import SIZES, Size, make
from tests.support import beside_trl

# size -> prompt and answer in tokens, pairs per step
WORK = {"1M": (15, 10, 64), "25M": (200, 200, 8)}


def main() -> None:
    parser = beside_trl.options(__doc__, (1, 4, 8, 32))
    parser.add_argument("--size", choices=sorted(SIZES), default="25M")
    options = parser.parse_args()
    prompt, response, batch = WORK[options.size]
    size = replace(SIZES[options.size], prompt=prompt, response=response)
    with tempfile.TemporaryDirectory() as folder:
        count = beside_trl.save_model(Path(folder), vocabulary=size.vocabulary, width=size.width, layers=size.layers)
        print(f"{count:,} parameters; prompts of {prompt} tokens, answers of {response}")
        ratios = [compare(folder, size, batch, number, options) for number in range(options.rounds)]
    beside_trl.report(f"dpo_vs_trl {options.size} pairs/s", ratios)


def compare(folder: str, size: Size, batch: int, number: int, options: Any) -> float:
    """Pairs per second of ours by TRL's best."""
    rows = make(size, 2, batch * size.steps, number)
    common = {"kind": "dpo", "model": folder, "threads": options.threads, "batch": batch}
    done = batch * (size.steps - 1)
    result = beside_trl.run(beside_trl.OURS, {**common, "rows": rows}, "ours")
    reference = result["before"][0] * (size.steps - 1) / size.steps
    ours = done / (sum(result["seconds"][1:]) + reference)
    pairs = [{"prompt": row["prompt"], "better": row["responses"][0], "worse": row["responses"][1]} for row in rows]
    theirs = {}
    for micro in options.micro:
        if batch % micro:
            continue
        settings = {**common, "rows": pairs, "micro": micro}
        result = beside_trl.run(beside_trl.trl(options.trl), settings, f"TRL {micro}")
        theirs[micro] = done / sum(result["seconds"][1:])
    best = max(theirs, key=lambda micro: theirs[micro])
    print(f"  {ours:.2f} pairs/s, TRL {theirs[best]:.2f} at micro-batches of {best}", flush=True)
    return ours / theirs[best]


if __name__ == "__main__":
    main()
