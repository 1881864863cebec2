"""RCAN: groups of residual blocks in which channels attend to each other."""

from torch import Tensor, nn

from tutelage.errors import ModelError

from .base import LongSkip, MeanShift, Upsampler, conv


class ChannelAttention(nn.Module):
    """Each channel is multiplied by a number in (0, 1) that depends on the means of all channels."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        narrow = width // reduction
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 1), nn.Sigmoid()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, H, W]``, the same."""
        gates: Tensor = self.conv_du(x.mean(dim=(2, 3), keepdim=True))
        return x * gates


class Residual(nn.Module):
    """A skip around modules that keep the shape."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, H, W]``, the same."""
        said: Tensor = self.body(x)
        return x + said


class Rcan(LongSkip):
    """RCAN of any size, with the module names of the authors' code.

    Taps: ``head``, ``body.0`` … the groups, ``tail.0:input`` the features behind the long skip.

    Args:
        groups: Residual groups.
        blocks: Blocks of each group.
        width: Channels.
        scale: How many times larger the output is.
        reduction: By how much narrower the attention is; at most `width`.
        in_channels: Channels of the pictures.
        colours: The largest value of a colour inside the net: 255 as in the published weights.

    Raises:
        ModelError: The reduction leaves no channel.

    Reference:
        Zhang, Li, Li, Wang, Zhong & Fu 2018, "Image Super-Resolution Using Very Deep Residual Channel Attention
        Networks", arXiv:1807.02758.
    """

    def __init__(
        self, groups: int, blocks: int, width: int, scale: int, reduction: int, in_channels: int, colours: float
    ) -> None:
        super().__init__(
            "rcan", groups=groups, blocks=blocks, width=width, scale=scale, reduction=reduction,
            in_channels=in_channels, colours=colours,
        )  # fmt: skip
        if width < reduction:
            raise ModelError(f"sr/rcan: expected a reduction of at most width={width}, found {reduction}.")
        self.colours = colours

        def block() -> Residual:
            attention = ChannelAttention(width, reduction)
            return Residual(conv(width, width), nn.ReLU(), conv(width, width), attention)

        self.sub_mean = MeanShift(in_channels, colours, -1)
        self.head = nn.Sequential(conv(in_channels, width))
        whole = (Residual(*(block() for _ in range(blocks)), conv(width, width)) for _ in range(groups))
        self.body = nn.Sequential(*whole, conv(width, width))
        self.tail = nn.Sequential(Upsampler(scale, width), conv(width, in_channels))
        self.add_mean = MeanShift(in_channels, colours, 1)


def rcan(
    groups: int = 10,
    blocks: int = 20,
    width: int = 64,
    scale: int = 2,
    reduction: int = 16,
    in_channels: int = 3,
    colours: float = 255.0,
) -> Rcan:
    """The published one: 10 groups of 20 blocks of 64 channels, 15.4 M parameters for scale 2."""
    return Rcan(groups, blocks, width, scale, reduction, in_channels, colours)
