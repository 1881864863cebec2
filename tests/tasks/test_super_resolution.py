import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.data.bicubic import upscale
from tutelage.errors import InputError
from tutelage.losses import l1
from tutelage.models import sr
from tutelage.tasks import SuperResolution
from tutelage.tasks.super_resolution import FINEST, SHOWN, tiled
from tutelage.weighting import Auto, Trust


class Enlarged(nn.Module):
    """Enlarges plainly, and sees a little of what is around."""

    def forward(self, inputs):
        return (
            nn.functional.avg_pool2d(inputs, 5, 1, 2, count_include_pad=False)
            .repeat_interleave(2, 2)
            .repeat_interleave(2, 3)
        )


@pytest.fixture
def task():
    return SuperResolution(2)


@pytest.fixture
def batch(task):
    return task.unpack((torch.rand(3, 3, 20, 24), torch.rand(3, 3, 40, 48)))


def test_the_base_loss_is_the_mean_absolute_difference(task, batch):
    output = torch.rand(3, 3, 40, 48)
    for b in range(3):
        assert_close(task.base_loss({"": output}, batch)["base"][b], (output[b] - batch.target[b]).abs().mean())


def test_bytes_become_floats_on_both_sides(task):
    batch = task.unpack(
        (torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), torch.full((1, 3, 8, 8), 51, dtype=torch.uint8))
    )
    assert batch.inputs.unique().tolist() == [1.0]
    assert batch.target.unique().item() == pytest.approx(0.2)


def test_what_is_kept_of_answers_tells_the_metrics(task, batch):
    prediction = task.predict(torch.rand(3, 3, 40, 48))
    kept = task.keep_beside(prediction, batch.target, batch.inputs)
    metrics = task.metrics()
    for n in range(3):
        for metric in metrics.values():
            metric.update(prediction[n : n + 1], batch.target[n : n + 1])
    assert metrics["psnr"].compute().item() == pytest.approx(task.score(kept).mean().item(), rel=1e-6)
    assert metrics["ssim"].compute().item() == pytest.approx(kept["ssim"].mean().item(), rel=1e-5)
    assert kept["crop"].shape == (3, 3, SHOWN, SHOWN)
    assert kept["crop"].dtype == torch.uint8


def test_the_part_that_is_shown_is_where_the_truth_changes_most(task):
    target = torch.full((1, 3, 200, 160), 0.5)
    target[..., 110:150, 70:110] = torch.rand(3, 40, 40)
    kept = task.keep_beside(target, target, torch.rand(1, 3, 100, 80))
    assert (kept["truth"].float() - 127.5).abs().gt(1).float().mean() > 0.3
    assert torch.equal(kept["crop"], kept["truth"])


def test_a_teacher_worse_than_bicubic_is_suspected(task, batch):
    noise = task.predict(torch.rand(3, 3, 40, 48))
    told = task.suspect("big", task.keep_beside(noise, batch.target, batch.inputs))
    assert "better pictures than bicubic" in told
    assert task.suspect("big", task.keep_beside(batch.target, batch.target, batch.inputs)) is None


def test_a_teacher_that_is_no_number_is_suspected(task, batch):
    broken = torch.full((3, 3, 40, 48), torch.nan)
    assert "NaN" in task.suspect("big", task.keep_beside(broken, batch.target, batch.inputs))


@pytest.mark.parametrize("size", [(100, 70), (64, 64), (33, 130)])
def test_tiles_give_what_the_whole_gives(size):
    pictures, model = torch.rand(2, 3, *size), Enlarged()
    assert_close(tiled(model, pictures, 2, 64), model(pictures))


def test_only_large_pictures_are_tiled_and_none_in_training():
    seen = []

    class Watched(Enlarged):
        def forward(self, inputs):
            seen.append(tuple(inputs.shape[2:]))
            return super().forward(inputs)

    task, model = SuperResolution(2, tile=48), Watched()
    small, large = ((torch.rand(1, 3, side, 40), torch.rand(1, 3, 2 * side, 80)) for side in (48, 60))
    task.call(model.eval(), task.unpack(small))
    task.call(model.train(), task.unpack(large))
    assert seen == [(48, 40), (60, 40)]
    whole = task.call(model.eval(), task.unpack(large))
    assert max(max(side) for side in seen[2:]) <= 48
    assert_close(whole, Enlarged()(large[0]))


def test_a_model_that_sees_the_truth_is_given_it(task, batch):
    model = nn.Identity()
    model.sees_truth = True
    assert torch.equal(task.call(model, batch), batch.target)


def test_coloured_answers_to_grey_pictures_become_grey(task):
    grey = torch.rand(2, 1, 8, 8)
    coloured = sr.edsr(blocks=1, width=4)
    batch = task.unpack((grey, torch.rand(2, 1, 16, 16)))
    assert task.call(coloured, batch).shape == (2, 1, 16, 16)
    assert task.fits(torch.rand(2, 3, 16, 16), grey, None) is None


def test_other_shapes_do_not_fit(task):
    inputs = torch.rand(1, 3, 8, 8)
    assert task.fits(torch.rand(1, 3, 16, 16), inputs, None) is None
    for shape in ((1, 3, 32, 32), (1, 1, 16, 16), (1, 10)):
        assert "2 times as large" in task.fits(torch.rand(shape), inputs, None)
    assert task.fits({"out": 1}, inputs, None) is not None


def test_exported_pictures_agree_to_one_step_of_8_bits(task):
    x = torch.rand(1, 3, 16, 16)
    assert task.agree(x + 0.4 / 255, x) == 1.0
    assert task.agree((x + 0.5) % 1, x) < 0.1


def test_refuses_scales_and_tiles_out_of_range():
    with pytest.raises(InputError, match="scale of 2 or more, found 1"):
        SuperResolution(1)
    with pytest.raises(InputError, match="more than 32 pixels, found 32"):
        SuperResolution(2, tile=32)


def test_bicubic_is_what_the_answers_are_compared_with(task):
    inputs = torch.rand(1, 3, 32, 32)
    target = upscale(inputs, 2).clamp(0, 1)
    kept = task.keep_beside(target, target, inputs)
    assert kept["bicubic_psnr"].item() > 45


class Off(nn.Module):
    """The true pictures, off by so much each."""

    def __init__(self, truth, *by):
        super().__init__()
        self.said = truth + torch.tensor(by)[:, None, None, None]

    def forward(self, inputs):
        return self.said[: len(inputs)]


def weighed(task, batch, rule, student=(0.5, 0.5, 0.5), **teachers):
    distiller = Distiller(
        nn.Sequential(Off(batch.target, *student), nn.Conv2d(3, 3, 1)),
        teachers={name: Frozen(Off(batch.target, *by)) for name, by in teachers.items()},
        paths={"l1": Path(l1)},
        task=task,
        weighting=rule,
    )
    with torch.no_grad():
        distiller.student[1].weight.copy_(torch.eye(3)[:, :, None, None])
        distiller.student[1].bias.zero_()
    return distiller(batch).weights[1:]


def test_teachers_are_heard_by_how_near_they_are_to_the_true_picture(task, batch):
    near, far = (0.01, 0.1, 0.02), (0.03, 0.1, -0.2)
    found = weighed(task, batch, Trust(shares="likelihood"), near=near, far=far)
    for b in range(3):
        odds = [1 / abs(by[b]) for by in (near, far)]
        assert_close(found[:, b], torch.tensor(odds) / sum(odds))
    confident = weighed(
        task, batch, Trust(), near=near, far=far
    )  # two teachers: each has the other's share of the error
    assert_close(confident, found)


def test_a_teacher_farther_than_the_student_is_turned_down_by_as_much(task, batch):
    found = weighed(task, batch, Trust(absolute=True), student=(0.1, 0.1, 0.1), only=(0.05, 0.2, 0.4))
    assert_close(found, torch.tensor([[1.0, 0.5, 0.25]]))


def test_pictures_without_truth_share_equally_and_no_difference_is_no_certainty(task, batch):
    batch.labelled[1] = False
    found = weighed(task, batch, Trust(shares="likelihood"), right=(0.0, 0.0, 0.0), near=(FINEST, 0.1, 2 * FINEST))
    assert_close(found, torch.tensor([[0.5, 0.5, 2 / 3], [0.5, 0.5, 1 / 3]]))


def test_a_teacher_that_gives_no_picture_is_not_heard(task, batch):
    nothing = float("nan")
    found = weighed(task, batch, Trust(shares="likelihood"), right=(0.1, 0.1, 0.1), broken=(0.1, nothing, float("inf")))
    assert_close(found, torch.tensor([[0.5, 1.0, 1.0], [0.5, 0.0, 0.0]]))


def test_the_default_hears_the_nearer_teacher_more(task, batch):
    found = weighed(task, batch, Auto(warmup=0), near=(0.01, 0.01, 0.01), far=(0.04, 0.04, 0.04))
    assert_close(found[0] / found[1], torch.full((3,), 4.0))
