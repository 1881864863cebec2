"""What can be tapped: every place of a model that gives a tensor, with its shape, stride and grid."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from .taps import INPUT, MAP, POOLED, RMS, RUN, classifier, evaluating, first_tensor, inner, module_name, pooled


@dataclass(frozen=True)
class Site:
    """One place where a model can be tapped, and what one sample looks like there.

    Args:
        name: The tap.
        shape: Shape of one sample, without the batch.
        kind: ``"map"`` ``[C, H, W]``, ``"tokens"`` ``[T, D]``, ``"vector"`` ``[D]``, else ``"other"``
            (attention weights, windows, tokens of a picture that form no grid).
        stride: Side of the input over side of the grid; None without a grid.
        depth: Share of the innermost modules that had finished, in (0, 1].
        grid: Rows and columns; None where there is no grid.
        prefix: Tokens before those of the grid (class and register tokens).
        runs: The same of each run, where a module runs several times in one forward and gives several shapes.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["map", "tokens", "vector", "other"]
    stride: float | None
    depth: float
    grid: tuple[int, int] | None
    prefix: int = 0
    runs: tuple["Site", ...] = ()

    @property
    def width(self) -> int:
        """Number of channels, features or dimensions of a token."""
        return self.shape[0 if self.kind == "map" else -1]


def site_of(sites: Mapping[str, Site], tap: str) -> Site | None:
    """The site of a tap, also of one that names a run or asks for the root mean square; None where there is none.

    Example:
        >>> runs = tuple(Site(f"head:{n}", (8, side, side), "map", None, 1.0, None) for n, side in enumerate((4, 2)))
        >>> sites = {"head": Site("head", (8, 2, 2), "map", None, 1.0, None, runs=runs)}
        >>> [site_of(sites, tap).shape for tap in ("head", "head:0")], site_of(sites, "tail")
        ([(8, 2, 2), (8, 4, 4)], None)
        >>> site_of(sites, "head:rms").shape
        (1, 2, 2)
    """
    if tap.endswith(RMS):
        site = site_of(sites, tap.removesuffix(RMS))
        if site is None or site.kind not in ("map", "tokens"):
            return None
        shape = (1, *site.shape[1:]) if site.kind == "map" else (*site.shape[:1], 1)
        return dataclasses.replace(site, name=tap, shape=shape)
    run, site = RUN.search(tap), sites.get(RUN.sub("", tap))
    if run is None or site is None or not site.runs:
        return site
    return site.runs[int(run[1])] if int(run[1]) < len(site.runs) else None


def survey(model: nn.Module, run: Callable[[], Any], *, entry: nn.Module | None = None) -> dict[str, Site]:
    """Every place of a model that gives a tensor, from one forward in eval mode and without gradient.

    Args:
        model: Any module; it is left in the modes it was found in.
        run: Calls the model, once.
        entry: The module whose input is the picture, where that is not the model: strides are counted from there.

    Returns:
        Tap name -> `Site`, in the order in which the modules finished (a module that ran several times: its
        last run). Among them is the vector in front of the `classifier`, as ``"fc:input"`` or
        ``"fc:pooled"``. Maps that keep channels last are told, and named, as ``"layers.3:map"``.

    Example:
        >>> layers = nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        >>> model = nn.Sequential(*layers)
        >>> sites = survey(model, lambda: model(torch.zeros(2, 3, 32, 32)))
        >>> [(site.name, site.kind, site.stride) for site in sites.values()]  # doctest: +NORMALIZE_WHITESPACE
        [('0', 'map', 2.0), ('1', 'map', 32.0), ('2', 'vector', None), ('3:input', 'vector', None),
         ('3', 'vector', None)]
    """
    model = inner(model)
    seen: dict[str, tuple[tuple[int, ...], int]] = {}
    runs: dict[str, list[tuple[int, ...]]] = {}
    given: list[tuple[int, ...]] = []
    finished = 0

    def note(name: str, value: Any, *, leaf: bool = False) -> None:
        nonlocal finished
        finished += leaf
        tensor = first_tensor(value)
        if tensor is not None and tensor.ndim > 0:
            seen.pop(name, None)
            seen[name] = tuple(tensor.shape), finished
            runs.setdefault(name, []).append(tuple(tensor.shape))

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        leaf = next(module.children(), None) is None
        return module.register_forward_hook(lambda module, args, output: note(name, output, leaf=leaf))

    def receive(module: nn.Module, args: Any, kwargs: Any) -> None:
        tensor = first_tensor((args, kwargs))
        given.append(() if tensor is None else tuple(tensor.shape))

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        tensor = first_tensor((args, kwargs))
        if tensor is not None and tensor.ndim > 1:
            note(f"{last}{INPUT if tensor.ndim == 2 else POOLED}", pooled(module, tensor))

    handles = [watch(name, module) for name, module in model.named_modules() if name]
    handles.append((entry or model).register_forward_pre_hook(receive, with_kwargs=True))
    if last := classifier(model):
        handles.append(model.get_submodule(last).register_forward_pre_hook(before, with_kwargs=True))
    try:
        with evaluating(model), torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    prefix = getattr(model, "num_prefix_tokens", None)
    kinds = {name: type(model.get_submodule(module_name(name))) for name in seen}
    look = _Look(given[-1] if given else (), prefix if isinstance(prefix, int) else None)
    for name, (shape, _) in seen.items():
        look.learn(kinds[name], shape)
    sites = {}
    for name, (shape, at) in seen.items():
        look_at = functools.partial(look, kind=kinds[name], depth=at / max(finished, 1))
        differ = len(set(runs[name])) > 1 and name == module_name(name)
        each = tuple(look_at(f"{name}:{n}", shape=run) for n, run in enumerate(runs[name])) if differ else ()
        site = look_at(name, shape=shape)
        sites[site.name] = dataclasses.replace(site, runs=each)
    return sites


class _Look:
    """Tells what a shape means, given the shape of the picture the model got.

    Where channels could be first or last (a square with as many channels as rows), they are where other
    modules of the same class have them, else where they were in the map before.
    """

    PREFIXES = (0, 1, 2, 4, 5, 8, 9)
    """Class, distillation and register tokens, as models have them."""

    def __init__(self, given: tuple[int, ...], prefix: int | None) -> None:
        self.batch = given[0] if given else None
        self.size = given[2:] if len(given) == 4 else None
        self.prefixes = self.PREFIXES if prefix is None else (prefix, *self.PREFIXES)
        self.suffixes: dict[type, str] = {}
        self.last_suffix = ""

    def learn(self, kind: type, shape: tuple[int, ...]) -> None:
        """Remember where this class of modules has its channels, if this shape leaves no doubt."""
        grids = self._grids(shape)
        if len(grids) == 1:
            self.suffixes.setdefault(kind, next(iter(grids)))

    def __call__(self, name: str, kind: type, shape: tuple[int, ...], depth: float) -> Site:
        sample = shape[1:]
        if self.batch is not None and shape[0] != self.batch:
            return Site(name, sample, "other", None, depth, None)
        if len(sample) == 1:
            return Site(name, sample, "vector", None, depth, None)
        if len(sample) == 2:
            return self._tokens(name, sample, depth)
        grids = self._grids(shape)
        if not grids or self.size is None:
            return Site(name, sample, "other", None, depth, None)
        likely = (self.suffixes.get(kind), self.last_suffix, *grids)
        suffix = next(known for known in likely if known in grids)
        self.last_suffix, grid = suffix, grids[suffix]
        sample = (sample[2], *grid) if suffix else sample
        return Site(name + suffix, sample, "map", self.size[0] / grid[0], depth, grid)

    def _grids(self, shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
        """The grids a shape could hold, by what has to be added to the tap to get at them."""
        sides = {"": shape[2:], MAP: shape[1:3]} if len(shape) == 4 else {}
        return {suffix: (grid[0], grid[1]) for suffix, grid in sides.items() if self._fits(*grid)}

    def _fits(self, rows: int, columns: int) -> bool:
        """Whether a picture shrinks to this grid by about the same factor on both sides."""
        if self.size is None or min(rows, columns) < 1 or max(rows, columns) > max(self.size):
            return False
        high, wide = self.size
        return abs(rows - columns * high / wide) < 1 and abs(columns - rows * wide / high) < 1

    def _tokens(self, name: str, sample: tuple[int, ...], depth: float) -> Site:
        for prefix in self.prefixes if self.size else ():
            grid = self._grid(sample[0] - prefix)
            if grid and self.size:
                return Site(name, sample, "tokens", self.size[0] / grid[0], depth, grid, prefix)
        return Site(name, sample, "other" if self.size else "tokens", None, depth, None)

    def _grid(self, tokens: int) -> tuple[int, int] | None:
        """The grid of the picture's proportions with so many cells, if there is one."""
        if self.size is None or tokens < 2:
            return None
        rows = round((tokens * self.size[0] / self.size[1]) ** 0.5)
        if rows < 1 or tokens % rows:
            return None
        grid = rows, tokens // rows
        return grid if grid[0] * self.size[1] == grid[1] * self.size[0] else None
