"""Gated PixelCNN, twin of the `gated-pixel-cnn` family.

A kernel's hidden part is no parameter: the image is padded above and to the left, and the kernel ends at
the pixel it computes or before it. Keys are the parameter paths of the Rust family, but for `classes`,
which is an embedding here and therefore ends in `.weight`.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Masked(nn.Module):
    """A convolution of `kernel` (rows, columns) of which the first `live` rows and columns are left.

    `order` is (groups, inputs, period, strict) for colours: features are in as many groups as there are
    channels, and at the pixel itself (the last column) a group sees the earlier ones, or itself too.
    """

    def __init__(self, inputs, outputs, kernel, live, dilation=1, order=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *live))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.kernel, self.dilation = kernel, dilation
        mask = torch.ones(outputs, inputs, *live)
        if order:
            groups, width, period, strict = order
            for o in range(outputs):
                own = o % period // (period // groups)
                for i in range(inputs):
                    other = i // (width // groups)
                    if other > own or (strict and other == own):
                        mask[o, i, -1, -1] = 0
        self.mask = mask

    def forward(self, x):
        height, width = x.shape[2:]
        above, left = (side // 2 * self.dilation for side in self.kernel)
        # The vertical kernel sees both sides; the horizontal one, of one row, only its left.
        right = left if self.kernel[0] > 1 else 0
        x = F.pad(x, (left, right, above, 0))
        y = F.conv2d(x, self.weight * self.mask.to(x.dtype), self.bias, dilation=self.dilation)
        return y[:, :, :height, :width]


def gate(x):
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class Layer(nn.Module):
    def __init__(self, channels, width, side, dilation, classes):
        super().__init__()
        half = side // 2 + 1
        order = (channels, width, width, False) if channels > 1 else None
        self.vertical = Masked(width, 2 * width, (side, side), (half, side), dilation)
        self.across = Masked(2 * width, 2 * width, (1, 1), (1, 1))
        self.horizontal = Masked(width, 2 * width, (1, side), (1, half), dilation, order)
        self.mix = Masked(width, width, (1, 1), (1, 1), 1, order)
        if classes:
            self.classes = nn.Embedding(classes, 2 * width)

    def forward(self, v, h, labels):
        above = self.vertical(v)
        if labels is not None:
            above = above + self.classes(labels)[:, :, None, None]
        h = h + self.mix(gate(self.horizontal(h) + self.across(above)))
        return gate(above), h


class First(nn.Module):
    def __init__(self, channels, width, side):
        super().__init__()
        half = side // 2
        order = (channels, channels, width, True) if channels > 1 else None
        self.vertical = Masked(channels, width, (side, side), (half, side))
        self.horizontal = Masked(channels, width, (1, side), (1, half + (channels > 1)), 1, order)


class GatedPixelCnn(nn.Module):
    """`classes` is 0 for a network that is told none."""

    def __init__(self, *, channels, width, first_kernel, kernel, dilations, levels, classes):
        super().__init__()
        self.channels, self.levels = channels, levels
        self.outputs_per_channel = 1 if levels == 2 else levels
        outputs = channels * self.outputs_per_channel
        self.first = First(channels, width, first_kernel)
        self.layers = nn.ModuleList(Layer(channels, width, kernel, d, classes) for d in dilations)
        order = (channels, width, outputs, False) if channels > 1 else None
        self.out = Masked(width, outputs, (1, 1), (1, 1), 1, order)

    def forward(self, x, labels=None):
        """Logits [n, k, C, H, W] for values x [n, C, H, W]."""
        n, channels, height, width = x.shape
        x = 2 * x / (self.levels - 1) - 1
        v, h = self.first.vertical(x), self.first.horizontal(x)
        for layer in self.layers:
            v, h = layer(v, h, labels)
        y = self.out(F.elu(h)).view(n, channels, self.outputs_per_channel, height, width)
        return y.transpose(1, 2)

    def nats(self, x, labels=None):
        """-ln p(x) per image, [n]."""
        logits = self(x, labels)
        if self.levels == 2:
            nats = F.binary_cross_entropy_with_logits(logits[:, 0], x, reduction="none")
        else:
            nats = F.cross_entropy(logits, x.long(), reduction="none")
        return nats.flatten(1).sum(1)
