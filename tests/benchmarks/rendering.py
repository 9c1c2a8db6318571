"""Rendering against that of an earlier commit, its memory, and a second start: `python -m tests.benchmarks.rendering`.

Three kinds of rows, from file to token ids: hh-rlhf's comparisons, Alpaca's demonstrations, and talks of ten turns
made of Alpaca's. Both versions render the same files in turn, round after round, each in a process of its own with
one tokenizer like Llama 3's (its pre-tokenizer, its 256 special tokens, its template's form), trained on these rows.
The earlier version gets fewer rows, as it is slow; compared are rows per second. Needs ALIGNLOOP_DATA and git.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ALIGNLOOP_DATA", ROOT.parent / "shared" / "data"))
BEFORE = "80777cc"
KINDS = ("hh", "alpaca", "talks")
CONTEXT = 2048
TURNS = 10

SPECIAL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(250)),
]  # fmt: skip
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of all kinds together, for this version")
    parser.add_argument("--before-rows", type=int, default=1_500, help="rows per kind and round for the earlier one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text-megabytes", type=int, default=1_000, help="size of the text whose memory is measured")
    parser.add_argument("--conversations", type=int, default=1_000_000, help="number whose memory is measured")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--only", choices=("speed", "memory"), help="one of the two parts")
    parser.add_argument("--small", action="store_true", help="a few rows, to see that it runs")
    parser.add_argument("--worker", choices=("before", "now"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    if options.small:
        options.rows, options.before_rows, options.rounds = 300, 20, 2
        options.text_megabytes, options.conversations, options.vocab_size = 1, 1_000, 1_000
    if not DATA.is_dir():
        print(f"no data in {DATA}: set ALIGNLOOP_DATA", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder) / "tokenizer", options.vocab_size)
        if options.only != "memory":
            compare(Path(folder), options)
        if options.only != "speed":
            measure_memory(Path(folder), options)
    return 0


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Rows per second of both versions in interleaved rounds, and their ratio."""
    old_tree = folder / "before"
    old_tree.mkdir()
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", old_tree], input=archive.stdout, check=True)
    per_kind = {"now": options.rows // len(KINDS), "before": options.before_rows}
    files = {
        (version, kind): write(folder / f"{version}-{kind}.jsonl", rows_of(kind), size)
        for version, size in per_kind.items()
        for kind in KINDS
    }
    ratios: dict[str, list[float]] = defaultdict(list)
    with worker("before", old_tree, folder) as before, worker("now", ROOT, folder) as now:
        for number in range(options.rounds + 1):  # the first round warms both up
            answers = {
                (version, kind): ask(process, kind, files[version, kind], folder / f"home-{number}")
                for kind in KINDS
                for version, process in (("before", before), ("now", now))
            }
            if number == 0:
                continue
            for unit, name in (("seconds", ""), ("cpu_seconds", " in CPU time")):
                per_row = {key: answer[unit] / per_kind[key[0]] for key, answer in answers.items()}
                for kind in KINDS:
                    ratios[f"{kind}{name}"].append(per_row["before", kind] / per_row["now", kind])
                    rates = " -> ".join(f"{1 / per_row[version, kind]:,.0f}" for version in ("before", "now"))
                    print(f"round {number} {kind}{name}: {rates} rows/s", flush=True)
                totals = [sum(per_row[version, kind] for kind in KINDS) for version in ("before", "now")]
                ratios[f"all{name}"].append(totals[0] / totals[1])
        again = ask(now, "hh", files["now", "hh"], folder / f"home-{options.rounds}")
        print(f"second start of hh: {again['seconds']:.2f} s, of which hashing {again['hashing']:.2f} s")
    for name, values in ratios.items():
        print(f"{name}: rendering ratio {spread(values)}")
    print(f"rendering ratio {spread(ratios['all'])}")


def measure_memory(folder: Path, options: argparse.Namespace) -> None:
    """Greatest memory of rendering much text and many conversations, above what is held before."""
    text = folder / "text.jsonl"
    with text.open("w") as file:
        written = 0
        for row in documents():
            written += file.write(json.dumps(row) + "\n")
            if written >= options.text_megabytes * 1_000_000:
                break
    conversations = write(folder / "conversations.jsonl", rows_of("alpaca"), options.conversations)
    for kind, path in (("text", text), ("alpaca", conversations)):
        with worker("now", ROOT, folder) as now:
            answer = ask(now, kind, path, folder / f"home-{kind}")
            again = ask(now, kind, path, folder / f"home-{kind}")
        print(
            f"{answer['rows']:,} rows of {kind} ({path.stat().st_size / 1e6:,.0f} MB): {answer['seconds']:,.0f} s, "
            f"peak {answer['peak_megabytes']:,.0f} MB above the start; second start {again['seconds']:.2f} s, "
            f"of which hashing {again['hashing']:.2f} s",
            flush=True,
        )
        path.unlink()


def spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def rows_of(kind: str) -> Iterator[dict[str, Any]]:
    """Rows of one kind without end, each with a number of its own, so that no two are the same."""
    if kind == "hh":
        for number, row in zip(count(), cycle(lines(DATA / "hh" / "harmless_base_test.jsonl")), strict=False):
            yield {side: row[side].replace("\n\nHuman:", f"\n\nHuman: {number}", 1) for side in ("chosen", "rejected")}
        return
    alpaca = cycle(lines(DATA / "sft" / "alpaca_random9k.jsonl"))
    for number in count():
        if kind == "alpaca":
            row = next(alpaca)
            yield row | {"instruction": f"{number} {row['instruction']}"}
            continue
        exchanges = [next(alpaca) for _ in range(TURNS // 2)]
        asked = [f"{number} {row['instruction']} {row['input']}".strip() for row in exchanges]
        yield {
            "messages": [
                {"role": role, "content": text}
                for question, row in zip(asked, exchanges, strict=True)
                for role, text in (("user", question), ("assistant", row["output"] or "-"))
            ]
        }


def documents() -> Iterator[dict[str, str]]:
    """Paragraphs of WikiText and answers of Alpaca, each with a number of its own."""
    text = (DATA / "ptx" / "wikitext2_test.txt").read_text()
    paragraphs = [part for part in text.split("\n \n") if part.strip()]
    paragraphs += [row["output"] for row in lines(DATA / "sft" / "alpaca_random9k.jsonl") if row["output"]]
    for number, paragraph in zip(count(), cycle(paragraphs), strict=False):
        yield {"text": f"{number} {paragraph}"}


def write(path: Path, rows: Iterator[dict[str, Any]], size: int) -> Path:
    with path.open("w") as file:
        for row in islice(rows, size):
            file.write(json.dumps(row) + "\n")
    return path


def save_tokenizer(folder: Path, vocab_size: int) -> None:
    """A byte-level tokenizer of Llama 3's form, trained on these rows."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(ignore_merges=True))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = [row["output"] for row in islice(rows_of("alpaca"), 9_000)]
    texts += [row["chosen"] for row in islice(rows_of("hh"), 2_000)]
    raw.train_from_iterator(texts, trainer)
    begin = SPECIAL[0]
    raw.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, raw.token_to_id(begin))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=begin,
        eos_token="<|eot_id|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def worker(version: str, tree: Path, folder: Path) -> subprocess.Popen[str]:
    """A process with the code of a tree, which renders what it is asked to."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--worker", version],
        cwd=tree,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tree), "BENCHMARK_TOKENIZER": str(folder / "tokenizer")},
    )


def ask(process: subprocess.Popen[str], kind: str, path: Path, home: Path) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps({"kind": kind, "path": str(path), "home": str(home)}), file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"the process that renders {kind} ended with status {process.wait()}")
    loaded: dict[str, Any] = json.loads(answer)
    return loaded


def work(version: str) -> int:
    """Answer requests from standard input, one line of JSON each."""
    answers, sys.stdout = sys.stdout, sys.stderr
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(os.environ["BENCHMARK_TOKENIZER"])
    render = render_before(tokenizer) if version == "before" else render_now(tokenizer)
    for line in sys.stdin:
        request = json.loads(line)
        held, started, worked = megabytes(), time.perf_counter(), time.process_time()
        answer = render(request["kind"], Path(request["path"]), Path(request["home"]))
        answer |= {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
        reply(answers, answer | {"peak_megabytes": megabytes() - held})
    return 0


def reply(stream: IO[str], answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=stream, flush=True)


def megabytes() -> float:
    """Greatest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def render_now(tokenizer: Any) -> Any:
    from training.artifacts.rendering import Renderer
    from training.data import reading, rendering
    from training.data.documents import document_marks

    renderer = Renderer(tokenizer)

    def render(kind: str, path: Path, home: Path) -> dict[str, Any]:
        kinds = {"hh": reading.COMPARISONS, "text": reading.DOCUMENTS}
        data_kind = kinds.get(kind, reading.DEMONSTRATIONS)
        started = time.perf_counter()
        reading.fingerprint(str(path), data_kind)
        hashing = time.perf_counter() - started
        selection = reading.select(data_kind, str(path))
        if kind == "text":
            rows = rendering.documents(home, selection, tokenizer, document_marks(tokenizer, renderer.stop_ids))
        elif kind == "hh":
            rows = rendering.comparisons(home, selection, renderer, CONTEXT)
        else:
            rows = rendering.demonstrations(home, selection, renderer, CONTEXT)
        return {"rows": len(rows), "hashing": hashing}

    return render


def render_before(tokenizer: Any) -> Any:
    from collections import Counter

    from training import reward, sft  # of the earlier commit
    from training.data import comparisons, demonstrations  # of the earlier commit

    def render(kind: str, path: Path, home: Path) -> dict[str, Any]:
        skipped: Counter[str] = Counter()
        if kind == "hh":
            records = comparisons.load(str(path)).records
            return {"rows": len(reward.rankings_of(tokenizer, records, CONTEXT, skipped))}
        records = demonstrations.load(str(path)).records
        return {"rows": len(sft.examples_of(tokenizer, (d.messages for d in records), CONTEXT, skipped))}

    return render


if __name__ == "__main__":
    sys.exit(main())
