import pytest
import torch
from torch import nn

from tutelage import Distiller
from tutelage.errors import RecipeError
from tutelage.models import sr
from tutelage.models.preprocess import Preprocess
from tutelage.schemes.privileged import Privileged, privileged
from tutelage.taps import Taps
from tutelage.tasks import SuperResolution


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_code_has_the_size_of_the_small_picture(scale):
    teacher = Privileged(sr.fsrcnn(width=4, narrow=2, depth=1, scale=scale))
    truth = torch.rand(2, 3, 6 * scale, 5 * scale)
    assert teacher.encoder(truth).shape == (2, 3, 6, 5)
    assert teacher(truth).shape == truth.shape


def test_the_task_shows_it_the_truth():
    teacher = Privileged(sr.edsr(blocks=1, width=4)).eval()
    task = SuperResolution(2)
    batch = task.unpack((torch.rand(1, 3, 6, 6), torch.rand(1, 3, 12, 12)))
    assert torch.equal(task.call(teacher, batch), teacher(batch.target))


def patches():
    torch.manual_seed(1)
    return SuperResolution(2).unpack((torch.rand(2, 3, 12, 12), torch.rand(2, 3, 24, 24)))


class Cast:
    """Small EDSRs, and distillers as a run makes them."""

    def model(self, role):
        torch.manual_seed(0)
        return sr.edsr(blocks=2, width=8, scale=2)

    def distiller(self, model, teachers, **parts):
        return Distiller(model, teachers=teachers, task=SuperResolution(2), example=patches(), **parts)


def test_its_features_pull_less_than_the_truth_whatever_the_colours_of_the_net():
    stages = privileged(Cast())
    next(stages)
    learns = next(stages).pupils["student"].train()
    step = learns(patches())
    taught = list(learns.student.body.parameters())
    pulls = {}
    for row, loss in zip(step.ledger.rows, step.ledger.losses.mean(dim=1), strict=True):
        grads = torch.autograd.grad(loss, taught, retain_graph=True, allow_unused=True)
        pulls[row.path] = torch.cat([grad.flatten() for grad in grads if grad is not None]).norm()
    assert 0 < 1e-6 * pulls["features"] < pulls["base"]


@pytest.mark.parametrize(
    ("net", "enlarging"),
    [(sr.fsrcnn, "last_part"), (sr.edsr, "tail"), (sr.rcan, "tail"), (sr.srresnet, "upconv1")],
)
def test_every_net_says_which_features_its_last_layers_enlarge(net, enlarging):
    small, taken = net(scale=2), f"{enlarging}:input"
    said = Taps(small, [small.enlarged, taken])(lambda: small(torch.rand(1, 3, 6, 5)))
    assert said[small.enlarged].shape[2:] == (6, 5)
    assert torch.equal(said[small.enlarged], said[taken])


def test_of_other_students_the_features_are_named():
    class Other(Cast):
        def model(self, role):
            made = nn.Identity()
            made.scale, made.preprocess = 2, Preprocess.identity(3)
            return made

    with pytest.raises(RecipeError, match=r"which features .* found Identity. Name them: tap"):
        next(privileged(Other()))


def test_a_student_has_to_say_by_how_much_it_enlarges():
    with pytest.raises(RecipeError, match="by how much it enlarges"):
        Privileged(nn.Identity())
