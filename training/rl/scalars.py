"""What is logged of PPO: means over the episodes of a policy, and over the updates of an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from training.rl import losses
from training.rl.episodes import Episodes


def scalars_of(episodes: Episodes, kl: losses.KL) -> dict[str, float]:
    """Scalars of a policy's own rollouts: means over episodes or tokens; of several reward models also each one's.

    Where a reward model cannot read some responses, also their share, and its own mean is over the others.

    Of an engine's rollouts also the mean importance weight, near 1 where engine and trainer agree, and the share of
    tokens whose weight is at its cap.
    """
    mask = episodes.mask
    several = episodes.parts if len(episodes.parts) > 1 else {}
    unread = {name: scores.isneginf() for name, scores in episodes.parts.items()}
    weights = episodes.importance
    importance = {}
    if weights is not None:
        capped = (weights >= losses.IMPORTANCE_CAP).float()
        importance = {
            "importance_weight": float(losses.masked_mean(weights, mask)),
            "importance_capped": float(losses.masked_mean(capped, mask)),
        }
    return importance | {
        "score": float(episodes.scores.mean()),
        "kl": float((kl.k1 * mask).sum(1).mean()),
        "kl_k2": float((kl.k2 * mask).sum(1).mean()),
        "kl_k3": float((kl.k3 * mask).sum(1).mean()),
        "entropy": -float(losses.masked_mean(episodes.old_logprobs, mask)),
        "response_tokens": float(mask.sum(1).mean()),
        "finished": float(episodes.finished.float().mean()),
        "sampler_gap": episodes.sampler_gap,
        **{f"score/{n}": float(scores[~unread[n]].mean()) for n, scores in several.items() if not unread[n].all()},
        **{f"unreadable/{name}": float(which.float().mean()) for name, which in unread.items() if which.any()},
    }


def update_scalars(episodes: Episodes, returns: Tensor, updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Scalars of an iteration's updates: means over them, the value model's fit, the first ratio.

    `value_explains` is absent where all returns are equal: there is nothing to explain.
    """
    mask = episodes.mask
    unexplained = losses.masked_mean((returns - episodes.old_values) ** 2, mask)
    spread = losses.masked_mean((returns - losses.masked_mean(returns, mask)) ** 2, mask)
    means = {
        name: sum(update[name] for update in updates) / len(updates) for name in updates[0] if name != "ratio_error"
    }
    explains = {"value_explains": 1 - float(unexplained / spread)} if spread > 0 else {}
    return means | explains | {"first_ratio_error": updates[0]["ratio_error"]}
