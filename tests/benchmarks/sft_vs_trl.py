"""SFT against TRL's SFTTrainer: `python -m tests.benchmarks.sft_vs_trl --trl PYTHON`.

SmolLM2-135M-Instruct in float32 on the CPU, trained whole on Alpaca's rows, of which the answers are learned. TRL runs
at the best of its micro-batches, and with its packing beside that; compared are learned tokens per second, without the
first step. Needs ALIGNLOOP_DATA, and ALIGNLOOP_SMOLLM2 or the file that the tests keep in the user's cache.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tests.support import beside_trl
from tests.support.speed_models import publish

DATA = Path(os.environ.get("ALIGNLOOP_DATA", beside_trl.ROOT.parent / "shared" / "data"))
BATCH = 32


def main() -> None:
    parser = beside_trl.options(__doc__, (1, 4, 8))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--packing", type=int, default=1024, help="tokens of TRL's packed rows; 0 for no packing")
    options = parser.parse_args()
    file = DATA / "sft/alpaca_random9k.jsonl"
    if not file.is_file():
        raise SystemExit(f"{file} is not there: set ALIGNLOOP_DATA")
    apart: list[float] = []
    packed: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = publish("smollm2", Path(folder))
        for number in range(options.rounds):
            rows = make(checkpoint.path, file, number * BATCH * options.steps, BATCH * options.steps)
            common = {"kind": "sft", "model": str(checkpoint.path), "threads": options.threads, "rows": rows}
            result = beside_trl.run(beside_trl.OURS, {**common, "batch": BATCH}, "ours")
            ours = sum(result["learned"][1:]) / sum(result["seconds"][1:])
            print(f"round {number + 1}: ours {ours:.1f} learned tokens/s", flush=True)
            theirs = max(of_trl(common, micro, options) for micro in options.micro)
            apart.append(ours / theirs)
            if options.packing:
                packed.append(ours / of_trl(common | {"packing": options.packing, "strategy": "bfd"}, 1, options))
    beside_trl.report("sft_vs_trl learned tokens/s", apart)
    if packed:
        beside_trl.report("sft_vs_trl against packing learned tokens/s", packed)


def of_trl(common: dict[str, Any], micro: int, options: Any) -> float:
    """TRL's learned tokens per second. A step of packed rows has as many rows as BATCH rows fill, rounded up."""
    packing, batch = common.get("packing", 0), BATCH
    if packing:
        batch = -(-sum(len(row["ids"]) for row in common["rows"]) // packing // options.steps)
    name = f"TRL packed to {packing}" if packing else f"TRL {micro}"
    result = beside_trl.run(beside_trl.trl(options.trl), {**common, "batch": batch, "micro": micro}, name)
    learned = result["packed"] if packing else [sum(row["mask"][1:]) for row in common["rows"]]
    measured = learned[batch : batch * len(result["seconds"])]
    speed = sum(measured) / sum(result["seconds"][1:])
    print(f"  {name}: {speed:.1f} learned tokens/s", flush=True)
    return speed


def make(model: Path, file: Path, start: int, count: int) -> list[dict[str, Any]]:
    """Alpaca's rows as token ids, by the model's chat template; 1 where the answer is."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = []
    for line in file.read_text().splitlines()[start : start + count]:
        row = json.loads(line)
        question = "\n".join(filter(None, (row["instruction"], row.get("input"))))
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        messages.append({"role": "assistant", "content": row["output"]})
        whole = tokenizer.apply_chat_template(messages, return_dict=False)
        rows.append({"ids": whole, "mask": [0] * len(prompt) + [1] * (len(whole) - len(prompt))})
    return rows


if __name__ == "__main__":
    main()
