"""Task: all that differs between tasks."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tutelage.data import Splits
from tutelage.errors import DataError, ModelError
from tutelage.ledger import BASE, Batch, Outputs
from tutelage.survey import Site
from tutelage.taps import inner
from tutelage.verdict import Parts

Kept = Mapping[str, Tensor]
"""What is kept of a model's answers to N samples: tensors by name, each ``[N, ...]``, and small."""


class Task(abc.ABC):
    """How to open data, read a batch, run a model on it, what the task's own loss is, and how well a model did.

    The engine, the cache, the verdict and the report ask; a new task answers in one file.

    Attributes:
        name: The task's name in recipes and results.
        metric: Name of the main metric.
        higher_is_better: Whether a larger metric is better.
        base_rows: Names of the rows that `base_loss` writes.
        classes: Names of the classes; empty if there are none.
        reader: Opens a data set: ``reader(source, *, seed, selection, ...) -> Splits``. Its keywords are the options
            that ``data:`` takes in a recipe.
        arguments: Given to every model that is built for this task, such as a scale; a recipe's own win.
        defaults: What holds where a recipe says nothing, as a recipe has it: paths, weighting, ``train``, ``data``.
        any_size: Whether an exported model takes pictures of any height and width.
        parts: What the main metric is, where it is no mean of the samples' scores (see `verdict.judge`).
        in_eval: Whether `base_loss` can be had from a model in eval mode.
        of_class: What ``per_class`` of `describe` holds.
        features: How large the default weighting makes all paths on features together, relative to the task's loss.
        answers: Taps at which a model gives its answer, beside its output ``""``: paths that read them are weighed
            like those on the output.
    """

    name: str
    metric: str
    higher_is_better: bool = True
    base_rows: tuple[str, ...] = (BASE,)
    classes: tuple[str, ...] = ()
    reader: ClassVar[Callable[..., Splits]]
    arguments: Mapping[str, Any] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    any_size: ClassVar[bool] = False
    parts: Parts | None = None
    in_eval: ClassVar[bool] = True
    of_class: str = "accuracy"
    features: float = 0.5
    answers: tuple[str, ...] = ()

    # -- data

    @classmethod
    def recognises(cls, source: Any) -> str | None:
        """What shows that a data set (a path, a name or an object) is for this task, for people; None if nothing."""
        return None

    @classmethod
    def for_data(cls, splits: Splits, **options: Any) -> Self:
        """The task of these data, with a recipe's options."""
        return cls(splits.classes, **{**splits.facts, **options})  # type: ignore[call-arg]

    @abc.abstractmethod
    def unpack(self, raw: Any) -> Batch:
        """A `Batch` from what a loader gives: a mapping with its fields, or ``(inputs, target)``."""

    # -- models

    def call(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run a model on a batch, with the model's own normalisation, size and class order.

        Raises:
            ModelError: The model answers with something else than a tensor.
        """
        preprocess = getattr(inner(model), "preprocess", None)
        output = model(batch.inputs if preprocess is None else preprocess(batch.inputs))
        if not isinstance(output, Tensor):
            raise ModelError(
                f"{type(inner(model)).__name__}: expected a tensor from the model, found {type(output).__name__}. Take "
                "what tutelage.models.find(model) gives, which answers with the logits of a record, or wrap the model."
            )
        return self.finish(output if preprocess is None else preprocess.arrange(output), batch.inputs)

    def finish(self, output: Tensor, inputs: Tensor) -> Tensor:
        """From a model's output to the form the task wants, such as the grid of the inputs; part of exported graphs."""
        return output

    @abc.abstractmethod
    def fits(self, output: Any, inputs: Tensor, columns: int | None) -> str | None:
        """What a model should have answered to these pictures, in words; None where its output is right.

        Args:
            output: The model's own, for any number of pictures.
            inputs: The pictures, ``[B, C, H, W]``.
            columns: How many classes or channels it should have; None for any number.
        """

    @abc.abstractmethod
    def base_loss(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        """The task's own losses, ``{row: [B]}``; 0 where a sample is not labelled."""

    def doubt(self, output: Tensor, batch: Batch) -> Tensor | None:
        """How little an output fits a truth that is no class, in nats up to a constant, ``[B]``.

        For weightings that compare teachers, which leave out samples that are not labelled. None, the default, where
        the task has no such measure. Classes need none: there it is the cross-entropy with the label.
        """
        return None

    def entry(self, model: nn.Module) -> nn.Module:
        """The module that is given the picture as the network sees it: strides are counted from there."""
        return model

    def head(self, model: nn.Module) -> nn.Module | None:
        """The part of a model that losses may hand the student's features on to; None: its linear classifier."""
        return None

    def exported(self, model: nn.Module) -> nn.Module:
        """The form of a model that is exported: one tensor from any number of pictures.

        Raises:
            ModelError: It has none.
        """
        return model

    # -- paths

    def usual_paths(self, models: Mapping[str, nn.Module]) -> list[str]:
        """Short names of the paths where nobody chose any, for ``"student"`` and the teachers by name."""
        return ["logits", "attention"]

    def wires(
        self, short: str, models: Mapping[str, nn.Module], sites: Mapping[str, Mapping[str, Site]]
    ) -> Mapping[str, Mapping[str, Any]] | None:
        """What a short name, or a loss that is named alone, means for these models, where that is special to the task.

        Args:
            short: The name.
            models: ``"student"`` and the teachers by name.
            sites: Where each of them can be read.

        Returns:
            Paths by name, as they would stand in a recipe; empty where nothing pairs; None where it means the usual.
        """
        return None

    # -- how good

    @abc.abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Predictions from a model's output, ``[B, ...]``: for classes, probabilities ``[B, C]``."""

    @abc.abstractmethod
    def metrics(self) -> Mapping[str, Any]:
        """Fresh torchmetrics by name, fed with ``(prediction, target)``; the main one first."""

    @abc.abstractmethod
    def keep(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What is kept of the predictions of labelled samples: all that the methods below need, and no more."""

    def keep_beside(self, prediction: Tensor, target: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """The same for a task that also compares with the inputs; by default it does not."""
        return self.keep(prediction, target)

    @abc.abstractmethod
    def score(self, kept: Kept) -> Tensor:
        """How good each answer is, ``[N]``, its mean the main metric; or what `parts` needs of it, ``[N, ...]``."""

    def groups(self, kept: Kept) -> Tensor | None:
        """Number of each sample's class, ``[N]``, for the verdict of a single seed; None if it has none."""
        return None

    def suspect(self, name: str, kept: Kept) -> str | None:
        """What is wrong with a teacher of this name, judged by its answers to the selection split; None if nothing."""
        return None

    def softness(self, kept: Kept) -> Mapping[float, float]:
        """Of a teacher's answers at several temperatures; empty where there is nothing to soften."""
        return {}

    # -- for the report

    def describe(self, kept: Kept, student: Kept | None = None) -> dict[str, Any]:
        """Figures of one model beside its metrics, as JSON: ``per_class``, ``confusion``, ``agreement`` …

        Args:
            kept: Of its answers.
            student: Of the student's answers to the same samples.
        """
        return {}

    def compact(self, model: str, kept: Kept) -> dict[str, Tensor]:
        """What is stored of a model's answers, by names such as ``MODEL/prediction``."""
        return {}

    def distance(self, student: Kept, teachers: list[Kept]) -> Tensor | None:
        """How far the student is from its teachers on each sample, ``[N]``: the farthest are shown."""
        return None

    def panels(self, pictures: Tensor, said: Mapping[str, Kept]) -> Mapping[str, Tensor]:
        """Pictures of the truth and of what each model says, uint8 ``[n, 3, h, w]``, by what they show.

        Args:
            pictures: The samples that are shown, uint8 ``[n, C, H, W]``.
            said: Of each model's answers to them, by model, the student first.
        """
        return {}

    def colours(self) -> list[str]:
        """The colour of each class in `panels`, as ``#rrggbb``; empty where colours tell no classes."""
        return []

    def captions(self, said: Mapping[str, Kept]) -> Mapping[str, Tensor]:
        """The main metric under a panel, ``[n]`` each, by what the panel shows."""
        return {}

    def agree(self, found: Tensor, expected: Tensor) -> float:
        """Share in which the output of an exported file comes to the same as the model's, in [0, 1]."""
        return float((found.argmax(1) == expected.argmax(1)).double().mean())


def finite(name: str, values: Tensor) -> str | None:
    """A message where some of a teacher's answers ``[N, ...]`` are no numbers."""
    broken = int((~values.isfinite().flatten(1).all(dim=1)).sum())
    if not broken:
        return None
    return (
        f"teacher {name!r}: expected finite answers, found NaN or infinity for {broken} of {len(values)} "
        "pictures of the selection split. Check its weights and its normalisation."
    )


_THEIRS = {"pixel_values": "inputs", "labels": "target"}


def read(raw: Any) -> dict[str, Any]:
    """The fields of a `Batch` from what a loader gives; pictures stored as uint8 become floats in [0, 1].

    The fields may have the names they have in `transformers`: ``pixel_values`` and ``labels``. Without an index,
    samples are numbered within the batch, which no loss or cache that remembers samples can use. Whatever else it holds
    goes into `Batch.extras`.

    Raises:
        DataError: It is neither a pair nor a mapping with inputs and target.
    """
    if not isinstance(raw, Mapping):
        if not isinstance(raw, (tuple, list)) or len(raw) < 2:
            raise DataError(f"expected a batch (inputs, target), found {type(raw).__name__}.")
        raw = {"inputs": raw[0], "target": raw[1], **({"index": raw[2]} if len(raw) > 2 else {})}
    raw = {_THEIRS.get(name, name): column for name, column in raw.items()}
    if not {"inputs", "target"} <= set(raw):
        raise DataError(f"expected a batch with 'inputs' and 'target', found {', '.join(map(repr, raw)) or 'none'}.")
    inputs, target = raw["inputs"], raw["target"]
    if inputs.dtype == torch.uint8:
        inputs = inputs.float().div_(255)
    index = raw.get("index", torch.arange(len(target), device=target.device))
    view = raw.get("view", torch.zeros_like(index))
    known = torch.ones(len(target), dtype=torch.bool, device=target.device)
    labelled = raw.get("labelled", target >= 0 if target.ndim == 1 else known)
    fields = {"inputs": inputs, "target": target, "index": index, "view": view, "labelled": labelled}
    return {**fields, "extras": {name: column for name, column in raw.items() if name not in fields}}
