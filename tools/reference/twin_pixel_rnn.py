"""Pixel recurrent network, twin of the `pixel-rnn` family.

The module's state_dict keys are the parameter paths of the Rust family. Pixels are whole numbers
0..levels. Row by row and pixel by pixel, as the equations are written: the Rust family computes
whole rows and diagonals.
"""

import torch
from torch import nn
from torch.nn import functional as F

CELLS = ("row-lstm", "diagonal-bilstm", "row-gru")


def colour_of(channel, width, channels):
    """The colour that a channel belongs to, of `channels` equal shares of `width`."""
    return channel * channels // width


def mask(weight, own, sees):
    """Ones before the tap `own` (counted row by row), zeros after it, `sees(out, in)` at it."""
    k, c, kh, kw = weight.shape
    ones = torch.zeros(k, c, kh * kw, dtype=weight.dtype)
    ones[:, :, :own] = 1
    for o in range(k):
        for i in range(c):
            ones[o, i, own] = float(sees(o, i))
    return weight * ones.view(k, c, kh, kw)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution in which the features of a colour see this colour and those before it."""

    def __init__(self, inputs, outputs, channels):
        super().__init__(inputs, outputs, 1)
        self.channels = channels

    def forward(self, x):
        def sees(o, i):
            inner = colour_of(i, self.in_channels, self.channels)
            return inner <= colour_of(o, self.out_channels, self.channels)

        return F.conv2d(x, mask(self.weight, 0, sees), self.bias)


class Direction(nn.Module):
    """Recurrence over an image, from the top and, for diagonals, from the left."""

    def __init__(self, cell, hidden, channels):
        super().__init__()
        gates, seen, above = {"row-lstm": (4, 2, 3), "diagonal-bilstm": (4, 1, 2), "row-gru": (3, 2, 3)}[cell]
        self.cell, self.hidden, self.channels = cell, hidden, channels
        self.input = nn.Conv2d(2 * hidden, gates * hidden, (1, seen))
        self.state = nn.Conv2d(hidden, gates * hidden, (1, above), bias=False)

    def forward(self, x):
        """[n, 2 hidden, h, w] -> [n, hidden, h, w]."""
        hidden, taps = self.hidden, self.input.kernel_size[1]

        def sees(o, i):
            inner = colour_of(i, 2 * hidden, self.channels)
            return inner <= colour_of(o % hidden, hidden, self.channels)

        weight = mask(self.input.weight, taps - 1, sees)
        of_input = F.conv2d(F.pad(x, (taps - 1, 0)), weight, self.input.bias)
        n, _, height, width = x.shape
        zero = x.new_zeros(n, hidden)
        state, memory = {}, {}
        taps = {
            "row-lstm": ((-1, -1), (-1, 0), (-1, 1)),
            "diagonal-bilstm": ((-1, 0), (0, -1)),
            "row-gru": ((-1, -1), (-1, 0), (-1, 1)),
        }[self.cell]
        before = (0, -1) if self.cell == "diagonal-bilstm" else (-1, 0)
        for y in range(height):
            for x_ in range(width):
                a = of_input[:, :, y, x_]
                b = sum(
                    state.get((y + dy, x_ + dx), zero) @ self.state.weight[:, :, 0, k].T
                    for k, (dy, dx) in enumerate(taps)
                )
                old = (y + before[0], x_ + before[1])
                if self.cell == "row-gru":
                    (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
                    r, z = torch.sigmoid(ar + br), torch.sigmoid(az + bz)
                    new = torch.tanh(an + r * bn)
                    state[y, x_] = (1 - z) * new + z * state.get(old, zero)
                else:
                    i, f, g, o = (a + b).chunk(4, 1)
                    kept = torch.sigmoid(f) * memory.get(old, zero)
                    memory[y, x_] = kept + torch.sigmoid(i) * torch.tanh(g)
                    state[y, x_] = torch.sigmoid(o) * torch.tanh(memory[y, x_])
        rows = [torch.stack([state[y, x_] for x_ in range(width)], 2) for y in range(height)]
        return torch.stack(rows, 2)


class Layer(nn.Module):
    """One or two directions, and the way back to the features."""

    def __init__(self, cell, hidden, channels):
        super().__init__()
        count = 2 if cell == "diagonal-bilstm" else 1
        self.directions = nn.ModuleList(Direction(cell, hidden, channels) for _ in range(count))
        self.up = Pointwise(hidden, 2 * hidden, channels)

    def forward(self, x):
        states = self.directions[0](x)
        if len(self.directions) == 2:
            right = self.directions[1](x.flip(3)).flip(3)
            states = states + F.pad(right, (0, 0, 1, 0))[:, :, :-1]  # a row further down
        return x + self.up(states)


class PixelRnn(nn.Module):
    """Values [n, c, h, w] -> logits [n, k, c, h, w], k = 1 for two levels."""

    def __init__(self, *, cell, channels, hidden, layers, head, levels, classes=0):
        super().__init__()
        assert cell in CELLS, cell
        self.channels, self.levels = channels, levels
        self.k = 1 if levels == 2 else levels
        # A 7x7 kernel without the rows below the pixel.
        self.stem = nn.Conv2d(channels, 2 * hidden, (4, 7))
        if classes:
            self.label = nn.Embedding(classes, 2 * hidden)
        self.layers = nn.ModuleList(Layer(cell, hidden, channels) for _ in range(layers))
        sizes = [2 * hidden, head, head, channels * self.k]
        self.head = nn.ModuleList(Pointwise(a, b, channels) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x, labels=None):
        n, c, h, w = x.shape
        features = self.stem.out_channels
        weight = mask(self.stem.weight, 3 * 7 + 3, lambda o, i: i < colour_of(o, features, self.channels))
        y = F.conv2d(F.pad(x / (self.levels - 1), (3, 3, 3, 0)), weight, self.stem.bias)
        if labels is not None:
            y = y + self.label(labels)[:, :, None, None]
        for layer in self.layers:
            y = layer(y)
        y = F.relu(self.head[0](y))
        y = F.relu(self.head[1](y))
        return self.head[2](y).view(n, c, self.k, h, w).transpose(1, 2)


def negative_log_likelihood(outputs, x):
    """-ln p(x), summed over the sub-pixels, [n]."""
    if outputs.shape[1] == 1:
        logits = outputs[:, 0]
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    return F.cross_entropy(outputs, x.long(), reduction="none").flatten(1).sum(1)
