"""Dropout of what each layer's parts add to the residual stream (Ouyang et al. 2022, appendix C: 0.2 in SFT).

Models here run without dropout of their own (`building.without_dropout`). This one is seeded by step, row and layer:
how a step is cut into passes, a resumed run and activations that are computed again change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.artifacts.errors import UserError
from training.models.hardware import device
from training.models.layers import layers_of
from training.runtime.runs import derive_seed

PARTS = re.compile(r"(^|_)(attn|attention|mlp|feed_forward|ffn|moe|fc2)$")  # of a layer, by their usual names


class _Pass(NamedTuple):
    """The rows that go forward: numbers that tell them apart within their step, and their lengths in tokens."""

    step: int
    numbers: Sequence[int]
    lengths: Sequence[int]


class ResidualDropout:
    """Sets a share of what attention and feed-forward parts give to 0, and scales the rest up, inside `rows` only.

    Raises:
        UserError: the model's layers add something else to the residual stream than what their parts give.
    """

    def __init__(self, model: Any, share: float, seed: int) -> None:
        self._share, self._seed = share, seed
        self._pass: _Pass | None = None
        layers = layers_of(model)
        parts = [part for layer in layers for name, part in layer.named_children() if PARTS.search(name)]
        for number, part in enumerate(parts):
            part.register_forward_hook(self._hook(number))
        if not parts or not self._removes_all(model, layers):
            raise UserError(f"--dropout: {type(model).__name__} has parts that cannot be dropped: leave it out")

    @contextmanager
    def rows(self, step: int, numbers: Sequence[int], lengths: Sequence[int]) -> Iterator[None]:
        """Drop in the passes of a block, backward ones included, whose rows these are."""
        self._pass = _Pass(step, numbers, lengths)
        try:
            yield
        finally:
            self._pass = None

    def _hook(self, number: int) -> Callable[[nn.Module, Any, Any], Any]:
        def drop(module: nn.Module, arguments: Any, output: Any) -> Any:
            if self._pass is None or self._share == 0:
                return output
            if isinstance(output, tuple):
                return (output[0] * self._mask(number, output[0]), *output[1:])
            return output * self._mask(number, output)

        return drop

    def _mask(self, number: int, output: Tensor) -> Tensor:
        """0 where something is dropped, else 1 / (1 - share); 1 at padding: like `output`, (rows, longest, width)."""
        assert self._pass is not None
        mask = output.new_ones(output.shape)
        generator = torch.Generator(output.device)
        for place, (row, length) in enumerate(zip(self._pass.numbers, self._pass.lengths, strict=True)):
            generator.manual_seed(derive_seed(self._seed, "dropout", self._pass.step, row, number))
            uniform = torch.rand((length, output.shape[-1]), generator=generator, device=output.device)
            mask[place, :length] = (uniform >= self._share).to(mask.dtype) / max(1e-9, 1 - self._share)
        return mask

    def _removes_all(self, model: Any, layers: nn.ModuleList) -> bool:
        """Whether each layer gives what it was given when everything its parts give is dropped."""
        same: list[bool] = []

        def compare(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
            before = arguments[0] if arguments else keywords["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            same.append(torch.equal(before, after))

        hooks = [layer.register_forward_hook(compare, with_kwargs=True) for layer in layers]
        share, self._share = self._share, 1.0
        try:
            with torch.no_grad(), self.rows(0, [0], [2]):
                model.base_model(input_ids=torch.tensor([[0, 1]], device=device()), use_cache=False)
        finally:
            self._share = share
            for hook in hooks:
                hook.remove()
        return all(same) and len(same) == len(layers)
