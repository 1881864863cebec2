import types

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.data.boxes import pad
from tutelage.errors import InputError
from tutelage.schemes import pseudo_labels
from tutelage.tasks import Detection

KNOWN = [4.0, 4.0, 30.0, 30.0, 1.0]
SURE, UNSURE = [34.0, 10.0, 60.0, 50.0, 0.0, 0.6], [2.0, 40.0, 20.0, 60.0, 0.0, 0.4]
COVERING, FLAT = [5.0, 5.0, 30.0, 30.0, 0.0, 0.9], [64.0, 8.0, 64.0, 30.0, 1.0, 0.9]


class Finds(nn.Module):
    """A detector that finds the same boxes whatever it sees."""

    detections_per_img = 8

    def __init__(self, *boxes):
        super().__init__()
        self.boxes = [torch.tensor(each).reshape(-1, 6) for each in boxes]

    def forward(self, pictures):
        assert not self.training
        return [{"boxes": x[:, :4], "labels": x[:, 4].long() + 1, "scores": x[:, 5]} for x in self.boxes]


def labelled_by(*teachers, known, labelled, **options):
    """The batch after the scheme's stage has had it."""
    pupil = types.SimpleNamespace(task=Detection(2))
    cast = types.SimpleNamespace(
        networks={str(number): teacher for number, teacher in enumerate(teachers)},
        model=lambda role: nn.Identity(),
        teachers=dict,
        distiller=lambda model, teachers: pupil,
    )
    raw = {"inputs": torch.rand(len(known), 3, 64, 64), "target": pad([torch.tensor(x).reshape(-1, 5) for x in known])}
    batch = pupil.task.unpack({**raw, "labelled": torch.tensor(labelled)})
    (stage,) = pseudo_labels(cast, **options)
    return stage.before_step(batch)


def there(target):
    return [boxes[boxes[:, 4] >= 0].tolist() for boxes in target]


def test_sure_boxes_that_cover_no_known_one_join_the_labels_and_make_labels_where_there_are_none():
    every = [SURE, UNSURE, COVERING, FLAT]
    # The second picture's label is hidden, so nothing is known there; of the third, nothing can be said.
    known, said = [[KNOWN], [KNOWN], []], [every, [SURE, UNSURE, FLAT], [UNSURE, FLAT]]
    found = labelled_by(Finds(*said), known=known, labelled=[True, False, False])
    assert_close(found.target[0, :2], torch.tensor([KNOWN, SURE[:5]]))
    assert there(found.target) == [[KNOWN, SURE[:5]], [SURE[:5]], []]
    assert found.labelled.tolist() == [True, True, False]


def test_a_picture_that_is_known_to_show_nothing_stays_labelled():
    found = labelled_by(Finds([UNSURE]), known=[[]], labelled=[True])
    assert there(found.target) == [[]]
    assert found.labelled.tolist() == [True]


def test_what_is_sure_and_what_covers_another_box_are_options():
    options = {"known": [[KNOWN]], "labelled": [True]}
    low = labelled_by(Finds([SURE, UNSURE]), **options, score=0.3)
    assert there(low.target) == [[KNOWN, SURE[:5], UNSURE[:5]]]
    apart = labelled_by(Finds([COVERING]), **options, overlap=0.95)
    assert there(apart.target) == [[KNOWN, COVERING[:5]]]


def test_a_box_that_two_teachers_find_is_taken_once():
    found = labelled_by(Finds([SURE]), Finds([SURE]), known=[[]], labelled=[False])
    assert there(found.target) == [[SURE[:5]]]


@pytest.mark.parametrize("wrong", [{"score": 0.0}, {"overlap": 1.5}])
def test_shares_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected score and overlap in \(0, 1\]"):
        labelled_by(Finds([SURE]), known=[[]], labelled=[True], **wrong)
