import torch
from torch.testing import assert_close

from tutelage.losses import FGD

TARGET = torch.tensor([[[8.0, 8, 30, 20, 1], [20, 10, 60, 62, 0]], [[0, 0, 64, 64, 2], [0, 0, 0, 0, -1]]])
PICTURES = torch.zeros(2, 3, 64, 64)


def loss(**options):
    torch.manual_seed(0)
    made = FGD(student=(5, 8, 8), teacher=(5, 8, 8), **options)
    for block in (*made.ours, *made.theirs):  # as if trained: they add nothing at first
        torch.nn.init.normal_(block.add[-1].weight)
    return made


def by_hand(made, student, teacher, box_table):
    """The published equations, with loops over pictures and boxes."""
    t, (objects, background, attention, context) = made.temperature, made.weights
    values = []
    for s, x, boxes in zip(student, teacher, box_table, strict=True):
        c, h, w = x.shape

        def looks(f, h=h, w=w, c=c):
            return (
                h * w * (f.abs().mean(0).flatten() / t).softmax(0).view(h, w),
                c * (f.abs().mean((1, 2)) / t).softmax(0),
            )

        (s_place, s_channel), (t_place, t_channel) = looks(s), looks(x)
        front, back = torch.zeros(h, w), torch.ones(h, w)
        for left, top, right, bottom, label in boxes.tolist():
            if label < 0:
                continue
            x0, x1 = int(left * w // 64), -int(-right * w // 64)
            y0, y1 = int(top * h // 64), -int(-bottom * h // 64)
            x1, y1 = min(x1, w - 1), min(y1, h - 1)
            share = 1 / ((x1 + 1 - x0) * (y1 + 1 - y0))
            part = front[y0 : y1 + 1, x0 : x1 + 1]
            front[y0 : y1 + 1, x0 : x1 + 1] = part.clamp(min=share)
            back[y0 : y1 + 1, x0 : x1 + 1] = 0
        back = back / back.sum().clamp(min=1)
        gap = t_place * t_channel[:, None, None] * (s - x).square()
        value = objects * (front * gap).sum() + background * (back * gap).sum()
        value += attention * ((s_place - t_place).abs().sum() + (s_channel - t_channel).abs().sum())
        value += context * (made.ours[0](s[None]) - made.theirs[0](x[None])).square().sum()
        values.append(value)
    return torch.stack(values)


def test_it_is_the_sum_of_the_published_terms():
    made, student, teacher = loss(temperature=0.8), torch.randn(2, 5, 8, 8), torch.randn(2, 5, 8, 8)
    assert_close(made(student, teacher, target=TARGET, inputs=PICTURES), by_hand(made, student, teacher, TARGET))


def test_each_box_weighs_the_same_however_large_it_is():
    made = loss(background=0, attention=0, context=0, temperature=1e6)
    teacher = torch.zeros(1, 5, 8, 8)
    boxes = torch.tensor([[[0.0, 0, 9, 9, 0]], [[0.0, 0, 60, 60, 0]]])
    values = [made(teacher + 1, teacher, target=box[None], inputs=PICTURES[:1]) for box in boxes]
    assert_close(*values)


def test_levels_are_added():
    torch.manual_seed(0)
    both = FGD(student=((5, 8, 8), (5, 4, 4)), teacher=((5, 8, 8), (5, 4, 4)), context=0)
    maps = [(torch.randn(2, 5, n, n), torch.randn(2, 5, n, n)) for n in (8, 4)]
    told = {"target": TARGET, "inputs": PICTURES}
    alone = [FGD(student=s.shape[1:], teacher=t.shape[1:], context=0)(s, t, **told) for s, t in maps]
    assert_close(both(*zip(*maps, strict=True), **told), sum(alone))


def test_normalised_maps_say_the_same_whatever_their_size():
    made, student, teacher = loss(normalise=True), torch.randn(2, 5, 8, 8), torch.randn(2, 5, 8, 8)
    told = {"target": TARGET, "inputs": PICTURES}
    value = made(student, teacher, **told)
    sizes = torch.tensor([30.0, 0.01])[:, None, None, None]
    assert_close(made(sizes * student, sizes * teacher, **told), value)
    unit = teacher.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    assert_close(value, loss()(student / unit, teacher / unit, **told))
    assert made(teacher, torch.zeros_like(teacher), **told).isfinite().all()
