"""The centre: what a step is made of."""

import functools
from collections import Counter

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from tutelage import Distiller, Frozen, Path, losses
from tutelage.connectors import Project
from tutelage.errors import ModelError, RecipeError, TapNotFound, UnknownName
from tutelage.losses import CRD, PAD, dist, dkd, kl, mse, rkd_distance, srrl
from tutelage.losses.batchwise import batchwise
from tutelage.tasks import Classification, Segmentation
from tutelage.teachers.base import Teacher
from tutelage.weighting import Auto, Entropy, Fixed, Learned, Product, Trust, Weighting


class Counted(nn.Module):
    """A small network that counts its forwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.fc, self.calls = nn.Linear(12, width), nn.Linear(width, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.fc(self.body(x.flatten(1)).relu())


def batch(size=5, labelled=True):
    target = torch.arange(size) % 3
    return Classification(3).unpack((torch.rand(size, 3, 2, 2), target if labelled else torch.full((size,), -1)))


def distiller(paths, weighting=None, student=None, **options):
    teachers = {"big": Frozen(Counted(8)), "wide": Frozen(Counted(16))}
    given = {"teachers": teachers, "paths": paths, "task": Classification(3)} | options
    return Distiller(student or Counted(4), weighting=weighting or Fixed(), **given)


def test_the_loss_is_the_weighted_sum_of_the_rows_written_with_loops():
    made = distiller({"logits": Path(kl)}, Fixed({"logits/big": 2.0, "logits/wide": 0.5}))
    given = batch()
    step = made(given)
    total = 0.0
    for b in range(5):
        total += nn.functional.cross_entropy(step.lesson.student[""][b], given.target[b])
        total += 2.0 * kl(step.lesson.student[""], step.lesson.teachers["big"][""])[b]
        total += 0.5 * kl(step.lesson.student[""], step.lesson.teachers["wide"][""])[b]
    assert_close(step.loss, total / 5)
    assert [row.name for row in step.ledger.rows] == ["base", "logits/big", "logits/wide"]


def test_every_model_runs_once_however_many_paths_there_are():
    paths = {f"p{k}": Path(mse, student="body", teacher="body", connector=Project()) for k in range(4)}
    made = distiller(paths | {"logits": Path(kl)}, example=batch())
    models = [made.student, *(teacher.network for teacher in made.teachers.values())]
    before = [model.calls for model in models]
    made(batch())
    assert [model.calls - was for model, was in zip(models, before, strict=True)] == [1, 1, 1]


def test_connectors_are_sized_per_teacher_and_learn_while_teachers_do_not():
    made = distiller({"body": Path(mse, student="body", teacher="body", connector=Project())}, example=batch())
    made(batch()).loss.backward()
    widths = [connector(torch.zeros(2, 4)).shape[1] for connector in made.paths["body"].connectors]
    assert widths == [8, 16]
    assert all(p.grad is not None for p in made.paths["body"].parameters())
    assert all(p.grad is None for teacher in made.teachers.values() for p in teacher.network.parameters())


def test_a_frozen_teacher_is_in_no_checkpoint_no_optimizer_and_always_in_eval():
    made = distiller({"logits": Path(kl)}).train()
    assert not any(name.startswith("teachers") for name in made.state_dict())
    assert {id(p) for p in made.parameters()} == {id(p) for p in made.student.parameters()}
    assert not made.teachers["big"].network.training


def test_a_misspelt_tap_is_refused_at_build_with_the_closest_names():
    with pytest.raises(TapNotFound, match=r"bdoy.*\n?.*body"):
        distiller({"deep": Path(mse, student="bdoy", teacher="body")})


def test_an_unknown_teacher_is_refused_at_build():
    with pytest.raises(UnknownName, match=r"'bgi'.*close: big"):
        distiller({"logits": Path(kl, teachers=["bgi"])})


def test_a_path_may_not_take_the_name_of_a_task_row():
    with pytest.raises(RecipeError, match="'base'"):
        distiller({"base": Path(kl)})


@pytest.mark.parametrize(("teacher", "path"), [("half", "logits"), ("v1.5", "logits"), ("big", "float")])
def test_names_that_pytorch_does_not_take_are_refused(teacher, path):
    with pytest.raises(RecipeError, match=r"(half|v1\.5|float).*another name"):
        distiller({path: Path(kl)}, teachers={teacher: Frozen(Counted(8))})


def test_a_loss_that_does_not_give_one_value_per_sample_is_refused():
    made = distiller({"logits": Path(lambda student, teacher: (student - teacher).square().mean())})
    with pytest.raises(ValueError, match=r"one value per sample, \[5\]; found \[\]"):
        made(batch())


def test_a_row_that_is_switched_off_does_not_reach_the_student_even_where_it_is_not_a_number():
    def broken(student, teacher):
        return (student - teacher).sum(1) + torch.nan

    made = distiller({"logits": Path(kl), "bad": Path(broken)}, Fixed({"bad": 0.0}))
    step = made(batch())
    step.loss.backward()
    assert not torch.isfinite(step.ledger.losses).all()
    assert torch.isfinite(step.loss)
    assert all(torch.isfinite(p.grad).all() for p in made.student.parameters())


class Broken(nn.Linear):
    """Answers to sample 3 with a number that is none."""

    def __init__(self, number: float) -> None:
        super().__init__(12, 3)
        self.number = number

    def forward(self, x):
        answer = super().forward(x.flatten(1)).clone()
        answer[3, 1] = self.number
        return answer


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("loss", [kl, dkd, mse, losses.nkd, losses.one_vs_all, losses.similarity])
@pytest.mark.parametrize("weighting", [Fixed, functools.partial(Fixed, {"logits": 0.0}), Auto])
def test_a_teacher_that_does_not_know_a_number_is_not_heard_about_that_sample(number, loss, weighting):
    teachers = {"good": Frozen(Counted(8)), "bad": Frozen(Broken(number))}
    made = distiller({"logits": Path(loss)}, weighting(), teachers=teachers)
    step = made(batch())
    step.loss.backward()
    assert step.ledger.losses.isfinite().tolist() == [[True] * 5, [True] * 5, [True, True, True, False, True]]
    assert step.weights.expand(3, 5)[2, 3] == 0
    assert all(torch.isfinite(p.grad).all() for p in made.student.parameters())


def test_of_a_loss_that_cannot_be_split_nothing_is_heard_where_a_sample_is_lost():
    made = distiller({"whole": Path(dist)}, Fixed(), teachers={"bad": Frozen(Broken(torch.nan))})
    step = made(batch())
    step.loss.backward()
    assert not step.ledger.losses[1].isfinite().any()
    assert step.weights.expand(2, 5)[1].tolist() == [0.0] * 5
    assert all(torch.isfinite(p.grad).all() for p in made.student.parameters())


def test_a_class_that_a_teacher_rules_out_is_heard():
    made = distiller(
        {"logits": Path(losses.soft_cross_entropy)}, Fixed(), teachers={"sure": Frozen(Broken(-torch.inf))}
    )
    assert made(batch()).ledger.losses.isfinite().all()


def test_unlabelled_samples_are_taught_by_teachers_and_not_by_the_task():
    made = distiller({"logits": Path(kl)})
    step = made(batch(labelled=False))
    assert_close(step.ledger.losses[0], torch.zeros(5))
    assert step.ledger.losses[1].min() > 0


def test_the_base_row_is_the_mean_over_the_labelled():
    task = Classification(3)
    logits = torch.randn(4, 3)
    half = task.unpack((torch.rand(4, 3, 2, 2), torch.tensor([0, -1, 2, -1])))
    expected = nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]))
    assert_close(task.base_loss({"": logits}, half)["base"].mean(), expected)


def test_a_loss_that_remembers_changes_its_memory_only_after_the_step():
    made = distiller({"body": Path(CRD(negatives=4), student="body", teacher="body")}, example=batch(), samples=5)
    memory = {name: value.clone() for name, value in made.paths["body"].state_dict().items() if "memory" in name}
    made(batch())
    now = made.paths["body"].state_dict()
    assert memory
    assert all(torch.equal(now[name], value) for name, value in memory.items())
    made.after_step()
    now = made.paths["body"].state_dict()
    assert not any(torch.equal(now[name], value) for name, value in memory.items())


def test_a_checkpoint_brings_back_student_connectors_memories_and_weights():
    def build():
        paths = {"body": Path(CRD(negatives=4), student="body", teacher="body"), "logits": Path(kl)}
        return distiller(paths, example=batch(), samples=5)

    one, other = build(), build()
    one(batch())
    one.after_step()
    other.load_state_dict(one.state_dict())
    for name, value in other.state_dict().items():
        assert_close(value, one.state_dict()[name], msg=name)


def test_the_student_alone_comes_out_plain():
    made = distiller({"body": Path(mse, student="body", teacher="body", connector=Project())}, example=batch())
    made(batch())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.student.modules())


# Losses that are one number for the whole batch


class BySample(Weighting):
    per_sample = True

    def forward(self, ledger, lesson):
        return torch.rand_like(ledger.losses)


@batchwise
class Whole(nn.Module):
    def forward(self, student, teacher, /):
        return (student.mean() - teacher.mean()).square().expand(len(student))


@pytest.mark.parametrize(
    "loss", [dist, functools.partial(dist, temperature=4.0), Whole()], ids=["function", "options", "module"]
)
def test_a_path_knows_that_its_loss_is_one_number_and_rules_over_samples_refuse_it(loss):
    with pytest.raises(RecipeError, match=r"path 'whole'.*BySample"):
        distiller({"logits": Path(kl), "whole": Path(loss)}, Product(BySample()))
    made = distiller({"logits": Path(kl), "whole": Path(loss)})
    assert made.spec.batchwise == {"whole"}


def test_the_default_weighting_takes_every_kind_of_loss():
    torch.manual_seed(1)
    given = batch(6)
    features = {"student": "body", "teacher": "body"}
    made = distiller(
        {
            "whole": Path(dist),
            "decoupled": Path(dkd),
            "relations": Path(rkd_distance, **features),
            "read": Path(srrl, student="fc:input", teacher="fc:input", connector=Project()),
            "prime": Path(PAD(), connector=Project(), **features),
        },
        Auto(warmup=0),
        example=given,
    )
    step = made(given)
    step.loss.backward()
    assert step.loss.isfinite()
    assert made.student.body.weight.grad.isfinite().all()
    assert made.teachers["big"].network.fc.weight.grad is None
    rows = {row.name: k for k, row in enumerate(step.ledger.rows)}
    whole = step.weights[[rows["whole/big"], rows["whole/wide"]]]
    assert_close(whole, whole[:, :1].expand_as(whole))
    decoupled = step.weights[rows["decoupled/big"]]
    assert decoupled.std() > 0


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_layers_of_paths_move_no_farther_than_the_student(size):
    paths = {"body": Path(mse, student="body", teacher="body", connector=Project())}
    made = distiller(paths, Fixed({"body": size}), example=batch(6))
    made(batch(6)).loss.backward()
    before = [p.grad.clone() for p in made.paths.parameters()]
    student = [p.grad.clone() for p in made.student.parameters()]
    made.before_step()
    norm = torch.nn.utils.get_total_norm
    limit, had = norm(student), norm(before)
    after = [p.grad for p in made.paths.parameters()]
    assert (had > limit) == (size > 1)
    assert_close(norm(after), torch.minimum(limit, had))
    assert_close(after[0] / after[0].norm(), before[0] / before[0].norm())
    assert all(torch.equal(p.grad, g) for p, g in zip(made.student.parameters(), student, strict=True))


def test_layers_of_paths_are_free_where_the_student_has_no_gradient():
    paths = {"body": Path(mse, student="body", teacher="body", connector=Project())}
    made = distiller(paths, Fixed(), example=batch(6))
    for p in made.paths.parameters():
        p.grad = torch.ones_like(p)
    made.before_step()
    assert all(bool((p.grad == 1).all()) for p in made.paths.parameters())


class Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_more_teachers_ask_for_no_more_student_forwards_or_log_softmaxes():
    counts = []
    for teachers in (1, 3, 8):
        student = Counted(4)
        made = Distiller(
            student,
            teachers={f"t{k}": Frozen(Counted(4)) for k in range(teachers)},
            paths={"logits": Path(kl), "body": Path(mse, student="body", teacher="body")},
            task=Classification(3),
        )
        with Operations() as operations:
            made(batch()).loss.backward()
        counts.append((student.calls, operations.seen["_log_softmax"], operations.seen["_log_softmax_backward_data"]))
    assert counts[0][0] == 1
    assert counts[0] == counts[1] == counts[2]


def test_teachers_of_other_shapes_are_heard_one_by_one():
    made = distiller({"body": Path(mse, student="body", teacher="body", connector=Project())}, example=batch())
    step = made(batch())
    for k, name in enumerate(made.teachers, start=1):
        said = step.lesson.teachers[name]["body"]
        assert_close(step.ledger.losses[k], mse(step.lesson.adapted[f"body/{name}"], said))


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_student_is_read_also_after_one_of_its_class_was_compiled_without_taps():
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))

    def one(paths):
        torch.manual_seed(0)
        teachers = {"big": Frozen(net())} if paths else {}
        whole = Distiller(net(), teachers=teachers, paths=paths, task=Classification(3), compile=True)
        return whole.train()(batch())

    one({})
    step = one({"deep": Path(mse, student="1", teacher="1")})
    assert step.lesson.student["1"].shape == (5, 4)


@pytest.mark.parametrize(
    ("task", "asked", "size"),
    [(Classification(3), None, 8.0), (Segmentation(3), None, 0.5), (Classification(3), 2.0, 2.0)],
    ids=["classification", "segmentation", "asked"],
)
def test_the_default_weighting_makes_features_as_large_as_the_task_says(task, asked, size):
    paths = {
        "logits": Path(kl),
        "near": Path(rkd_distance, student="body", teacher="body"),
        "far": Path(kl, student="fc"),
    }
    made = distiller(paths, Auto(feature=asked), task=task)
    assert made.weighting.scales[0].target == {"logits": 4.0, "near": size / 2, "far": size / 2}


@pytest.mark.parametrize("loss", [dkd, functools.partial(dkd, temperature=2.0)])
def test_a_loss_that_goes_by_labels_is_refused_where_there_are_none(loss):
    distiller({"own": Path(loss)})
    with pytest.raises(RecipeError, match=r"path 'own': its loss goes by the labels.*found none"):
        distiller({"own": Path(loss)}, labelled=False)


def test_a_path_may_be_used_again_and_under_two_names():
    path = Path(mse, student="body", teacher="body", connector=Project())
    first = distiller({"deep": path}, example=batch())
    second = distiller({"deep": path, "again": path}, student=Counted(6), example=batch())
    for made, rows in ((first, 3), (second, 5)):
        assert len(made(batch()).ledger.rows) == rows
    own = [connector for paths in (first, second) for path in paths.paths.values() for connector in path.connectors]
    assert len({id(connector) for connector in own}) == len(own) == 6


def test_a_network_is_heard_as_it_is_when_frozen():
    network = Counted(8)
    made = distiller({"logits": Path(kl)}, teachers={"big": network})
    assert isinstance(made.teachers["big"], Frozen)
    assert [p.requires_grad for p in network.parameters()] == [False] * 4
    assert len(list(made.parameters())) == 4


def test_what_a_loader_gives_is_unpacked():
    made, given = distiller({"logits": Path(kl)}), batch()
    assert_close(made((given.inputs, given.target)).loss, made(given).loss)
    assert_close(made({"pixel_values": given.inputs, "labels": given.target}).loss, made(given).loss)


def test_a_model_that_answers_with_a_record_is_refused_and_the_way_out_told():
    class Record(nn.Module):
        def forward(self, x):
            return {"logits": x.flatten(1)[:, :3]}

    with pytest.raises(ModelError, match=r"Record: expected a tensor from the model, found dict.*models\.find"):
        distiller({"logits": Path(kl)}, student=Record())(batch())


def test_layers_of_a_row_that_is_kept_off_learn_from_what_is_a_number():
    class Shut(Weighting):
        def forward(self, ledger, lesson):
            return torch.zeros(len(ledger.rows), 1)

        def kept_off(self):
            return {"deep/bad": 1.0}

    path = Path(mse, connector=nn.Linear(3, 3))
    made = distiller({"deep": path}, Shut(), teachers={"bad": Broken(torch.nan)})
    made(batch()).loss.backward()
    for parameter in made.paths.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("gate", [Trust, Entropy, Learned])
def test_a_gate_alone_hears_no_entry_that_is_not_a_number(gate):
    made = distiller(
        {"logits": Path(kl)}, gate(), teachers={"good": Counted(8), "bad": Broken(torch.nan)}, example=batch()
    )
    step = made(batch())
    step.loss.backward()
    assert step.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_what_a_path_was_given_is_not_copied_unless_it_is_a_module():
    seen = []

    def recorded(student, teacher):
        seen.append(len(student))
        return mse(student, teacher)

    made = distiller({"logits": Path(functools.partial(recorded))}, teachers={"big": Counted(8)})
    made(batch())
    assert seen == [5]


def test_a_teacher_that_no_path_hears_may_say_nothing():
    class Silent(Teacher):
        def forward(self, batch, peers):
            return {}

    made = distiller({"logits": Path(kl, teachers=["big"])}, teachers={"big": Counted(8), "none": Silent()})
    assert made(batch()).loss.isfinite()
