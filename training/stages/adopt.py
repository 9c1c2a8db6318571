"""`python -m training adopt`: give any Hugging Face checkpoint a manifest, so that it can be served and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from transformers import AutoTokenizer

from training.artifacts import checkpoints, machine, progress
from training.artifacts.checkpoints import Checkpoint, Kind, System
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.artifacts.rendering import Renderer
from training.artifacts.templates import Template, generation_eos
from training.models import (
    checks,
    fetching,
    forward,
    hardware,
    heads,
    loading,
    probes,
    streaming,
    templates,
    unpacking,
    weights,
)
from training.runtime import runs
from training.runtime.configuration import parse

# Sampling settings of generation_config.json and their names in requests; any others stay as they are there.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
WHOLE_MEMORY = 1.3  # memory that a loaded model takes, in sizes of its files
PROBE_TEXTS = (
    ("Name three colours.", "Red, green and blue."),
    ("What is two plus two?", "Two plus two is four."),
    ("Write one sentence about the sea.", "The sea was calm and grey in the early morning."),
)


@dataclass(frozen=True)
class Config:
    """Copy a Hugging Face checkpoint or a GGUF file into the store and give it a manifest. The source stays as is."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder saved by transformers, a GGUF file (or a folder with one), or a hub id."""
    kind: Literal["auto", "policy", "reward"] = "auto"
    """`policy` writes text, `reward` scores it; `auto` reads it from config.json."""
    chat_template: Annotated[str | None, tyro.conf.arg(metavar="default|FILE")] = None
    """Chat template in place of the tokenizer's own or where it has none: a Jinja file, or `default`, a ready one
    with roles as plain text whose turns end with the end-of-sequence token."""
    system: System = "keep"
    """`merge` puts a system turn that the chat template refuses before the first user turn's text."""
    reward_offset: float | None = None
    """Mean raw score of good answers, subtracted from every score; of a reward model only (0 if left out)."""
    label_weights: tuple[float, ...] = ()
    """Weight of each label, for a reward model of several: its score is the weighted sum of their logits."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def main(arguments: Sequence[str]) -> int:
    """`python -m training adopt`."""
    config = parse(Config, "adopt", arguments)
    adopted = adopt(config)
    print(adopted.id)
    runs.CONSOLE.print(next_steps(adopted, config.home), soft_wrap=True, highlight=False)
    return 0


def adopt(config: Config) -> Checkpoint:
    """Publish a copy of a checkpoint that was not trained here.

    Weights are copied and checked by their headers; no more of them is in memory than the probe needs at a time.

    Raises:
        UserError: it is not a whole Hugging Face checkpoint of text, or an option does not fit it.
    """
    hardware.set_threads()
    source = fetching.source_of(config.source)
    if source.is_dir():
        kind = _kind_of(source, config)
        _checked(source, kind, config)
    store = config.home / "checkpoints"
    checkpoints.sweep(store)
    staged = checkpoints.staging(store)
    try:
        with progress.bar(f"copying {config.source}") as bar:
            if source.is_file():
                bar.rename(f"unpacking {config.source}")
                unpacking.unpack(source, staged)
                kind = _kind_of(staged, config)
            else:
                fetching.copy_checkpoint(source, staged, kind, bar.rename)
            bias = heads.take_bias(staged, config.label_weights or (1.0,), config.source) if kind == "reward" else 0.0
            if config.label_weights:
                heads.fold_labels(staged, config.label_weights, config.source)
            tokenizer = _tokenizer(staged, config)
            model = _checked(staged, kind, config)
            if model is not None:
                heads.untie_different(staged, model)
            about = checks.read_config(staged, config.source)
            bar.rename("computing the probe")
            probe = _probe(staged, model, about, _probe_rows(staged, tokenizer, about, kind), kind)
            context = forward.context_of_config(about)
            _check_ends(staged, about, config)
            generation = _take_generation_defaults(staged, context) if kind == "policy" else None
            if kind == "reward":
                _serve_raw_scores(staged)
            bar.rename("hashing the weights")
            return checkpoints.publish(
                staged,
                store,
                stage="adopt",
                kind=kind,
                system=config.system,
                tokenizer=tokenizer,
                context=context,
                base_model=_base_model(config.source, source),
                generation=generation,
                # The score is that of the model with its bias: raw - (offset - bias).
                reward_offset=(config.reward_offset or 0.0) - bias if kind == "reward" else None,
                pad_id=about.get_text_config().pad_token_id if kind == "reward" else None,
                probe=probe,
                config=runs.resolved(config),
                metrics=({} if model is None else {"parameters": sum(p.numel() for p in model.parameters())})
                | ({"head_bias": bias} if bias else {}),
            )
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # gone already where it was published


def _base_model(name: str, source: Path) -> str:
    """A hub id as it was given, or the name of the folder or file."""
    if "/" in name and not Path(name).expanduser().exists():
        return name
    return source.stem if source.is_file() else source.name


def next_steps(adopted: Checkpoint, home: Path) -> str:
    """Commands that use the new checkpoint."""
    at = "" if home == Path("runs") else f" --home {home}"
    lines = [f"serve:    python -m service serve{at} --open --with-engines {adopted.id}"]
    if bias := adopted.manifest.metrics.get("head_bias"):
        lines.append(f"Its head adds {bias:g} to every score: that is now part of its offset, and scores are the same.")
    if adopted.manifest.kind == "reward":
        hello = [{"role": "user", "content": "Hello"}]
        body = json.dumps({"model": adopted.id, "messages": hello, "responses": ["Hi there.", "Go away."]})
        lines.append(f"score:    curl http://127.0.0.1:8000/score -H 'content-type: application/json' -d '{body}'")
        lines.append(f"evaluate: python -m evals.run{at} --checkpoint POLICY --suite reward --reward {adopted.id}")
    else:
        lines.append(f"evaluate: python -m evals.run{at} --checkpoint {adopted.id} --suite tax --data hellaswag=FILE")
        if adopted.manifest.template_hash is None:
            lines.append("It has no chat template, so it completes text only: adopt it with --chat-template to chat.")
    if reason := adopted.manifest.probe.get("absent"):
        lines.append(f"Its numbers will not be checked when it is served: {reason}.")
    return "\n".join(lines)


def _kind_of(folder: Path, config: Config) -> Kind:
    """Whether the checkpoint writes or scores, after checks that need no weights."""
    about = checks.read_config(folder, config.source)
    by_name = checks.kind_of(about)
    kind = by_name if config.kind == "auto" else config.kind
    if by_name is not None and kind != by_name:
        names = ", ".join(about.architectures or [])
        raise UserError(f"{config.source} is a {by_name} model ({names}): leave --kind out")
    checks.check_kind(about, kind or "policy", config.source)
    if kind is None:
        names = ", ".join(about.architectures or []) or "no architecture"
        raise UserError(f"{config.source} does not tell what it is ({names}): give --kind policy or --kind reward")
    if kind == "policy" and config.reward_offset is not None:
        raise UserError("--reward-offset belongs to a reward model: leave it out for a policy")
    if config.label_weights and (kind == "policy" or about.num_labels == 1):
        raise UserError("--label-weights belongs to a reward model of several labels: leave it out")
    if config.label_weights and len(config.label_weights) != about.num_labels:
        count = len(config.label_weights)
        raise UserError(f"{config.source} has {about.num_labels} labels: give as many --label-weights, not {count}")
    if kind == "reward" and not config.label_weights:
        checks.check_labels(about, config.source)
    return kind


def _checked(folder: Path, kind: Kind, config: Config) -> Any:
    """The model without weights (on the meta device), after checking its files' names, shapes and sizes; None
    where only an engine knows its layout (quantised weights), or where they are pickled."""
    entries = weights.headers(folder)
    if not entries or checks.quantisation(checks.read_config(folder, config.source)):
        return None
    unused = (heads.BIAS,) if kind == "reward" else ()
    return loading.load_whole(folder, kind, config.source, on="meta", unused=unused)


def _tokenizer(staged: Path, config: Config) -> Any:
    """The staged tokenizer, with the requested chat template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(staged, trust_remote_code=False)
    except Exception as error:  # each family of tokenizers fails in its own way on missing files
        raise UserError(
            f"{config.source} has no usable tokenizer: save one into it ({checks.first_line(error)})"
        ) from None
    if not len(tokenizer):
        raise UserError(f"{config.source} has no usable tokenizer: save one into it (tokenizer.save_pretrained)")
    if config.chat_template is not None:
        _write_template(staged, templates.template_text(config.chat_template, tokenizer))
        tokenizer = AutoTokenizer.from_pretrained(staged, trust_remote_code=False)
        templates.rendering_of(Template(tokenizer), config.chat_template)
    return tokenizer


def _write_template(staged: Path, text: str) -> None:
    """Put a chat template in place of whatever the staged tokenizer has."""
    file = staged / "tokenizer_config.json"
    settings = _read_settings(file)
    settings.pop("chat_template", None)  # it would contradict the file
    write_atomically(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    write_atomically(staged / "chat_template.jinja", text)


def _probe_rows(staged: Path, tokenizer: Any, about: Any, kind: Kind) -> list[list[int]]:
    """Token ids that any server must compute alike: conversations; of a policy plain text where it has no template
    that takes a question and an answer."""
    rows = [list(tokenizer(f"{question} {answer}")["input_ids"]) for question, answer in PROBE_TEXTS]
    if tokenizer.chat_template:
        renderer = Renderer(tokenizer, stop_ids=generation_eos(staged))
        rendered = renderer.render([_turns(*texts) for texts in PROBE_TEXTS])
        refused = [row for row in rendered if isinstance(row, Refusal)]
        if refused and kind == "reward":
            raise UserError(f"a reward model scores conversations, and {sentence(refused[0])}: give --chat-template")
        if refused:
            runs.CONSOLE.print(
                f"It answers no plain question: {sentence(refused[0])}. --chat-template gives it another template.",
                markup=False,
                soft_wrap=True,
                highlight=False,
            )
        else:
            rows = [row.ids for row in rendered if not isinstance(row, Refusal)]
    elif kind == "reward":
        raise UserError("a reward model scores conversations and this one has no chat template: give --chat-template")
    context = forward.context_of_config(about)
    if context < 2:
        raise UserError(f"the model takes {context} tokens by its config.json: mend its max_position_embeddings")
    rows = [row[:context] for row in rows]
    beyond = max(max(row) for row in rows)
    if beyond >= about.get_text_config().vocab_size:
        raise UserError(f"the tokenizer gives id {beyond}, which the model does not have: use the model's tokenizer")
    return rows


def _probe(folder: Path, model: Any, about: Any, rows: list[list[int]], kind: Kind) -> dict[str, Any]:
    """What any server of the checkpoint must reproduce: in float32 with weights read from their files layer by layer;
    in their own dtype where transformers must convert them whole; absent where neither can be done."""
    probe = probes.policy_probe if kind == "policy" else probes.reward_probe
    method = checks.quantisation(about)
    if method:
        return probes.absent(f"quantised weights ({method}): only an engine computes with them")
    try:
        with hardware.on_cpu():
            return probe(streaming.open_streamed(folder, kind), rows, together=True)
    except (streaming.NotStreamableError, RuntimeError, NotImplementedError):
        pass  # a layout of weights or a layer that reads them past its modules
    size, free = sum(entry.end - entry.start for entry in weights.headers(folder).values()), machine.memory()
    if size * WHOLE_MEMORY > free:
        return probes.absent(
            f"the weights must be loaded whole, {fetching.gib(size)}, and {fetching.gib(free)} of memory were free"
        )
    del model
    return probe(loading.load_whole(folder, kind, folder.name).eval().to(hardware.device()), rows)


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _read_settings(file: Path) -> dict[str, Any]:
    """A JSON file of settings, nothing where there is none. Raises `UserError` where it is not one."""
    try:
        settings = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file.name} is not valid JSON ({error}): mend or remove it") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file.name} is not a JSON object: mend or remove it")
    return settings


def _check_ends(staged: Path, about: Any, config: Config) -> None:
    """Raise `UserError` where generation_config.json names an end that the model can never write."""
    size = about.get_text_config().vocab_size
    beyond = [end for end in generation_eos(staged) if end >= size]
    if beyond:
        raise UserError(
            f"generation_config.json of {config.source} ends answers with token {beyond[0]} and the model has {size} "
            "tokens: mend its eos_token_id"
        )


def _take_generation_defaults(staged: Path, context: int) -> dict[str, Any]:
    """Move sampling defaults from generation_config.json to the manifest: a server would apply both."""
    file = staged / "generation_config.json"
    settings = _read_settings(file)
    sampling = {name: settings.pop(key) for key, name in SAMPLING.items() if settings.get(key) is not None}
    greedy = settings.pop("do_sample", None) is False
    if file.is_file():
        write_atomically(file, json.dumps(settings, indent=2) + "\n")
    defaults: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": min(256, context // 2)}
    return {**defaults, **sampling, **({"temperature": 0.0} if greedy else {})}


def _serve_raw_scores(staged: Path) -> None:
    """vLLM puts a sigmoid on a single label unless the configuration calls it a regression."""
    file = staged / "config.json"
    settings = json.loads(file.read_text()) | {"problem_type": "regression"}
    write_atomically(file, json.dumps(settings, indent=2) + "\n")
