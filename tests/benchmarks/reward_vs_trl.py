"""The reward model against TRL's RewardTrainer: `python -m tests.benchmarks.reward_vs_trl --trl PYTHON`.

Random Llamas in float32 on the CPU, both in full. Rankings of K responses: ours takes each response forward once, a
prompt once where that is less work; TRL, at the best of its micro-batches, takes all K (K - 1) / 2 pairs of the same
rankings, 2 rows each. Both take the same number of optimizer steps over the same rankings. The first step warms up.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import beside_trl


@dataclass(frozen=True)
class Size:
    """A model, its rows in tokens, and rankings per step for each K."""

    vocabulary: int
    width: int
    layers: int
    prompt: int
    response: int
    batch: dict[int, int]
    steps: int


SIZES = {
    "1M": Size(vocabulary=2048, width=128, layers=4, prompt=15, response=10, batch={4: 32, 9: 32}, steps=5),
    "25M": Size(vocabulary=32_000, width=512, layers=3, prompt=40, response=400, batch={4: 4, 9: 2}, steps=3),
}


def main() -> None:
    parser = beside_trl.options(__doc__, (4, 16, 64))
    parser.add_argument("--size", choices=sorted(SIZES), default="1M")
    parser.add_argument("--k", type=int, nargs="+", choices=(4, 9), default=[4, 9])
    options = parser.parse_args()
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory() as folder:
        count = beside_trl.save_model(Path(folder), vocabulary=size.vocabulary, width=size.width, layers=size.layers)
        print(f"{count:,} parameters; prompts of {size.prompt} tokens, responses of {size.response}")
        ratios: dict[int, list[float]] = {k: [] for k in options.k}
        for number, k in itertools.product(range(options.rounds), options.k):
            ratios[k].append(compare(folder, size, k, number, options))
    for k in options.k:
        beside_trl.report(f"reward_vs_trl {options.size} K={k} comparisons/s", ratios[k])


def compare(folder: str, size: Size, k: int, number: int, options: Any) -> float:
    """Rankings per second of ours by TRL's best."""
    batch = size.batch[k]
    rankings = make(size, k, batch * size.steps, number)
    common = {"kind": "reward", "model": folder, "threads": options.threads}
    done = batch * (size.steps - 1)
    result = beside_trl.run(beside_trl.OURS, {**common, "rows": rankings, "batch": batch}, "ours")
    ours = done / sum(result["seconds"][1:])
    pairs = [
        {"prompt": one["prompt"], "better": better, "worse": worse}
        for one in rankings
        for better, worse in itertools.combinations(one["responses"], 2)
    ]
    per_step = batch * k * (k - 1) // 2
    theirs = {}
    for micro in options.micro:
        if per_step % micro:
            continue
        settings = {**common, "rows": pairs, "batch": per_step, "micro": micro}
        result = beside_trl.run(beside_trl.trl(options.trl), settings, f"TRL {micro}")
        if len(result["seconds"]) != size.steps:
            raise SystemExit(f"TRL took {len(result['seconds'])} steps")
        theirs[micro] = done / sum(result["seconds"][1:])
    best = max(theirs, key=lambda micro: theirs[micro])
    print(f"  K={k}: {ours:.2f} rankings/s, TRL {theirs[best]:.2f} at micro-batches of {best}", flush=True)
    return ours / theirs[best]


def make(size: Size, k: int, count: int, seed: int) -> list[dict[str, Any]]:
    """Random rankings: responses of `size.response` tokens, give or take a fifth."""
    rng = random.Random(f"{seed} {k}")

    def words(length: int) -> list[int]:
        return [rng.randrange(10, 400) for _ in range(length)]

    spread = size.response // 5
    return [
        {
            "prompt": words(size.prompt),
            "responses": [words(size.response + rng.randint(-spread, spread)) for _ in range(k)],
        }
        for _ in range(count)
    ]


if __name__ == "__main__":
    main()
