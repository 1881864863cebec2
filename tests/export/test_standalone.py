import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tutelage.errors import InputError, ModelError
from tutelage.export.standalone import Standalone, checked_pictures


class Half:
    """A preprocessing that is easy to follow: subtract a half; swap the two classes."""

    def __call__(self, inputs):
        return inputs - 0.5

    def arrange(self, logits):
        return logits[:, [1, 0]]


def flat(outputs=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, outputs))


def test_normalises_before_the_model_and_arranges_after_it():
    model, image = flat(), torch.rand(3, 3, 2, 2)
    model.preprocess = Half()
    assert_close(Standalone(model)(image), model(image - 0.5).flip(1))


def test_a_model_without_preprocessing_is_called_as_it_is():
    model, image = flat(), torch.rand(3, 3, 2, 2)
    assert_close(Standalone(model)(image), model(image))


def test_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Dropout(), flat()).half().train()
    Standalone(model)
    assert model.training
    assert model[0].training
    assert model[1][1].weight.dtype == torch.float16


def test_traces_a_graph_for_any_number_of_pictures_even_from_one():
    model = flat()
    program = Standalone(model).trace(torch.rand(1, 3, 2, 2)).module()
    for n in (1, 2, 5):
        image = torch.rand(n, 3, 2, 2)
        assert_close(program(image), model(image))


def test_the_graph_names_no_file_of_this_machine():
    program = Standalone(flat()).trace(torch.rand(2, 3, 2, 2))
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)


class FixedBatch(nn.Module):
    def forward(self, image):
        return image.reshape(2, -1)


class Branching(nn.Module):
    def forward(self, image):
        return image.flatten(1) if image.mean() > 0.5 else image.flatten(1) * 2


@pytest.mark.parametrize("model", [FixedBatch(), Branching()])
def test_refuses_a_model_whose_graph_would_not_be_the_model(model):
    with pytest.raises(ModelError, match=f"{type(model).__name__} cannot be traced for any number of pictures"):
        Standalone(model).trace(torch.rand(2, 3, 2, 2))


class Two(nn.Module):
    def forward(self, image):
        return {"logits": image.flatten(1)}


def test_refuses_an_output_that_is_not_one_tensor():
    with pytest.raises(ModelError, match="expected one tensor from Two, found dict"):
        Standalone(Two()).trace(torch.rand(2, 3, 2, 2))


@pytest.mark.parametrize(
    ("pictures", "found"),
    [
        (torch.rand(2, 3, 4, 5), r"found shape \(2, 3, 4, 5\)"),
        (torch.rand(0, 3, 4, 4), r"found shape \(0, 3, 4, 4\)"),
        (torch.rand(3, 4, 4), r"found shape \(3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "found torch.uint8"),
        (torch.full((2, 3, 4, 4), 2.0), r"found 2\.\.2"),
        (torch.full((2, 3, 4, 4), -0.1), r"found -0\.1\.\.-0\.1"),
        (torch.full((2, 3, 4, 4), torch.nan), r"found nan\.\.nan"),
    ],
)
def test_names_what_is_wrong_with_the_sample_pictures(pictures, found):
    with pytest.raises(InputError, match=found):
        checked_pictures(pictures, (3, 4, 4))
