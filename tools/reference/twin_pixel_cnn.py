"""PixelCNN, twin of the `pixel-cnn` family.

The module's state_dict keys are the parameter paths of the Rust family. A masked convolution is kept
as its live parts: the rows above, the pixels to the left, the pixel itself. Values are whole numbers
0..levels held in floating point; likelihoods are summed over the sub-pixels and given in nats.
"""

import torch
from torch import nn
from torch.nn import functional as F


def channel_mask(outputs, inputs, groups, strict, like):
    """[outputs, inputs, 1, 1]: one where an output's colour comes after (or is, unless strict) the input's."""
    colour_of = lambda size: torch.tensor([max(g for g in range(groups) if g * size // groups <= i) for i in range(size)])
    of, seen = colour_of(outputs)[:, None], colour_of(inputs)[None, :]
    mask = (seen < of) if strict else (seen <= of)
    return mask.to(like.dtype)[:, :, None, None]


class MaskedConv(nn.Module):
    """A (2 reach + 1)² kernel that ends at its centre; `strict` is mask type A, else B."""

    def __init__(self, inputs, outputs, reach, strict, groups):
        super().__init__()
        self.strict, self.groups, self.reach = strict, groups, reach
        self.above = nn.Parameter(torch.empty(outputs, inputs, reach, 2 * reach + 1))
        self.left = nn.Parameter(torch.empty(outputs, inputs, 1, reach))
        if groups > 1 or not strict:
            self.centre = nn.Parameter(torch.empty(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(outputs))

    @property
    def weight(self):
        outputs, inputs = self.above.shape[:2]
        kernel = self.above.new_zeros(outputs, inputs, 2 * self.reach + 1, 2 * self.reach + 1)
        kernel[:, :, : self.reach] = self.above
        kernel[:, :, self.reach : self.reach + 1, : self.reach] = self.left
        if hasattr(self, "centre"):
            mask = channel_mask(outputs, inputs, self.groups, self.strict, self.centre)
            kernel[:, :, self.reach : self.reach + 1, self.reach : self.reach + 1] = self.centre * mask
        return kernel

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, padding=self.reach)


class Pointwise(nn.Conv2d):
    """1×1, mask type B."""

    def __init__(self, inputs, outputs, groups):
        super().__init__(inputs, outputs, 1)
        self.colours = groups

    def forward(self, x):
        outputs, inputs = self.weight.shape[:2]
        mask = channel_mask(outputs, inputs, self.colours, False, self.weight)
        return F.conv2d(x, self.weight * mask, self.bias)


class Block(nn.Module):
    def __init__(self, width, groups, classes):
        super().__init__()
        self.reduce = Pointwise(2 * width, width, groups)
        self.masked = MaskedConv(width, width, 1, False, groups)
        if classes:
            self.add_module("class", nn.Embedding(classes, width))
        self.expand = Pointwise(width, 2 * width, groups)

    def forward(self, x, labels):
        h = self.masked(F.relu(self.reduce(F.relu(x))))
        if labels is not None:
            h = h + self.get_submodule("class")(labels)[:, :, None, None]
        return x + self.expand(F.relu(h))


class PixelCnn(nn.Module):
    """[n, C, H, W] values -> [n, k, C, H, W] logits; k = 1 for two levels."""

    def __init__(self, *, channels, width, blocks, head, levels, classes=0):
        super().__init__()
        self.levels, self.k = levels, 1 if levels == 2 else levels
        self.first = MaskedConv(channels, 2 * width, 3, True, channels)
        self.blocks = nn.ModuleList(Block(width, channels, classes) for _ in range(blocks))
        self.head = Pointwise(2 * width, head, channels)
        self.out = Pointwise(head, channels * self.k, channels)

    def forward(self, x, labels=None):
        n, channels, height, width = x.shape
        h = self.first(x / (self.levels - 1))
        for block in self.blocks:
            h = block(h, labels)
        h = self.out(F.relu(self.head(F.relu(h))))
        return h.view(n, channels, self.k, height, width).transpose(1, 2)


def negative_log_likelihood(outputs, x):
    """Per image, [n], in nats."""
    if outputs.shape[1] == 1:
        nats = F.binary_cross_entropy_with_logits(outputs[:, 0], x, reduction="none")
    else:
        nats = F.cross_entropy(outputs, x.long(), reduction="none")
    return nats.flatten(1).sum(1)
