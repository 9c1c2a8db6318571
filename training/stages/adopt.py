"""`python -m training adopt`: give any Hugging Face checkpoint a manifest, so that it can be served and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.artifacts import checkpoints
from training.artifacts.checkpoints import MANIFEST, Checkpoint, Kind, System
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.artifacts.rendering import Renderer
from training.artifacts.templates import generation_eos
from training.models import building, forward, hardware, probes, templates
from training.runtime import runs
from training.runtime.configuration import parse

COPIED = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".safetensors", ".md"}
PICKLED = {".bin", ".pt", ".pth", ".ckpt"}
# Sampling settings of generation_config.json and their names in requests; any others stay as they are there.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
PROBE_TEXTS = (
    ("Name three colours.", "Red, green and blue."),
    ("What is two plus two?", "Two plus two is four."),
    ("Write one sentence about the sea.", "The sea was calm and grey in the early morning."),
)


@dataclass(frozen=True)
class Config:
    """Copy a Hugging Face checkpoint into the store and give it a manifest. The source stays as it is."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder saved by transformers, or a hub id."""
    kind: Literal["auto", "policy", "reward"] = "auto"
    """`policy` writes text, `reward` scores it; `auto` reads it from config.json."""
    chat_template: Annotated[str | None, tyro.conf.arg(metavar="default|FILE")] = None
    """Chat template in place of the tokenizer's own or where it has none: a Jinja file, or `default`, a ready one
    with roles as plain text whose turns end with the end-of-sequence token."""
    system: System = "keep"
    """`merge` puts a system turn that the chat template refuses before the first user turn's text."""
    reward_offset: float | None = None
    """Mean raw score of good answers, subtracted from every score; of a reward model only (0 if left out)."""
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

    Raises:
        UserError: it is no whole Hugging Face checkpoint of text, or an option does not fit it.
    """
    hardware.set_threads()
    source = _folder_of(config.source)
    kind = _kind_of(source, config)
    store = config.home / "checkpoints"
    checkpoints.sweep(store)
    staged = checkpoints.staging(store)
    try:
        with runs.CONSOLE.status(f"copying {config.source}") as status:
            _copy(source, staged, kind)
            tokenizer = _tokenizer(staged, config)
            status.update("loading in float32 and computing the probe")
            model = _load(staged, kind, config.source)
            probe = _probe(model, tokenizer, kind, staged)
            generation = _take_generation_defaults(staged, forward.context_of(model)) if kind == "policy" else None
            if kind == "reward":
                _serve_raw_scores(staged)
            status.update("hashing the weights")
            return checkpoints.publish(
                staged,
                store,
                stage="adopt",
                kind=kind,
                system=config.system,
                tokenizer=tokenizer,
                context=forward.context_of(model),
                base_model=config.source if "/" in config.source and not Path(config.source).exists() else source.name,
                generation=generation,
                reward_offset=(config.reward_offset or 0.0) if kind == "reward" else None,
                probe=probe,
                config=runs.resolved(config),
                metrics={"parameters": sum(p.numel() for p in model.parameters())},
            )
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # gone already where it was published


def next_steps(adopted: Checkpoint, home: Path) -> str:
    """Commands that use the new checkpoint."""
    at = "" if home == Path("runs") else f" --home {home}"
    lines = [f"serve:    python -m service serve{at} --open --with-engines {adopted.id}"]
    if adopted.manifest.kind == "reward":
        hello = [{"role": "user", "content": "Hello"}]
        body = json.dumps({"model": adopted.id, "messages": hello, "responses": ["Hi there.", "Go away."]})
        lines.append(f"score:    curl http://127.0.0.1:8000/score -H 'content-type: application/json' -d '{body}'")
        lines.append(f"evaluate: python -m evals.run{at} --checkpoint POLICY --suite reward --reward {adopted.id}")
    else:
        lines.append(f"evaluate: python -m evals.run{at} --checkpoint {adopted.id} --suite tax --data hellaswag=FILE")
        if adopted.manifest.template_hash is None:
            lines.append("It has no chat template, so it completes text only: adopt it with --chat-template to chat.")
    return "\n".join(lines)


def _folder_of(source: str) -> Path:
    """The local folder of a checkpoint, downloaded where `source` is a hub id."""
    path = Path(source).expanduser().resolve()
    if path.is_dir():
        return path
    if path.is_file():
        raise UserError(f"{source} is a file: give the folder that transformers saved")
    if source.count("/") > 1 or source[:1] in {".", "/", "~"}:
        raise UserError(f"{source} does not exist: give the folder that transformers saved, or a hub id")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=[f"*{s}" for s in COPIED | PICKLED]))
    except Exception as error:  # its transport library, and so the errors, differ between versions
        raise UserError(
            f"{source} is no local folder, and the Hugging Face hub did not give it ({type(error).__name__}): "
            "give a folder, or check the id, the network and HF_TOKEN"
        ) from None


def _kind_of(source: Path, config: Config) -> Kind:
    """Whether the checkpoint writes or scores, after checks that need no weights."""
    if (source / MANIFEST).is_file():
        raise UserError(f"{source} has a manifest already: use its path or id, there is nothing to adopt")
    if (source / "adapter_config.json").is_file():
        raise UserError(f"{source} is a LoRA adapter: merge it into its base (merge_and_unload) and save that")
    if not (source / "config.json").is_file():
        raise UserError(f"{source} has no config.json: give a folder that transformers saved (save_pretrained)")
    try:
        about = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{source}/config.json cannot be used: {_first_line(error)}") from None
    names = about.architectures or []
    if any(name.endswith("ForSequenceClassification") for name in names):
        found: Kind | None = "reward"
    elif any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        found = "policy"
    else:
        found = None
    kind = found if config.kind == "auto" else config.kind
    if kind is None:
        raise UserError(f"{source}/config.json does not tell a language model ({names}): give --kind policy or reward")
    if found is not None and kind != found:
        raise UserError(f"{source} is a {found} model ({names[0]}): leave --kind out")
    if kind == "reward" and about.num_labels != 1:
        raise UserError(f"{source} has {about.num_labels} labels: a reward model has one (num_labels=1)")
    if kind == "policy" and config.reward_offset is not None:
        raise UserError("--reward-offset belongs to a reward model: leave it out for a policy")
    return kind


def _copy(source: Path, staged: Path, kind: Kind) -> None:
    """Copy what serving needs; weights in a pickled format are loaded (tensors only) and saved as safetensors.

    Files are copied, not linked: a later run that saves into the source must not change a published checkpoint.
    """
    files = [file for file in source.iterdir() if file.is_file() and not file.name.startswith(".")]
    for file in files:
        if file.suffix in COPIED or file.name.upper().startswith("LICENSE"):
            shutil.copyfile(file, staged / file.name)
    if any(file.suffix == ".safetensors" for file in files):
        return
    if not any(file.suffix in PICKLED for file in files):
        raise UserError(f"{source} holds no weights: give a folder with .safetensors files")
    try:
        _load(source, kind, str(source), dtype="auto").save_pretrained(staged)
    except UserError as error:
        raise UserError(f"its pickled weights cannot be converted, save them with safetensors: {error}") from None
    for index in staged.glob("pytorch_model*.index.json"):
        index.unlink()


def _tokenizer(staged: Path, config: Config) -> Any:
    """The staged tokenizer, with the chat template that was asked for."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(staged)
    except Exception as error:  # each family of tokenizers fails in its own way on missing files
        raise UserError(f"{config.source} has no usable tokenizer: save one into it ({_first_line(error)})") from None
    if not len(tokenizer):
        raise UserError(f"{config.source} has no usable tokenizer: save one into it (tokenizer.save_pretrained)")
    if config.chat_template is not None:
        _write_template(staged, templates.template_text(config.chat_template, tokenizer))
        tokenizer = AutoTokenizer.from_pretrained(staged)
    return tokenizer


def _write_template(staged: Path, text: str) -> None:
    """Put a chat template in place of whatever the staged tokenizer has."""
    file = staged / "tokenizer_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    settings.pop("chat_template", None)  # it would contradict the file
    write_atomically(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    write_atomically(staged / "chat_template.jinja", text)


def _load(folder: Path, kind: Kind, name: str, dtype: Any = torch.float32) -> Any:
    """The model with every weight found, without dropout."""
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    try:
        model, report = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except Exception as error:  # damaged files raise errors of safetensors, pickle or torch alike
        raise UserError(f"{name} cannot be loaded as a {kind} model: {_first_line(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(f"{name} lacks {len(missing)} weights, such as `{missing[0]}`: give a whole {kind} checkpoint")
    if kind == "reward" and not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise UserError(f"{type(model).__name__} has no linear head named `score`: engines serve no other reward model")
    return building.without_dropout(model).eval().to(hardware.device())


def _probe(model: Any, tokenizer: Any, kind: Kind, staged: Path) -> dict[str, Any]:
    """What any server of the checkpoint must reproduce, on conversations, or on plain text without a template."""
    rows = _probe_rows(tokenizer, kind, generation_eos(staged))
    rows = [row[: forward.context_of(model)] for row in rows]
    beyond = max(max(row) for row in rows)
    if beyond >= model.get_input_embeddings().num_embeddings:
        raise UserError(f"the tokenizer gives id {beyond}, which the model does not have: use the model's tokenizer")
    return probes.policy_probe(model, rows) if kind == "policy" else probes.reward_probe(model, rows)


def _probe_rows(tokenizer: Any, kind: Kind, eos: Sequence[int]) -> list[list[int]]:
    """Token ids of the probe; of a policy plain text where it has no template that takes a question and an answer."""
    plain = [list(tokenizer(f"{question} {answer}")["input_ids"]) for question, answer in PROBE_TEXTS]
    if not tokenizer.chat_template:
        if kind == "reward":
            raise UserError(
                "a reward model scores conversations, and this one has no chat template: give --chat-template"
            )
        return plain
    rendered = Renderer(tokenizer, stop_ids=eos).render([_turns(*texts) for texts in PROBE_TEXTS])
    refused = [row for row in rendered if isinstance(row, Refusal)]
    if refused and kind == "reward":
        raise UserError(f"a reward model scores conversations, and {sentence(refused[0])}: give --chat-template")
    return plain if refused else [row.ids for row in rendered if not isinstance(row, Refusal)]


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _take_generation_defaults(staged: Path, context: int) -> dict[str, Any]:
    """Move sampling defaults from generation_config.json to the manifest: a server would apply both."""
    file = staged / "generation_config.json"
    settings: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    found = {name: settings.pop(key) for key, name in SAMPLING.items() if settings.get(key) is not None}
    greedy = settings.pop("do_sample", None) is False
    if file.is_file():
        write_atomically(file, json.dumps(settings, indent=2) + "\n")
    defaults: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": min(256, context // 2)}
    return {**defaults, **found, **({"temperature": 0.0} if greedy else {})}


def _serve_raw_scores(staged: Path) -> None:
    """vLLM puts a sigmoid on a single label unless the configuration calls it a regression."""
    file = staged / "config.json"
    settings = json.loads(file.read_text()) | {"problem_type": "regression"}
    write_atomically(file, json.dumps(settings, indent=2) + "\n")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
