"""Denoising autoencoder, twin of the `dae` family. The spoiled images are inputs of a fixture."""

import torch
from torch import nn

from twin_autoencoder import ACTIVATIONS, Decoder, Encoder, channels_of, per_image, pixels


class Codes(nn.Module):
    """Through a code."""

    def __init__(self, shape, levels, width, hidden, latent, activation, code):
        super().__init__()
        self.encoder = Encoder(shape, levels, width, hidden, latent, activation, code)
        self.decoder = Decoder(shape, levels, width, hidden, latent, activation)

    def forward(self, x):
        return self.decoder(self.encoder(2 * x - 1))


class Skips(nn.Module):
    """A U-Net whose output is added to its unit input."""

    def __init__(self, channels, levels, width, activation):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        sizes = [channels_of(width, level) for level in range(levels + 1)]
        ins = [channels, *sizes]
        self.down = nn.ModuleList(nn.Conv2d(ins[i], sizes[i], 3, 1, 1) for i in range(levels))
        self.reductions = nn.ModuleList(nn.Conv2d(sizes[i], sizes[i], 3, 2, 1) for i in range(levels))
        self.middle = nn.Conv2d(sizes[levels - 1], sizes[levels], 3, 1, 1)
        self.up = nn.ModuleList(
            nn.Conv2d(sizes[i + 1] + sizes[i], sizes[i], 3, 1, 1) for i in reversed(range(levels))
        )
        self.out = nn.Conv2d(sizes[0], channels, 3, 1, 1)

    def forward(self, x):
        h, skips = 2 * x - 1, []
        for convolution, reduction in zip(self.down, self.reductions):
            h = self.activation(convolution(h))
            skips.append(h)
            h = self.activation(reduction(h))
        h = self.activation(self.middle(h))
        for convolution in self.up:
            twice = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h = self.activation(convolution(torch.cat([twice, skips.pop()], 1)))
        return x + self.out(h)


class Dae(nn.Module):
    """`network` is "conv", "mlp" or "unet"; `contraction` is the weight of the Jacobian's norm."""

    def __init__(
        self,
        *,
        network,
        channels,
        image_height,
        image_width,
        activation,
        loss,
        hidden=(),
        latent=1,
        code="linear",
        width=1,
        levels=0,
        contraction=0.0,
    ):
        super().__init__()
        self.loss, self.contraction, self.is_unet = loss, contraction, network == "unet"
        if self.is_unet:
            self.network = Skips(channels, levels, width, activation)
        else:
            shape = (channels, image_height, image_width)
            self.network = Codes(shape, levels, width, hidden, latent, activation, code)

    def jacobian_norm(self, x):
        """Squared Frobenius norm of the code's Jacobian by automatic differentiation, [n]."""
        signed = (2 * x - 1).detach()
        norms = []
        for image in signed:
            image = image[None]
            jacobian = torch.autograd.functional.jacobian(self.network.encoder, image, create_graph=True)
            norms.append((jacobian**2).sum())
        return torch.stack(norms)

    def terms(self, x, spoiled):
        """Loss and intermediate values for clean and spoiled unit images."""
        location = self.network(spoiled)
        if self.is_unet:
            error = (location - x).abs() if self.loss == "l1" else (location - x) ** 2
            reconstruction = error.flatten(1).sum(1)
        else:
            reconstruction = per_image(location, x, self.loss)
        out = {
            "location": location,
            "pixels": location.clamp(0, 1) if self.is_unet else pixels(location, self.loss),
            "reconstruction": reconstruction,  # [n]
            "total": reconstruction.mean(),
        }
        if not self.is_unet:
            out["code"] = self.network.encoder(2 * x - 1)
        if self.contraction > 0:
            norm = self.jacobian_norm(x)
            out["contraction"] = norm  # [n]
            out["total"] = out["total"] + self.contraction * norm.mean()
        return out
