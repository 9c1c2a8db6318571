"""Several processes of one run, started by `torchrun` or `accelerate launch`: who this one is, and what all agree on.

Every process computes the same plan of steps from the same data, and takes a share of each step's rows (`shares`).
What they found out is added up or joined here. With one process every function is the identity.

A process that ends takes the others with it: their next exchange fails at once, since its connections are closed, and
`group` says so in one line. No limit of time stands for that: the others wait for as long as one reads data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from training.artifacts.errors import Stopped, UserError
from training.artifacts.progress import CONSOLE
from training.runtime.signals import StopRequest

WAIT = timedelta(hours=24)  # the longest work that one process does while the others wait, such as reading data
BUCKET = 2**25  # numbers that are added up at once, 128 MB in float32
LOST = (
    "another process of this run ended, or is out of reach (its own log says why): what was saved last is good, so "
    "start the same command again, which resumes there"
)
T = TypeVar("T")


def count() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process speaks, logs, saves and publishes for all."""
    return rank() == 0


def on_this_machine() -> int:
    """Processes of this run that share this machine's memory."""
    return _number("LOCAL_WORLD_SIZE", 1) if dist.is_initialized() else 1


@contextmanager
def group() -> Iterator[None]:
    """Join the other processes for the time of a block, where a launcher's environment names some.

    Only the main process writes to the console. Of processes that fail, the first one speaks, so that a mistake of
    all is said once.

    Raises:
        UserError: the environment is not whole, or another process was lost.
    """
    if _number("WORLD_SIZE", 1) < 2:
        yield
        return
    stop = StopRequest()
    stop.catch()  # what ends this process before its first step, such as a launcher whose other process died, is said
    _start()
    store = dist.distributed_c10d._get_default_store()
    with ExitStack() as quiet:
        quiet.callback(stop.release)
        if not is_main():
            quiet.callback(setattr, CONSOLE, "quiet", CONSOLE.quiet)
            CONSOLE.quiet = True
            quiet.enter_context(redirect_stdout(quiet.enter_context(Path(os.devnull).open("w"))))
        try:
            yield
            dist.barrier()
        except (UserError, Stopped) as error:
            if not _speaks(store):
                raise SystemExit(128 + error.number if isinstance(error, Stopped) else 2) from None
            raise
        except RuntimeError as error:
            if not _is_lost(error):
                raise
            if not _speaks(store):
                raise SystemExit(2) from None
            raise UserError(LOST) from None
    dist.destroy_process_group()


def _start() -> None:
    """Make the process group: gloo on CPUs, and nccl between GPUs, each process with the GPU of its local rank."""
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} and {missing[0]} is not set: start several processes with "
            "torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers gives all but one process empty weights
    backend = "gloo"
    if torch.cuda.is_available():
        local, devices = _number("LOCAL_RANK", 0), torch.cuda.device_count()
        if local >= devices:
            raise UserError(f"process {local} of this machine has no GPU, of which there are {devices}: start as many")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=WAIT)
    except RuntimeError as error:
        raise UserError(
            f"the processes of this run do not reach each other by {os.environ['MASTER_ADDR']} "
            f"port {os.environ['MASTER_PORT']} ({str(error).splitlines()[0][:200]}): start them again, or open the way"
        ) from None


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit():
        raise UserError(f"{name} is {text!r}, which no launcher sets: use torchrun or accelerate launch, or unset it")
    return int(text)


def _speaks(store: Any) -> bool:
    """Whether this process is the first that failed. Where the place to ask is gone, it is taken to be."""
    try:
        return int(store.add(f"failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1)) == 1
    except RuntimeError:
        return True


def _is_lost(error: RuntimeError) -> bool:
    """Whether an exchange failed because another process is gone."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused", "Timed out")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def shares(sizes: Sequence[int]) -> list[list[int]]:
    """Which rows each process takes: places of rows, in order, balanced by their sizes (tokens, say).

    The largest row goes first, each to the process with the least so far. All processes compute the same. Some get
    nothing where there are fewer rows than processes.
    """
    if count() == 1:
        return [list(range(len(sizes)))]
    taken: list[list[int]] = [[] for _ in range(count())]
    loads = [0] * count()
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        least = min(range(count()), key=lambda number: (loads[number], len(taken[number]), number))
        taken[least].append(place)
        loads[least] += sizes[place]
    return [sorted(places) for places in taken]


def own_share(sizes: Sequence[int]) -> list[int]:
    """The places of the rows that this process takes."""
    return shares(sizes)[rank()]


def total(value: float) -> float:
    """The sum over all processes."""
    return value if count() == 1 else float(_reduced([value], dist.ReduceOp.SUM)[0])


def least(value: int) -> int:
    """The smallest of all processes' numbers."""
    return value if count() == 1 else int(_reduced([value], dist.ReduceOp.MIN)[0])


def most(values: Sequence[float]) -> list[float]:
    """The largest of all processes' numbers, place by place."""
    return list(values) if count() == 1 else _reduced(values, dist.ReduceOp.MAX)


def _reduced(values: Sequence[float], operation: Any) -> list[float]:
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, operation)
    numbers: list[float] = tensor.tolist()
    return numbers


def totals(figures: Mapping[str, float], largest: Sequence[str] = ()) -> dict[str, float]:
    """Each figure's sum over all processes; of those named in `largest` the largest. All have the same names."""
    if count() == 1:
        return dict(figures)
    sums = _reduced(list(figures.values()), dist.ReduceOp.SUM)
    maxima = _reduced(list(figures.values()), dist.ReduceOp.MAX)
    pairs = zip(figures, zip(sums, maxima, strict=True), strict=True)
    return {name: high if name in largest else low for name, (low, high) in pairs}


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in buckets of BUCKET numbers."""
    if count() == 1:
        return
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (sum(one.numel() for one in bucket) + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            _add_up_bucket(bucket)
            bucket = []
        bucket.append(tensor)
    if bucket:
        _add_up_bucket(bucket)


def _add_up_bucket(bucket: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
    dist.all_reduce(flat)
    for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(part.view_as(tensor))


def join(own: Mapping[int, T]) -> dict[int, T]:
    """The results of all processes, by the numbers of the rows that they are of."""
    if count() == 1:
        return dict(own)
    return {number: result for part in everyone(dict(own)) for number, result in part.items()}


def everyone(value: T) -> list[T]:
    """What every process has here, in the order of their ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def require_same(value: Any, what: str) -> None:
    """Raise `UserError` where the processes do not have the same value of `what`."""
    values = everyone(value)
    others = [number for number, other in enumerate(values) if other != values[0]]
    if others:
        raise UserError(
            f"{what} differs between the processes ({values[0]} in process 0, {values[others[0]]} in {others[0]}): "
            "give all of them the same command, files, and --home on a disk that all machines share"
        )


def require_close(values: Sequence[float], what: str) -> None:
    """Raise `UserError` where the processes do not have the same numbers, but for the order of sums."""
    highest, lowest = most(values), [-value for value in most([-value for value in values])]
    if any(high - low > 1e-6 * max(1.0, abs(high)) for high, low in zip(highest, lowest, strict=True)):
        raise UserError(f"{what} differ between the processes: give all machines the same files")


def on_main(work: Callable[[], T]) -> T:
    """`work()` in the main process, while the others wait for its result."""
    if count() == 1:
        return work()
    result = [work() if is_main() else None]
    dist.broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go through a block before the others: they find in the cache what it wrote there."""
    if count() > 1 and not is_main():
        dist.barrier()
    yield
    if count() > 1 and is_main():
        dist.barrier()


def barrier() -> None:
    """Wait until every process is here."""
    if count() > 1:
        dist.barrier()
