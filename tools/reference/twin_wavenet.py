"""WaveNet over the raster of sub-pixels, twin of the `wavenet` family.

The module's state_dict keys are the parameter paths of the Rust family. The raster goes row by row, in
a row pixel by pixel, in a pixel channel by channel. Values are whole numbers 0..levels held in floating
point; likelihoods are summed over the sub-pixels and given in nats.
"""

import torch
from torch import nn
from torch.nn import functional as F


class CausalConv(nn.Conv2d):
    """[n, C, 1, T]: the value `dilation` before, and the one at hand."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__(inputs, outputs, (1, 2), dilation=(1, dilation))

    def forward(self, x):
        return super().forward(F.pad(x, (self.dilation[1], 0)))


class Layer(nn.Module):
    def __init__(self, width, skip, dilation, classes, is_last):
        super().__init__()
        self.gates = CausalConv(width, 2 * width, dilation)
        if classes:
            self.add_module("class", nn.Embedding(classes, 2 * width))
        if not is_last:
            self.residual = nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(width, skip, 1)

    def forward(self, h, labels):
        gates = self.gates(h)
        if labels is not None:
            gates = gates + self.get_submodule("class")(labels)[:, :, None, None]
        f, g = gates.chunk(2, 1)
        z = torch.tanh(f) * torch.sigmoid(g)
        return (h + self.residual(z) if hasattr(self, "residual") else h), self.skip(z)


class WaveNet(nn.Module):
    """[n, C, H, W] values -> [n, k, C, H, W] logits; k = 1 for two levels."""

    def __init__(self, *, channels, image_height, image_width, width, skip, dilations, levels, positions, classes=0):
        super().__init__()
        self.levels, self.k = levels, 1 if levels == 2 else levels
        self.value = nn.Embedding(levels + 1, width)
        if positions:
            self.row = nn.Embedding(image_height, width)
            self.column = nn.Embedding(image_width, width)
            if channels > 1:
                self.channel = nn.Embedding(channels, width)
        last = len(dilations) - 1
        self.layers = nn.ModuleList(Layer(width, skip, d, classes, i == last) for i, d in enumerate(dilations))
        self.head = nn.Conv2d(skip, skip, 1)
        self.out = nn.Conv2d(skip, self.k, 1)

    def forward(self, x, labels=None):
        n, channels, height, width = x.shape
        raster = x.permute(0, 2, 3, 1).reshape(n, -1).long()
        before = F.pad(raster, (1, 0), value=self.levels)[:, :-1]
        h = self.value(before).view(n, height, width, channels, -1)
        if hasattr(self, "row"):
            h = h + self.row.weight[:, None, None] + self.column.weight[None, :, None]
            if hasattr(self, "channel"):
                h = h + self.channel.weight[None, None]
        h = h.flatten(1, 3).transpose(1, 2)[:, :, None]
        total = 0
        for layer in self.layers:
            h, skip = layer(h, labels)
            total = total + skip
        y = self.out(F.relu(self.head(F.relu(total))))
        return y.view(n, self.k, height, width, channels).permute(0, 1, 4, 2, 3)


def negative_log_likelihood(outputs, x):
    """Per image, [n], in nats."""
    if outputs.shape[1] == 1:
        nats = F.binary_cross_entropy_with_logits(outputs[:, 0], x, reduction="none")
    else:
        nats = F.cross_entropy(outputs, x.long(), reduction="none")
    return nats.flatten(1).sum(1)
