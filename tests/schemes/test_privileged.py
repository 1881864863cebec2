import pytest
import torch
from torch import nn

from tutelage.errors import RecipeError
from tutelage.models import sr
from tutelage.schemes.privileged import Privileged
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


def test_a_student_has_to_say_by_how_much_it_enlarges():
    with pytest.raises(RecipeError, match="by how much it enlarges"):
        Privileged(nn.Identity())
