import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage.losses import ifvd


def test_matches_the_equations_written_with_loops():
    student, teacher = torch.randn(3, 4, 5, 6), torch.randn(3, 7, 5, 6)
    target = torch.randint(4, (3, 5, 6))
    target[torch.rand(3, 5, 6) < 0.2] = 255
    target[1] = 2
    for b in range(3):
        total = 0.0
        for y in range(5):
            for x in range(6):
                same = target[b] == target[b, y, x]
                near = []
                for feature in (student, teacher):
                    own = feature[b, :, y, x]
                    centre = own if target[b, y, x] == 255 else feature[b][:, same].mean(dim=1)
                    near.append(F.cosine_similarity(own, centre, dim=0))
                total += (near[0] - near[1]) ** 2
        assert_close(ifvd(student, teacher, target=target)[b], total / 30)


def test_classes_are_those_of_the_nearest_pixel():
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    fine = torch.randint(3, (2, 4, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert_close(ifvd(student, teacher, target=fine), ifvd(student, teacher, target=fine[:, ::4, ::4]))


def test_classes_of_whole_pictures_are_refused():
    with pytest.raises(ValueError, match=r"expected classes of pixels .* found torch.int64 \(2,\)"):
        ifvd(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), target=torch.tensor([0, 1]))
