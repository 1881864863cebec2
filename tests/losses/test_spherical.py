import pytest
import torch
from torch.testing import assert_close

from tutelage.losses import kl, spherical


def test_matches_the_equation_written_with_loops():
    s, t = torch.randn(4, 5).double(), torch.randn(4, 5).double()
    centred = [[x[b] - sum(x[b]) / 5 for b in range(4)] for x in (s, t)]
    radius = sum(z.norm() for z in centred[1]) / 4
    s_hat, t_hat = (torch.stack([radius * z / z.norm() for z in side]) for side in centred)
    assert_close(spherical(s, t, temperature=2.0), kl(s_hat, t_hat, temperature=2.0))


def test_at_the_teachers_own_length_the_teacher_stays_and_the_student_takes_its_deviation():
    s, t = torch.randn(4, 5).double(), torch.randn(4, 5).double()
    scaled = s * t.std(dim=1, keepdim=True) / s.std(dim=1, keepdim=True)
    assert_close(spherical(s, t, radius="sample"), kl(scaled, t))


def test_a_given_radius_is_layer_normalisation_times_a_number():
    s, t = torch.randn(4, 9).double(), torch.randn(4, 9).double()
    normed = [torch.nn.functional.layer_norm(x, (9,), eps=0.0) for x in (s, t)]
    assert_close(spherical(s, t, radius=2.0 * 3.0), kl(2.0 * normed[0], 2.0 * normed[1]))


@pytest.mark.parametrize("radius", ["batch", "sample", 3.0])
def test_the_students_scale_does_not_matter(radius):
    s, t = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    assert_close(spherical(100 * s + 3, t, radius=radius), spherical(s, t, radius=radius))


def test_equal_logits_have_no_direction_and_get_no_gradient():
    s = torch.zeros(2, 4, requires_grad=True)
    spherical(s, torch.randn(2, 4)).sum().backward()
    assert not s.grad.any()


@pytest.mark.parametrize("radius", [0.0, "world"])
def test_refuses_a_radius_that_is_none(radius):
    with pytest.raises(ValueError, match="radius"):
        spherical(torch.ones(1, 3), torch.ones(1, 3), radius=radius)
