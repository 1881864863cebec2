import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.losses import FT, factor
from tutelage.losses.ft import Paraphraser
from tutelage.tasks import Classification
from tutelage.weighting import Fixed


def loss(**options):
    return FT(paraphraser=Paraphraser(6), student=(4, 5, 5), teacher=(6, 5, 5), **options)


def test_it_is_the_distance_between_the_translated_and_the_paraphrased():
    made, s, t = loss(distance="l2"), torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5)
    assert_close(made(s, t), factor(made.translator(s), made.paraphraser.encoder(t), distance="l2"))


def test_networks_have_the_published_layers():
    paraphraser = Paraphraser(6, rate=0.5)
    widths = [tuple(layer.weight.shape[:2]) for layer in paraphraser.encoder if hasattr(layer, "weight")]
    assert widths == [(6, 6), (3, 6), (3, 3)]  # out, in
    widths = [tuple(layer.weight.shape[:2]) for layer in paraphraser.decoder if hasattr(layer, "weight")]
    assert widths == [(3, 3), (3, 6), (6, 6)]  # in, out
    x = torch.randn(2, 6, 4, 4)
    first = F.leaky_relu(F.conv2d(x, *paraphraser.encoder[0].parameters(), padding=1), 0.1)
    assert_close(paraphraser.encoder[:3](x), first)
    assert loss(norm=True).translator[1](torch.randn(8, 4, 5, 5)).mean().abs() < 1e-6


@pytest.mark.parametrize("distance", ["l1", "squared"])
def test_reconstruction_is_the_mean_difference_and_trains_the_paraphraser(distance):
    paraphraser, x = Paraphraser(4), torch.rand(8, 4, 3, 3)
    off = paraphraser.decoder(paraphraser(x)) - x
    for b in range(8):
        expected = off[b].abs().sum() / 36 if distance == "l1" else (off[b] ** 2).sum() / 36
        assert_close(paraphraser.reconstruction(x, distance=distance)[b], expected)
    values = []
    for _ in range(20):
        value = paraphraser.reconstruction(x, distance=distance).mean()
        values.append(value.item())
        for parameter, slope in zip(
            paraphraser.parameters(), torch.autograd.grad(value, list(paraphraser.parameters())), strict=True
        ):
            parameter.data -= 0.2 * slope
    assert values[-1] < 0.9 * values[0]


def test_the_paraphraser_stays_frozen_and_in_eval_while_the_translator_learns():
    made = loss().train()
    made(torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5)).sum().backward()
    assert not made.paraphraser.training
    assert all(p.grad is None and not p.requires_grad for p in made.paraphraser.parameters())
    assert all(p.grad is not None for p in made.translator.parameters())


def test_a_path_sizes_it_and_a_checkpoint_holds_the_paraphraser():
    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body, self.fc = torch.nn.Conv2d(3, width, 3), torch.nn.Linear(width, 3)

        def forward(self, x):
            return self.fc(self.body(x).mean(dim=(2, 3)))

    task = Classification(3)
    batch = task.unpack((torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])))
    path = Path(FT(paraphraser=Paraphraser(6)), student="body", teacher="body")
    made = Distiller(
        Net(4), teachers={"big": Frozen(Net(6))}, paths={"ft": path}, task=task, weighting=Fixed(), example=batch
    )
    made(batch).loss.backward()
    assert made.student.body.weight.grad.abs().sum() > 0
    assert any("paraphraser" in name for name in made.state_dict())


def test_refuses_to_work_without_a_paraphraser_or_with_one_of_another_width():
    with pytest.raises(ValueError, match=r"expected a trained paraphraser.*reconstruction"):
        FT(student=(4, 5, 5), teacher=(6, 5, 5))(torch.ones(1, 4, 5, 5), torch.ones(1, 6, 5, 5))
    with pytest.raises(ValueError, match="Paraphraser, found 3"):
        FT(paraphraser=3)
    with pytest.raises(ValueError, match=r"the 6 channels.*\(8, 5, 5\)"):
        FT(paraphraser=Paraphraser(6), student=(4, 5, 5), teacher=(8, 5, 5))
    with pytest.raises(ValueError, match=r"leaves a channel of 4, found 0\.1"):
        Paraphraser(4, rate=0.1)
    with pytest.raises(ValueError, match="not bound"):
        FT(paraphraser=Paraphraser(6))(torch.ones(1, 4, 5, 5), torch.ones(1, 6, 5, 5))
