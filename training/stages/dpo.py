"""Direct preference optimization: a policy from rankings alone, without a reward model (Rafailov et al. 2023,
arXiv 2305.18290).

loss = -log sigmoid(beta log[pi(y_w|x) / pi_ref(y_w|x)] - beta log[pi(y_l|x) / pi_ref(y_l|x)])        (equation 7)
That is the reward model's loss with the policy's implicit reward, beta log[pi / pi_ref], as score: all pairs of a
ranking are learned from, each response goes forward once, ties are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.data.items import Ranking
from training.models import (
    building,
    hardware,
    loading,
    memory,
    optimization,
    probes,
    publishing,
    shared_passes,
    templates,
)
from training.rl import batches
from training.runtime import ranks, runs
from training.runtime.configuration import parse
from training.stages import adapters, four_models, limits, planning, rankings


@dataclass(frozen=True)
class Config(adapters.LoraOptions, planning.MemoryOptions):
    """Train a policy on rankings, without a reward model."""

    data: tuple[str, ...]
    """Comparisons: frozen rankings or public preference data, as files, folders or hub ids
    (ID[:configuration][@split]), each with an optional weight: A B=2 takes every row of A once and of B twice per
    epoch, B=0.5 a random half of B."""
    model: str = "sft"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    reference: str | None = None
    """Reference; left out, the policy as it starts (Rafailov et al. 2023, section 4)."""
    validation: tuple[str, ...] = ()
    """Held-out comparisons; left out, those of one user in ten are held out (of one prompt in ten, where fewer than
    ten users are known)."""
    beta: float = 0.1
    """How strongly the policy is held to the reference; smaller moves further. 0.1 (Rafailov et al. 2023, appendix
    B)."""
    epochs: int = 1
    """Passes over the comparisons. Ours."""
    learning_rate: float = 1e-6
    """Learning rate, constant after the warm-up. 1e-6 (Rafailov et al. 2023, appendix B, with RMSprop)."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises from 0. Ours: the paper takes 150 steps."""
    batch: int = 64
    """Prompts per step; all responses of a prompt are in the same step. 64 (Rafailov et al. 2023, appendix B)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm. Ours."""
    freeze_embeddings: bool = False
    """Freeze embeddings and output head, so that words absent from the data keep their pretrained meaning."""
    context: int | None = None
    """Greatest number of tokens of a prompt with a response; longer responses are left out of their comparison. Left
    out, the model's own, at most 2,048 (Ouyang et al. 2022, appendix C)."""
    hygiene: bool = False
    """Leave out comparisons with personal information."""
    allow_revealed: bool = False
    """Use comparisons too that their labeler gave after the names of the models were shown."""
    limit: int | None = None
    """Use this many comparisons at most, drawn at random."""
    seed: int = 0
    """Seed of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


def train(config: Config) -> Checkpoint:
    """Train and publish a policy."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = loading.load(config.model, config.home)
    model = source.model
    own_reference = four_models.reference_of(config.reference, config.home, source)
    if own_reference is not None:
        building.freeze(own_reference.model)
    reference_keys = [own_reference.key] if own_reference else []
    renderer = templates.renderer_for(source)
    renderer.require_end()
    context = limits.context_of(model, config.context)
    with ranks.main_first():
        data = rankings.load(config, renderer, context)
    answers = Answers(renderer.stop_ids)
    sizes = data.training.sizes().tolist()
    plan = [b for epoch in range(config.epochs) for b in batches.epoch_batches(sizes, config.batch, config.seed, epoch)]

    summaries = {name: summary for usage in data.usages for name, summary in usage.summaries().items()}
    hashes = [summary["sha256"] for summary in summaries.values()]
    with runs.Run(config.home, "dpo", config, [source.key, *reference_keys, *hashes]) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        adapters.add(config, model, "policy")
        longest = max(*sizes, *data.held_out.sizes().tolist())
        budget = planning.plan(
            config, [planning.Trained(model)], longest, max(sum(sizes[i] for i in batch) for batch in plan)
        )
        planning.divide(config, [model])
        optimizer = optimization.adamw([(model, config.learning_rate)])
        # The model is its own reference until its first step, so no second one is needed. Another one is gone by then.
        reference_model = model if own_reference is None else own_reference.model
        reference = {
            name: reference_logprobs(reference_model, answers, of, budget, run.folder / f"{name}.pt")
            for name, of in (("training", data.training), ("held_out", data.held_out))
        }
        del reference_model, own_reference
        run.resume(model=adapters.Trained(model), optimizer=optimizer, budget=budget)

        for step in run.steps(len(plan), "direct preferences"):
            optimization.set_rate(optimizer, min(1.0, (step + 1) / max(1.0, config.warmup * len(plan))))
            batch = [data.training[i] for i in plan[step]]
            score = implicit_rewards(model, answers, batch, [reference["training"][i] for i in plan[step]], config.beta)
            loss = ranks.total(budget.run([model], partial(rankings.add_gradients, score, batch)))
            optimization.add_up_gradients([model])
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            responses = (row for ranking in batch for row in ranking.rows)
            run.check_finite(step, {"loss": loss, "gradient_norm": norm}, {"training": plan[step]}, responses)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")

        model, adapter = adapters.merge(model, lambda: loading.load(config.model, config.home).model)
        score = implicit_rewards(model, answers, data.held_out, reference["held_out"], config.beta)
        held_out_scores = ranks.join(budget.run([], partial(rankings.own_scores, score, data.held_out)))
        metrics = rankings.measure(held_out_scores, data.training, data.held_out)
        run.log(len(plan), {name: value for name, value in metrics.items() if isinstance(value, float)})
        rows = [row.tolist() for row in data.held_out.rows[: probes.PROBES]]
        manifest = source.manifest
        return publishing.publish(
            model,
            source.tokenizer,
            config.home,
            stage="dpo",
            kind="policy",
            system=templates.system_of(source),
            parents=source.parents,
            base_model=source.base_model,
            adapter=adapter,
            generation=manifest.generation if manifest else None,
            probe=probes.policy_probe(model, rows),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics=metrics | {"split_by": data.split_by, "steps": len(plan)},
        )


def check(config: Config) -> None:
    """Raise `UserError` for settings that make no sense, before anything is loaded."""
    limits.check_rates(config)
    adapters.check(config)
    if min(config.epochs, config.batch) < 1:
        raise UserError("--epochs and --batch must be at least 1")
    if config.beta <= 0:
        raise UserError(f"--beta {config.beta}: use a number above 0")
    if not 0 <= config.warmup <= 1:
        raise UserError(f"--warmup {config.warmup}: use a share from 0 to 1")


class Answers:
    """Log-probabilities of a ranking's responses under a policy.

    Args:
        stop_ids: what ends a response; the template's tokens after it are nobody's choice.
    """

    def __init__(self, stop_ids: Sequence[int]) -> None:
        self._stops = frozenset(stop_ids)

    def logprobs(self, model: Any, of: Sequence[Ranking]) -> Tensor:
        """Of each response of these rankings, one after the other: (sum of K,).

        The tokens that all responses of a prompt begin with count for none of them: they cancel out in every pair.
        """
        prompts, responses = zip(*(self._split(ranking.rows) for ranking in of), strict=True)
        return shared_passes.ranking_logprobs(model, prompts, responses)

    def _split(self, rows: Sequence[list[int]]) -> tuple[list[int], list[list[int]]]:
        common = shared_passes.common_prefix(rows)
        return rows[0][:common], [self._ended(row[common:]) for row in rows]

    def _ended(self, response: list[int]) -> list[int]:
        last = max((place for place, token in enumerate(response) if token in self._stops), default=len(response) - 1)
        return response[: last + 1]


def implicit_rewards(
    model: Any, answers: Answers, of: Sequence[Ranking], reference: Sequence[Tensor], beta: float
) -> rankings.Score:
    """beta log(pi / pi_ref) of these rankings' responses, by the rankings' numbers.

    Args:
        reference: log-probabilities of each ranking's responses under the reference, (K,).
    """

    def score(numbers: Sequence[int]) -> Tensor:
        logprobs = answers.logprobs(model, [of[number] for number in numbers])
        return beta * (logprobs - torch.cat([reference[number] for number in numbers]).to(logprobs.device))

    return score


def reference_logprobs(
    model: Any, answers: Answers, of: Sequence[Ranking], budget: memory.Budget, file: Path
) -> list[Tensor]:
    """Log-probabilities of each ranking's responses under the model as it is, (K,) each; kept in a file."""
    if ranks.least(int(file.is_file())):
        earlier: list[Tensor] = torch.load(file, weights_only=True)
        return earlier

    def compute(tokens_per_pass: int) -> dict[int, Tensor]:
        logprobs: dict[int, Tensor] = {}
        sizes = [sum(ranking.lengths) for ranking in of]
        with torch.no_grad():
            for part, _ in progress.track(batches.own_passes(range(len(of)), sizes, tokens_per_pass), "reference"):
                values = answers.logprobs(model, [of[i] for i in part]).cpu()
                logprobs.update(zip(part, values.split([len(of[i].rows) for i in part]), strict=True))
        return logprobs

    logprobs = ranks.join(budget.run([], compute))
    result = [logprobs[i].clone() for i in range(len(of))]
    if ranks.is_main():
        partial_file = file.with_suffix(".partial")
        torch.save(result, partial_file)
        partial_file.replace(file)
    return result


def main(arguments: Sequence[str]) -> int:
    """`python -m training dpo`."""
    checkpoint = train(parse(Config, "dpo", arguments))
    print(checkpoint.id)
    return 0
