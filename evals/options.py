"""The options of `python -m evals.run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Form = Literal["raw", "chat"]


@dataclass(frozen=True)
class Config:
    """Evaluate checkpoints against baselines, paired by item."""

    checkpoint: tuple[str, ...] = ()
    """Candidates: immutable ids, or a stage for its newest. `ID:chat`, `ID:plain` or `ID:few-shot` says how to ask."""
    baseline: tuple[str, ...] = ()
    """What to compare with, in the same form. The gate compares each candidate with the last one named."""
    suite: tuple[str, ...] = ()
    """What to measure; by default everything that the world, the data and the reward model allow (see --list)."""
    task: tuple[str, ...] = ()
    """lm-eval tasks by name, from the hub, or from a local copy that --data names."""
    data: tuple[str, ...] = ()
    """Files, folders or hub data sets as NAME=SOURCE: truthfulqa, toxicity, a known task (--list), any lm-eval task,
    any multiple choice, or plain text (bits per byte)."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Output folders of lm-eval as NAME=FOLDER instead of models to measure: the last is compared with the others."""
    reward: str | None = None
    """Reward model: immutable id or stage. Gives mean rewards, and its accuracy on --comparisons."""
    comparisons: tuple[Path, ...] = ()
    """Frozen comparisons (JSONL) that the reward model was not trained on; those of training prompts are left out."""
    url: str | None = None
    """Root of an AlignLoop service or of any OpenAI-compatible server. By default the service on this machine; where it
    does not serve the checkpoints, engines are started for the run."""
    key: str | None = None
    """Bearer key of scope `eval`; $ALIGNLOOP_KEY by default, none for an open loopback service."""
    through_filters: bool = False
    """The key is a user's, so that filters are in the way: measures the product, not the model. Stated in results."""
    home: Path = Path("runs")
    """Folder of everything that commands make."""
    world: Path | None = None
    """Folder of the miniature world; the newest in HOME/world by default."""
    locked: bool = False
    """Measure on the world's second set of items, kept for published figures: nothing is chosen on it."""
    real: bool = False
    """Leave the miniature world out, even if HOME has one."""
    out: Path | None = None
    """Folder for results; HOME/reports/DATE-TIME by default."""
    limit: int | None = None
    """Use only the first so many items of each task."""
    temperature: float = 0.0
    """Temperature of generated answers: 0 is greedy."""
    max_tokens: int = 64
    """Longest answer in tokens."""
    seed: int = 0
    """Seed of the run. Above temperature 0 each answer gets its own from it, the same for every model (seeds.py)."""
    draws: int = 1
    """Answers per prompt, above temperature 0. From 2 on, the noise of sampling is told from that of the prompts."""
    shots: tuple[int, ...] = (0,)
    """Numbers of answered examples before each item of the tax; several are shown side by side, such as 0 5."""
    forms: tuple[Form, ...] = ("raw",)
    """How items of the tax are put to a model: raw text, or through its chat template; both side by side if given."""
    samples: int = 25
    """Continuations per prompt of the toxicity suite on real prompts."""
    judge: str | None = None
    """Judge of TruthfulQA answers: URL#MODEL of an OpenAI-compatible server, or a classifier's folder."""
    scorer: Path | None = None
    """Toxicity scorer: a detoxify checkpoint, as a folder or a file that you trust."""
    second_scorer: Path | None = None
    """Another one, to see how far figures depend on the scorer."""
    concurrency: int = 48
    """Requests in flight at once."""
    cache: bool = True
    """Take answers of earlier runs to the same requests from HOME/cache/evals, and keep new ones there. Without it
    everything is asked anew, once."""
    gate: bool = True
    """Decide about each candidate against the last baseline: exit status 1 for FAIL, 3 for INCONCLUSIVE."""
    policy: Path | None = None
    """TOML file with the metrics that the gate requires, and their margins."""
    contamination: bool = True
    """Look for items in the training data that a checkpoint's manifest names."""
    dry_run: bool = False
    """Print the first request of each task, and measure nothing."""
    list: bool = False
    """Print suites, tasks and metrics, with what each needs, and measure nothing."""
