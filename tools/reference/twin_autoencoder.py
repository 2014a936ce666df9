"""Autoencoder, twin of the `autoencoder` family; its encoder and decoder serve the `dae` family too.

The module's state_dict keys are the parameter paths of the Rust family. Images come in as unit pixels
and are shown to the networks in [-1, 1]; losses are summed over the pixels of an image.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid}


def channels_of(width, level):
    """Channels after the halving `level`, counted from zero."""
    return width if level == 0 else 2 * width


class Encoder(nn.Module):
    """Signed [n, C, H, W] -> [n, latent]; `levels` is 0 for fully connected layers alone."""

    def __init__(self, shape, levels, width, hidden, latent, activation, code):
        super().__init__()
        self.activation, self.code = ACTIVATIONS[activation], code
        channels = [shape[0]] + [channels_of(width, level) for level in range(levels)]
        self.reductions = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(channels, channels[1:]))
        self.convolutions = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for c in channels[1:-1])
        self.smallest = (channels[-1], shape[1] >> levels, shape[2] >> levels)
        sizes = [math.prod(self.smallest), *hidden, latent]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for level, reduction in enumerate(self.reductions):
            x = self.activation(reduction(x))
            if level < len(self.convolutions):
                x = self.activation(self.convolutions[level](x))
        h = x.flatten(1)
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        h = self.layers[-1](h)
        return torch.sigmoid(h) if self.code == "sigmoid" else h


class Decoder(nn.Module):
    """[n, latent] -> location of the pixels [n, C, H, W]; the encoder mirrored."""

    def __init__(self, shape, levels, width, hidden, latent, activation):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        channels = [channels_of(width, level) for level in reversed(range(levels))] + [shape[0]]
        self.smallest = (channels[0], shape[1] >> levels, shape[2] >> levels)
        sizes = [latent, *reversed(hidden), math.prod(self.smallest)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.enlargements = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1) for a, b in zip(channels, channels[1:])
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for c in channels[1:-1])

    def forward(self, code):
        h = code
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        h = self.layers[-1](h)
        if len(self.enlargements) > 0:
            h = self.activation(h)
        x = h.view(-1, *self.smallest)
        for i, enlargement in enumerate(self.enlargements):
            x = enlargement(x)
            if i < len(self.convolutions):
                x = self.activation(self.convolutions[i](self.activation(x)))
        return x


def pixels(location, loss):
    """Unit pixels of a decoder's output."""
    return torch.sigmoid(location) if loss == "bernoulli" else (torch.tanh(location) + 1) / 2


def per_image(location, x, loss):
    """The loss of each image, [n]."""
    if loss == "bernoulli":
        each = F.binary_cross_entropy_with_logits(location, x, reduction="none")
    elif loss == "l1":
        each = (pixels(location, loss) - x).abs()
    else:
        each = (pixels(location, loss) - x) ** 2
    return each.flatten(1).sum(1)


class Autoencoder(nn.Module):
    """`network` is "conv" or "mlp"."""

    def __init__(
        self, *, network, channels, image_height, image_width, hidden, latent, activation, code, loss, width=1, levels=0
    ):
        super().__init__()
        assert (network == "conv") == (levels > 0)
        shape = (channels, image_height, image_width)
        self.loss = loss
        self.encoder = Encoder(shape, levels, width, hidden, latent, activation, code)
        self.decoder = Decoder(shape, levels, width, hidden, latent, activation)

    def terms(self, x):
        """Loss and intermediate values for unit images."""
        code = self.encoder(2 * x - 1)
        location = self.decoder(code)
        loss = per_image(location, x, self.loss)
        return {
            "code": code,
            "location": location,
            "pixels": pixels(location, self.loss),
            "per_image": loss,  # [n]
            "total": loss.mean(),
        }
