"""Guard: rows that pull against the task on held-out samples are shut, and opened again."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tutelage import Distiller, Frozen, Path
from tutelage.errors import InputError, RecipeError
from tutelage.ledger import Ledger, Lesson, Row, Spec
from tutelage.losses import kl, mse
from tutelage.tasks import Classification
from tutelage.weighting import Auto, Fixed, Guard, Product

ROWS = (Row("base"), Row("logits", "good"), Row("logits", "bad"), Row("useless", "good"))
SPEC = Spec(call=None, taps={}, reads={"logits": "", "useless": "deep"}, responses=frozenset({"logits"}), held_out=True)


def bound(**options):
    gate = Guard(every=1, **options)
    gate.bind(ROWS, SPEC)
    return gate


def look(gate, *, good=1.0, bad=-1.0, seed=0, scale=1.0):
    """One look: a task loss, rows that pull along it and against it, and one that pulls somewhere at random."""
    generator = torch.Generator().manual_seed(seed)
    deep = torch.randn(64, 16, generator=generator, requires_grad=True)
    out = 2 * deep
    aim = torch.randn(64, 16, generator=generator)
    noise = torch.randn(64, 16, generator=generator)
    task = (out * aim).sum(dim=1)
    rows = [
        task,
        good * task + (out * noise).sum(dim=1),
        scale * (bad * task + (out * noise).sum(dim=1)),
        (deep * noise).sum(dim=1),
    ]
    gate.step += 1
    gate.hears(Ledger(ROWS, torch.stack(rows), tuple(rows)), Lesson(None, {"": out, "deep": deep}, {}, {}))


def test_alignment_and_pull_are_those_of_the_gradients_where_the_row_reads():
    gate = bound()
    out = torch.randn(5, 3, requires_grad=True)
    deep = torch.randn(5, 4, requires_grad=True)
    joined = out + deep[:, :3]
    task, good, bad = joined.square().sum(1), (joined - 1).abs().sum(1), -(joined**3).sum(1)
    rows = [task, good, bad, deep.exp().sum(1)]
    found, pull = gate.compare(
        Ledger(ROWS, torch.stack(rows), tuple(rows)), Lesson(None, {"": joined, "deep": deep}, {}, {})
    )
    first, where = 2 * joined, torch.cat([2 * joined, torch.zeros(5, 1)], dim=1)
    expected = [
        torch.cosine_similarity(first.flatten(), (joined - 1).sign().flatten(), dim=0),
        torch.cosine_similarity(first.flatten(), -3 * joined.square().flatten(), dim=0),
        torch.cosine_similarity(where.flatten(), deep.exp().flatten(), dim=0),
    ]
    assert found[0].isnan()
    torch.testing.assert_close(found[1:], torch.stack(expected).detach())
    assert pull[0].isnan()
    assert float(pull[2]) == pytest.approx(((3 * joined.square()).norm() / first.norm()).item())
    assert float(pull[3]) == pytest.approx((deep.exp().norm() / where.norm()).item())


def test_a_row_against_the_task_is_shut_and_named_and_others_stay_open():
    gate = bound()
    for seed in range(4):
        look(gate, seed=seed)
    assert gate.shut.tolist() == [False, False, True, False]
    assert gate.news()[0].startswith("logits/bad shut at step 3: alignment with the task on held-out samples -0.")
    assert gate(Ledger(ROWS, torch.ones(4, 2)), Lesson(None, {}, {}, {})).flatten().tolist() == [1, 1, 0, 1]


def test_a_row_that_helps_again_is_opened_again():
    gate = bound(memory=4)
    for seed in range(4):
        look(gate, seed=seed)
    assert gate.shut[2]
    for seed in range(4, 20):
        look(gate, bad=1.0, seed=seed)
    assert not gate.shut[2]
    told = [note.split(" at ")[0] for note in gate.news()]
    assert [note for note in told if "bad" in note] == ["logits/bad shut", "logits/bad opened again"]


def test_what_was_seen_long_ago_is_forgotten():
    gate = bound(memory=4)
    for seed in range(4):
        look(gate, seed=seed)
    for seed in range(4, 8):
        look(gate, bad=1.0, seed=seed)
    assert not gate.shut[2]


def test_one_bad_look_is_not_enough():
    gate = bound()
    look(gate)
    look(gate, seed=1)
    assert not gate.shut.any()


def test_a_loss_that_is_not_finite_or_has_no_gradient_is_no_look():
    gate = bound()
    out = torch.randn(4, 3, requires_grad=True)
    task = out.square().sum(1)
    rows = [task, task * torch.nan, torch.zeros(4), task]
    gate.hears(Ledger(ROWS, torch.stack(rows), tuple(rows)), Lesson(None, {"": out}, {}, {}))
    assert not gate.looks.isfinite().any()
    assert not gate.shut.any()


def test_the_size_of_a_row_does_not_count():
    small, large = bound(), bound()
    for seed in range(4):
        look(small, bad=-1.0, seed=seed)
        look(large, bad=-1.0, seed=seed, scale=1000.0)
    assert small.shut[2]
    torch.testing.assert_close(small.looks, large.looks)


@pytest.mark.parametrize(
    ("responses", "asked"),
    [(SPEC.responses, [1, 2, None, 4, 5, *[None] * 4, 10]), (frozenset(), [*[None] * 4, 5, *[None] * 4, 10])],
)
def test_it_asks_often_at_first_where_answers_are_read_and_then_every_few_steps(responses, asked):
    gate = Guard(every=5)
    gate.bind(ROWS, replace(SPEC, responses=responses))
    found = []
    for _ in asked:
        gate.after_step()
        found.append(gate.asks())
    assert found == asked


def test_early_looks_count_for_answers_alone():
    gate = Guard(every=5)
    gate.bind(ROWS, replace(SPEC, responses=frozenset()))
    answers = Guard(every=5)
    answers.bind(ROWS, SPEC)
    for step in (1, 2, 4):
        for guard in (gate, answers):
            guard.step = step - 1
            look(guard, seed=step)
    assert answers.shut.tolist() == [False, False, True, False]
    assert not gate.shut.any()
    for step in (5, 10, 15):
        gate.step = step - 1
        look(gate, seed=step)
        assert bool(gate.shut[2]) == (step == 15)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"memory": 2}, {"doubt": -1.0}, {"margin": -0.1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="Guard: expected"):
        Guard(**wrong)


@pytest.mark.parametrize(("known", "words"), [({"held_out": False}, "held out"), ({"labelled": False}, "labels")])
def test_without_held_out_samples_or_labels_it_is_refused(known, words):
    with pytest.raises(RecipeError, match=words):
        Guard().bind(ROWS, Spec(call=None, taps={}, **{"held_out": True, **known}))


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def distiller(student=None, **options):
    torch.manual_seed(0)
    whole = {"teachers": {"big": Frozen(net())}, "paths": {"logits": Path(kl)}, "task": Classification(3)}
    return Distiller(student or net(), **whole | options)


def looked(times, student, big, paths):
    """A distiller after so many looks, and its guard."""
    weighting = Product(Fixed(), [Guard(every=1)])
    whole = distiller(student, teachers={"big": Frozen(big)}, paths=paths, weighting=weighting, held_out=held_out)
    for _ in range(times):
        whole.after_step()
    return whole, whole.weighting.gates[0]


def held_out(number):
    generator = torch.Generator().manual_seed(number)
    batch = torch.rand(8, 3, 2, 2, generator=generator), torch.randint(3, (8,), generator=generator)
    return Classification(3).unpack(batch)


def test_a_look_leaves_the_student_as_it_was():
    whole = distiller(weighting=Product(Fixed(), [Guard(every=1)]), held_out=held_out)
    whole.train()
    whole(held_out(7)).loss.backward()
    before = {name: value.clone() for name, value in whole.student.state_dict().items()}
    gradients = [p.grad.clone() for p in whole.student.parameters()]
    whole.after_step()
    assert all(torch.equal(value, before[name]) for name, value in whole.student.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(whole.student.parameters(), gradients, strict=True))
    assert whole.student.training
    assert not whole.teachers["big"].training
    assert whole.weighting.gates[0].looks.isfinite().sum(dim=0).tolist() == [0, 1]


class Copied(nn.Module):
    """A network whose channels come last after `body`, and whose classifier is a convolution."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1)
        self.turn = nn.Identity()

    def forward(self, pictures):
        turned = self.turn(self.body(pictures).permute(0, 2, 3, 1))
        return self.head(turned.permute(0, 3, 1, 2)).mean(dim=(2, 3))


class Against(nn.Module):
    """The task's own loss with its sign flipped, as far as the maps and vectors of one tap tell it."""

    def __init__(self, head):
        super().__init__()
        self.__dict__["head"] = head

    def forward(self, student, teacher, *, target):
        student = student[..., None, None] if student.ndim == 2 else student
        return -nn.functional.cross_entropy(self.head(student).mean(dim=(2, 3)), target, reduction="none")


@pytest.mark.parametrize("tap", ["body", "turn:map", "head:pooled"])
def test_a_row_that_reads_a_copy_is_held_against_the_task_as_well(tap):
    student = Copied()
    _, gate = looked(6, student, Copied(), {"flipped": Path(Against(student.head), student=tap, teacher=tap)})
    assert gate.looks[-1, 1] == pytest.approx(-1, abs=1e-4)
    assert gate.shut.tolist() == [False, True]


def test_layers_of_the_student_that_are_frozen_are_not_looked_at():
    student = net()
    student[1].requires_grad_(False)
    _, gate = looked(3, student, net(), {"logits": Path(kl), "frozen": Path(mse, student="1", teacher="1")})
    assert gate.looks[-1].isfinite().tolist() == [False, True, False]


def test_the_pull_of_a_row_that_reads_a_root_mean_square_is_seen_where_it_arrives():
    size = Path(lambda s, t: -s.flatten(1).mean(dim=1), student="body:rms", teacher="body:rms")
    whole, gate = looked(2, Copied(), Copied(), {"size": size})
    ledger, lesson = whole.look(held_out(2))
    own = torch.autograd.grad(ledger.row(1).mean(), lesson.student["body"], retain_graph=True)[0]
    task = torch.autograd.grad(ledger.row(0).mean(), lesson.student["body"])[0]
    assert gate.looks[-1].isfinite().tolist() == [False, True]
    torch.testing.assert_close(gate.aligned[1], torch.cosine_similarity(own.flatten(), task.flatten(), dim=0))
    torch.testing.assert_close(gate.pull[1], own.norm() / task.norm())


def test_the_default_guards_where_samples_are_held_out_and_only_there():
    assert any(isinstance(gate, Guard) for gate in distiller(held_out=held_out).weighting.gates)
    assert not any(isinstance(gate, Guard) for gate in distiller().weighting.gates)
    off = distiller(weighting=Auto(guard=False), held_out=held_out)
    assert not any(isinstance(gate, Guard) for gate in off.weighting.gates)


def test_what_it_knows_is_in_the_checkpoint():
    first, second = bound(), bound()
    for seed in range(4):
        look(first, seed=seed)
    second.load_state_dict(first.state_dict())
    assert second.shut.tolist() == first.shut.tolist()
    assert second.step == first.step


def test_under_auto_what_a_shut_path_had_goes_to_the_others_of_its_kind_until_it_is_opened():
    rows = (Row("base"), Row("kept", "big"), Row("flipped", "big"), Row("deep", "big"))
    reads = {"kept": "", "flipped": "", "deep": "deep"}
    rule = Auto(warmup=0)
    rule.bind(rows, Spec(call=None, taps={}, reads=reads, responses={"kept", "flipped"}, held_out=True))
    guard = next(gate for gate in rule.gates if isinstance(gate, Guard))
    lesson = Lesson(Classification(4).unpack((torch.rand(6, 2), torch.zeros(6).long())), {}, {"big": {}}, {})
    plain = rule(Ledger(rows, torch.ones(4, 6)), lesson)

    def look(sign):
        for step in (1, 2, 4):
            guard.step = step
            said = {"": torch.randn(6, 4, requires_grad=True), "deep": torch.randn(6, 3, requires_grad=True)}
            task, deep = said[""].square().sum(1), said["deep"].square().sum(1)
            losses = torch.stack([task + deep, task, sign * task, deep])
            rule.hears(Ledger(rows, losses), Lesson(lesson.batch, said, {}, {}))
        return rule(Ledger(rows, torch.ones(4, 6)), lesson) / plain

    assert look(-1.0)[:, 0].tolist() == [1.0, 2.0, 0.0, 1.0]
    again = Auto(warmup=0)
    again.bind(rows, Spec(call=None, taps={}, reads=reads, responses={"kept", "flipped"}, held_out=True))
    again.load_state_dict(rule.state_dict())
    assert again.regained.tolist() == [1.0, 2.0, 1.0, 1.0]
    for _ in range(4):
        opened = look(1.0)
    assert opened[:, 0].tolist() == [1.0, 1.0, 1.0, 1.0]


FEATURES = (Row("base"), Row("logits", "big"), Row("deep", "big"), Row("deep", "wide"), Row("wide", "big"))


def held(pulls, *, answers=0.0, cosine=0.0, looks=1, **options):
    """`Auto` after looks at rows that pull so hard at their taps, as they are weighed, and its news."""
    reads = {"logits": "", "deep": "deep", "wide": "wide"}
    rule = Auto(warmup=0, share="whole", **options)
    rule.bind(FEATURES, Spec(call=None, taps={}, reads=reads, responses=frozenset({"logits"}), held_out=True))
    ledger = Ledger(FEATURES, torch.ones(5, 6))
    lesson = Lesson(Classification(4).unpack((torch.rand(6, 2), torch.zeros(6).long())), {}, {}, {})
    free = rule(ledger, lesson).mean(dim=1)
    guard = rule.gates[-1]
    cosines = torch.tensor([torch.nan, 1.0, *[cosine] * 3])
    guard.compare = lambda *_: (cosines, torch.tensor([torch.nan, answers, *pulls]) / free)
    for _ in range(looks):
        guard.step += guard.every
        rule.hears(ledger, lesson)
    weights = rule(ledger, lesson).mean(dim=1)
    return (weights / free).tolist(), rule


def test_under_auto_features_that_pull_too_hard_across_the_task_are_held_together_and_answers_are_not():
    assert held([1.0, 1.0, 1.0])[0] == [1.0] * 5
    # Teachers of one path are added, paths are at right angles: (3 + 3, 8) is 10 where 3 are allowed.
    factors, rule = held([3.0, 3.0, 8.0], answers=0.0)
    assert factors == pytest.approx([1.0, 1.0, 0.3, 0.3, 0.3])
    (told,) = rule.news()
    assert told == (
        "paths on features are held to 0.30 of their size since step 25: they pulled 10 times as hard as the task, "
        "across its direction"
    )
    assert rule.news() == []


def test_under_auto_answers_lend_features_their_reach_and_what_pulls_along_the_task_is_free():
    assert held([3.0, 3.0, 8.0], answers=1.0)[0][2:] == pytest.approx([0.6] * 3)
    assert held([3.0, 3.0, 8.0], cosine=1.0)[0] == [1.0] * 5
    assert held([3.0, 3.0, 8.0], cosine=0.8)[0][2:] == pytest.approx([0.5] * 3)
    assert held([3.0, 3.0, 8.0], reach=100.0)[0] == [1.0] * 5
    with pytest.raises(InputError, match="expected reach above 0, found 0"):
        Auto(reach=0)


def test_under_auto_one_outlier_among_the_looks_does_not_hold_features_for_good():
    _, rule = held([1.0, 1.0, 1.0])
    guard = rule.gates[-1]
    lesson = Lesson(Classification(4).unpack((torch.rand(6, 2), torch.zeros(6).long())), {}, {}, {})
    usual, seen = guard.compare, []
    for size in (1e13, 1.0, 1.0, 1.0, 1.0):
        guard.compare = lambda *given, size=size: (usual()[0], size * usual()[1])
        guard.step += guard.every
        rule.hears(Ledger(FEATURES, torch.ones(5, 6)), lesson)
        seen.append(float(rule.held.min()))
    assert 0.1 < seen[0] < 0.5
    assert seen[-1] == 1.0


def test_under_auto_how_far_features_are_held_is_in_the_checkpoint_and_told_once():
    _, rule = held([3.0, 3.0, 8.0], looks=3)
    assert len(rule.news()) == 1
    again = Auto(warmup=0, share="whole")
    spec = Spec(call=None, taps={}, reads={}, responses=frozenset({"logits"}), held_out=True)
    again.bind(FEATURES, spec)
    again.load_state_dict(rule.state_dict())
    assert again.held.tolist() == pytest.approx([1.0, 1.0, 0.3, 0.3, 0.3])
    again.bind(FEATURES, spec)
    assert again.held.tolist() == [1.0] * 5


def test_an_alignment_close_to_0_is_no_harm_however_sure_it_is():
    wary, calm = bound(margin=0.0), bound()
    for _ in range(4):
        for gate in (wary, calm):
            deep = torch.ones(4, 3, requires_grad=True)
            task = deep[:, 0]
            rows = [task, task, deep[:, 1] - 0.04 * task, task]
            ledger = Ledger(ROWS, torch.stack(rows), tuple(rows))
            gate.hears(ledger, Lesson(None, {"": deep}, {}, {}))
    assert wary.shut.tolist() == [False, False, True, False]
    assert not calm.shut.any()


def test_what_a_shut_row_learns_of_its_own_goes_on_without_the_student():
    whole = distiller(
        weighting=Product(Fixed(), [Guard(every=1)]),
        held_out=held_out,
        paths={"deep": Path(mse, student="1", teacher="1", connector=nn.Linear(8, 8, bias=False))},
    )
    guard = whole.weighting.gates[0]
    guard.load_state_dict(guard.state_dict() | {"shut": torch.tensor([False, True]), "size": torch.tensor([0.0, 0.5])})
    connector = whole.paths["deep"].connectors[0]

    def gradients():
        whole.zero_grad()
        step = whole(held_out(7))
        step.loss.backward()
        return step, [p.grad.clone() for p in whole.student.parameters()], connector.weight.grad

    step, shut, own = gradients()
    assert step.weights[1].eq(0).all()
    assert own.abs().sum() > 0
    size = step.ledger.row(1).mean().detach().clamp(min=0.5)
    guard.load_state_dict(guard.state_dict() | {"shut": torch.tensor([False, False])})
    _, heard, whole_own = gradients()
    torch.testing.assert_close(own, whole_own / size)
    whole.weighting = Fixed({"deep": 0.0})
    whole.weighting.bind(whole.rows, whole.spec)
    _, alone, _ = gradients()
    assert all(torch.equal(a, b) for a, b in zip(shut, alone, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(heard, alone, strict=True))


def test_a_shut_row_without_layers_of_its_own_is_silent_even_where_it_is_not_finite():
    def broken(student, teacher):
        return ((student - student).sqrt() + student / 0).sum(dim=1)

    guards = Product(Fixed(), [Guard(every=1)])
    whole = distiller(weighting=guards, held_out=held_out, paths={"logits": Path(kl), "broken": Path(broken)})
    guard = whole.weighting.gates[0]
    guard.load_state_dict(guard.state_dict() | {"shut": torch.tensor([False, True, True])})
    step = whole(held_out(7))
    step.loss.backward()
    torch.testing.assert_close(step.loss, step.ledger.row(0).mean())
    assert not step.ledger.row(2).isfinite().any()
    assert all(p.grad.isfinite().all() for p in whole.student.parameters())


def test_teachers_of_one_path_are_shut_one_by_one():
    teachers = {"big": Frozen(net()), "bad": Frozen(net())}
    whole = distiller(weighting=Product(Fixed(), [Guard(every=1)]), held_out=held_out, teachers=teachers)
    guard = whole.weighting.gates[0]
    open_ = whole(held_out(7)).ledger
    guard.load_state_dict(guard.state_dict() | {"shut": torch.tensor([False, False, True])})
    step = whole(held_out(7))
    torch.testing.assert_close(step.ledger.losses, open_.losses)
    assert [step.ledger.row(k).requires_grad for k in range(3)] == [True, True, False]
    assert step.weights.mean(dim=1).tolist() == [1.0, 1.0, 0.0]
