"""PixelCNN++, twin of the `pixel-cnn-pp` family.

The module's state_dict keys are the parameter paths of the Rust family. Images hold bytes as whole
numbers; likelihoods are in nats. Convolutions are padded on the sides they may look at and nowhere
else, so nothing is cut off afterwards.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

ABOVE, BEFORE = (2, 3), (2, 2)
HALF_BIN = 1 / 255
LEAST_LOG_SCALE = -7.0


class Causal(nn.Conv2d):
    """A convolution whose last row is the pixel's; three columns lie around it, two end at it."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(inputs, outputs, kernel, stride)

    def forward(self, x):
        kh, kw = self.kernel_size
        sides = (1, 1) if kw == 3 else (kw - 1, 0)
        return super().forward(F.pad(x, (*sides, kh - 1, 0)))


class Above(nn.ConvTranspose2d):
    """Twice the size, three columns around each."""

    def forward(self, x):
        _, _, h, w = x.shape
        return super().forward(x, output_size=None)[:, :, : 2 * h, 1 : 2 * w + 1]


def both_elu(x):
    return F.elu(torch.cat([x, -x], 1))


class Gated(nn.Module):
    """x + a * sigmoid(b) with a, b of two causal convolutions."""

    def __init__(self, width, kernel, told, classes):
        super().__init__()
        self.first = Causal(2 * width, width, kernel)
        if told:
            self.skip = nn.Conv2d(2 * told, width, 1, bias=False)
        self.second = Causal(2 * width, 2 * width, kernel)
        if classes:
            self.label = nn.Embedding(classes, 2 * width)

    def forward(self, x, told=None, labels=None):
        y = self.first(both_elu(x))
        if told is not None:
            y = y + self.skip(both_elu(told))
        y = self.second(both_elu(y))
        if labels is not None:
            y = y + self.label(labels)[:, :, None, None]
        a, b = y.chunk(2, 1)
        return x + a * torch.sigmoid(b)


class Down(nn.Module):
    def __init__(self, width, scale, blocks, classes):
        super().__init__()
        if scale:
            self.shrink = nn.ModuleDict(
                {"above": Causal(width, width, ABOVE, 2), "before": Causal(width, width, BEFORE, 2)}
            )
        self.above = nn.ModuleList(Gated(width, ABOVE, 0, classes) for _ in range(blocks))
        self.before = nn.ModuleList(Gated(width, BEFORE, width, classes) for _ in range(blocks))


class Up(nn.Module):
    def __init__(self, width, step, blocks, classes):
        super().__init__()
        if step:
            # Two rows or columns and a step of two fill twice the size exactly; three columns leave
            # one too many on the right and begin one too far left.
            self.enlarge = nn.ModuleDict(
                {
                    "above": Above(width, width, ABOVE, 2, output_padding=(0, 1)),
                    "before": nn.ConvTranspose2d(width, width, BEFORE, 2),
                }
            )
        self.above = nn.ModuleList(Gated(width, ABOVE, width, classes) for _ in range(blocks))
        self.before = nn.ModuleList(Gated(width, BEFORE, 2 * width, classes) for _ in range(blocks))


class PixelCnnPp(nn.Module):
    """`classes` is 0 for a network that is told none."""

    def __init__(self, *, channels, width, blocks, scales, components, classes):
        super().__init__()
        self.channels, self.components = channels, components
        self.start_above = Causal(channels + 1, width, ABOVE)
        self.start_row = Causal(channels + 1, width, (1, 3))
        self.start_left = Causal(channels + 1, width, (2, 1))
        self.down = nn.ModuleList(Down(width, scale, blocks, classes) for scale in range(scales))
        self.up = nn.ModuleList(Up(width, step, blocks + (step > 0), classes) for step in range(scales))
        self.out = nn.Conv2d(width, components * (3 if channels == 1 else 10), 1)

    def forward(self, x, labels=None):
        """The parameters of the mixtures, [n, 3 K or 10 K, h, w]."""
        x = F.pad(2 * x / 255 - 1, (0, 0, 0, 0, 0, 1), value=1.0)
        lower = lambda t: F.pad(t, (0, 0, 1, 0))[:, :, :-1]
        further = lambda t: F.pad(t, (1, 0))[:, :, :, :-1]
        above = lower(self.start_above(x))
        before = lower(self.start_row(x)) + further(self.start_left(x))
        stack = []
        for scale in self.down:
            if hasattr(scale, "shrink"):
                above, before = scale.shrink["above"](above), scale.shrink["before"](before)
            stack.append((above, before))
            for to_above, to_before in zip(scale.above, scale.before):
                above = to_above(above, None, labels)
                before = to_before(before, above, labels)
                stack.append((above, before))
        above, before = stack.pop()
        for scale in self.up:
            if hasattr(scale, "enlarge"):
                above, before = scale.enlarge["above"](above), scale.enlarge["before"](before)
            for to_above, to_before in zip(scale.above, scale.before):
                skip_above, skip_before = stack.pop()
                above = to_above(above, skip_above, labels)
                before = to_before(before, torch.cat([above, skip_before], 1), labels)
        assert not stack
        return self.out(F.elu(before))

    def nll(self, x, labels=None):
        """Per image, [n]."""
        return -log_probability(self(x, labels), x).flatten(1).sum(1)


def log_bin(upper, lower, first, last):
    """ln (F(upper) - F(lower)), the outer bins reaching to infinity.

    The bin is mirrored to where F is small, so that the difference of logarithms keeps its digits.
    """
    flip = upper + lower > 0
    a, b = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_a, log_b = F.logsigmoid(a), F.logsigmoid(b)
    inner = log_a + torch.log(-torch.expm1(log_b - log_a))
    return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inner))


def parts(parameters, channels):
    """Logits [n, K, h, w]; means, log-scales [n, c, K, h, w]; coefficients [n, 3, K, h, w] or None."""
    groups = 1 + 2 * channels + (3 if channels == 3 else 0)
    n, size, h, w = parameters.shape
    p = parameters.view(n, groups, size // groups, h, w)
    means, log_scales = p[:, 1 : 1 + channels], p[:, 1 + channels : 1 + 2 * channels].clamp(min=LEAST_LOG_SCALE, max=20.0)
    return p[:, 0], means, log_scales, torch.tanh(p[:, 1 + 2 * channels :]) if channels == 3 else None


def shifted(means, coefficients, signed):
    """Means given the channels before, from signed values [n, c, h, w]."""
    if coefficients is None:
        return means
    red, green = signed[:, 0:1], signed[:, 1:2]
    return torch.stack(
        [
            means[:, 0],
            means[:, 1] + coefficients[:, 0] * red,
            means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green,
        ],
        1,
    )


def log_bytes(means, log_scales, x):
    """ln p of bytes x, which broadcast against means."""
    signed = 2 * x / 255 - 1
    upper = (signed + HALF_BIN - means) / log_scales.exp()
    lower = (signed - HALF_BIN - means) / log_scales.exp()
    return log_bin(upper, lower, x < 0.5, x > 254.5)


def log_probability(parameters, x):
    """ln p of each pixel, [n, h, w]."""
    logits, means, log_scales, coefficients = parts(parameters, x.shape[1])
    means = shifted(means, coefficients, 2 * x / 255 - 1)
    channels = log_bytes(means, log_scales, x[:, :, None])
    return torch.logsumexp(F.log_softmax(logits, 1) + channels.sum(1), 1)


def log_levels(parameters, x):
    """ln p of the 256 bytes of each sub-pixel given the channels before it, [n, 256, c, h, w]: a ratio
    of two joint probabilities."""
    logits, means, log_scales, coefficients = parts(parameters, x.shape[1])
    means = shifted(means, coefficients, 2 * x / 255 - 1)
    weights = F.log_softmax(logits, 1)
    of_x = log_bytes(means, log_scales, x[:, :, None])
    out = []
    for c in range(x.shape[1]):
        known = weights + of_x[:, :c].sum(1)
        bytes_ = torch.arange(256, dtype=x.dtype).view(256, 1, 1, 1, 1)
        joint = known + log_bytes(means[:, c], log_scales[:, c], bytes_)  # [256, n, K, h, w]
        out.append(torch.logsumexp(joint, 2) - torch.logsumexp(known, 1))
    return torch.stack(out, 0).permute(2, 1, 0, 3, 4)
