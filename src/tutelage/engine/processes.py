"""Several processes, one to a device, that share every batch of one run. torchrun starts them, all with one command.

The first of them (rank 0) writes and speaks; the others find on the disk what it wrote.
"""

import atexit
import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.errors import Interrupted, RecipeError

PATIENCE = timedelta(days=7)
"""So long the others wait for the first, which may be filling a store. torchrun itself ends them where one has died."""

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started() -> int:
    """How many processes were started together; 1 where torchrun has started none.

    Example:
        >>> started()
        1
    """
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _NEEDED) else 1


def meet(accelerator: str = "auto") -> None:
    """Join the other processes, where several were started together. To be called before anything is built.

    Raises:
        RecipeError: There are fewer devices than processes on this machine, or others than torchrun started them.
    """
    if started() == 1:
        if world() > 1:
            raise RecipeError(
                f"expected processes that torchrun started, found {world()} that met in another way. Start them with "
                "torchrun, or put the Distiller into your own loop."
            )
        return
    if not dist.is_initialized():
        _join(accelerator)
    wait()


def _join(accelerator: str) -> None:
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    apple = accelerator in ("auto", "gpu", "mps") and not cuda and torch.backends.mps.is_available()
    devices = torch.cuda.device_count() if cuda else 1 if apple else here()
    if devices < here():
        raise RecipeError(
            f"train.accelerator: expected a device for each of the {here()} processes on this machine, found "
            f"{devices}. Start fewer (--nproc-per-node), or take train.accelerator=cpu."
        )
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    atexit.register(_part)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes share every batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def here() -> int:
    """How many of the processes that torchrun started are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"])


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def wait() -> None:
    """Go on when all are here.

    Raises:
        Interrupted: Another process has ended.
    """
    if world() == 1:
        return
    try:
        dist.barrier()
    except RuntimeError as error:
        raise Interrupted(f"another process of this run has ended ({str(error).splitlines()[0]})") from error


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """The first does it, then the others, who find on the disk what it left."""
    if not first():
        wait()
    yield
    if first():
        wait()


def alone(command: str) -> None:
    """Refuse to do several times, side by side, what one process does.

    Raises:
        RecipeError: Several processes were started together.
    """
    if started() > 1:
        raise RecipeError(
            f"{command}: expected one process, found {started()} that were started together. Only distill and train "
            "share their work so: start this one without torchrun."
        )


def launcher() -> str:
    """What stands before a command line that goes on with this run.

    Example:
        >>> launcher()
        'tutelage'
    """
    if world() == 1:
        return "tutelage"
    machines = f"--nnodes {world() // here()} … " if world() > here() else ""
    return f"torchrun {machines}--nproc-per-node {here()} -m tutelage"


def any_of(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is up in any process.

    Example:
        >>> any_of(True, False)
        (True, False)
    """
    if world() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.float32, device=_device())
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in found.tolist())


def of_first(value: float) -> float:
    """The first process's value, in all."""
    if world() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.broadcast(told, 0)
    return float(told)


def total(values: Tensor) -> Tensor:
    """The sum over all processes; in one process the tensor itself."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
