"""Variational autoencoder, twin of the `vae` family.

The module's state_dict keys are the parameter paths of the Rust family. Pixels lie in [0, 1],
likelihoods are summed over the pixels of an image and given in nats.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian-learned", "discretised-logistic")

# Below this bin probability the difference of two sigmoids has lost its digits, and the density at
# the centre of the bin times its width stands in (PixelCNN++, Salimans et al. 2017).
SMALLEST_BIN = 1e-5


class ConvEncoder(nn.Module):
    """[n, C, H, W] -> [n, hidden], H and W divisible by 4."""

    def __init__(self, channels, height, width, base, hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, base, 4, 2, 1)
        self.conv2 = nn.Conv2d(base, 2 * base, 4, 2, 1)
        self.hidden = nn.Linear(2 * base * (height // 4) * (width // 4), hidden)

    def forward(self, x):
        h = F.relu(self.conv1(x))
        h = F.relu(self.conv2(h))
        return F.relu(self.hidden(h.flatten(1)))


class ConvDecoder(nn.Module):
    """[n, latent] -> [n, C, H, W]."""

    def __init__(self, channels, height, width, base, hidden, latent):
        super().__init__()
        self.shape = (2 * base, height // 4, width // 4)
        self.hidden = nn.Linear(latent, hidden)
        self.expand = nn.Linear(hidden, math.prod(self.shape))
        self.conv1 = nn.ConvTranspose2d(2 * base, base, 4, 2, 1)
        self.conv2 = nn.ConvTranspose2d(base, channels, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.expand(F.relu(self.hidden(z))))
        h = F.relu(self.conv1(h.view(-1, *self.shape)))
        return self.conv2(h)


class MlpEncoder(nn.Module):
    """[n, C, H, W] -> [n, last hidden size]; pixels are flattened in the order C, H, W."""

    def __init__(self, pixels, hidden):
        super().__init__()
        sizes = [pixels, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        h = x.flatten(1)
        for layer in self.layers:
            h = F.relu(layer(h))
        return h


class MlpDecoder(nn.Module):
    """[n, latent] -> [n, C, H, W]; the hidden sizes of the encoder, reversed."""

    def __init__(self, shape, hidden, latent):
        super().__init__()
        self.shape = shape
        sizes = [latent, *reversed(hidden)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(sizes[-1], math.prod(shape))

    def forward(self, z):
        h = z
        for layer in self.layers:
            h = F.relu(layer(h))
        return self.out(h).view(-1, *self.shape)


class Vae(nn.Module):
    """Encoder, Gaussian posterior, decoder and, where the likelihood has one, its learned scale.

    `network` is "conv" (with `width`, `hidden`) or "mlp" (with `hidden`, a list).
    """

    def __init__(
        self, *, network, likelihood, channels, image_height, image_width, latent, hidden, width=None, sigma=None
    ):
        super().__init__()
        assert likelihood in LIKELIHOODS, likelihood
        self.likelihood, self.sigma = likelihood, sigma
        if network == "conv":
            self.encoder = ConvEncoder(channels, image_height, image_width, width, hidden)
            self.decoder = ConvDecoder(channels, image_height, image_width, width, hidden, latent)
            features = hidden
        else:
            self.encoder = MlpEncoder(channels * image_height * image_width, hidden)
            self.decoder = MlpDecoder((channels, image_height, image_width), hidden, latent)
            features = hidden[-1]
        self.mu = nn.Linear(features, latent)
        self.log_var = nn.Linear(features, latent)
        scales = {"gaussian-learned": 1, "discretised-logistic": channels}.get(likelihood)
        if scales:
            self.log_scale = nn.Parameter(torch.full((scales,), math.log(0.1)))

    def posterior(self, x):
        """mu and log_var of q(z|x), each [n, latent]."""
        h = self.encoder(x)
        return self.mu(h), self.log_var(h)

    def log_px_z(self, x, location):
        """ln p(x|z) per image, [n], for the decoder's output `location`."""
        if self.likelihood == "bernoulli":
            pixels = bernoulli_log_likelihood(location, x)
        elif self.likelihood == "gaussian":
            pixels = gaussian_log_likelihood(location, torch.tensor(math.log(self.sigma), dtype=x.dtype), x)
        elif self.likelihood == "gaussian-learned":
            pixels = gaussian_log_likelihood(location, self.log_scale, x)
        else:
            pixels = logistic_log_likelihood(location, self.log_scale.view(1, -1, 1, 1), x)
        return pixels.flatten(1).sum(1)

    def terms(self, x, eps, beta):
        """Loss, its parts and the intermediate values, for posterior noise `eps` [n, latent]."""
        mu, log_var = self.posterior(x)
        z = mu + eps * torch.exp(log_var / 2)
        location = self.decoder(z)
        reconstruction = -self.log_px_z(x, location)
        kl = kl_divergence(mu, log_var)
        return {
            "mu": mu,
            "log_var": log_var,
            "z": z,
            "location": location,
            "reconstruction": reconstruction,  # [n]
            "kl": kl,  # [n]
            "total": (reconstruction + beta * kl).mean(),
        }

    def importance_weighted_bound(self, x, eps):
        """ln p(x) bounded from below with K importance samples, [n]; `eps` is [K, n, latent]."""
        mu, log_var = self.posterior(x)
        log_weights = []
        for noise in eps:
            z = mu + noise * torch.exp(log_var / 2)
            log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
            log_qz = -0.5 * (noise**2 + log_var + math.log(2 * math.pi)).sum(1)
            log_weights.append(self.log_px_z(x, self.decoder(z)) + log_pz - log_qz)
        return torch.logsumexp(torch.stack(log_weights), 0) - math.log(len(eps))


def bernoulli_log_likelihood(logits, x):
    """Per pixel; x may be any grey value in [0, 1]."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def gaussian_log_likelihood(mean, log_sigma, x):
    """Per pixel density of a normal distribution."""
    return -((x - mean) ** 2) / (2 * torch.exp(2 * log_sigma)) - log_sigma - 0.5 * math.log(2 * math.pi)


def logistic_log_likelihood(mean, log_scale, x):
    """Per pixel probability of one of 256 bins centred at k/255; the outer bins reach to infinity."""
    scale = torch.exp(log_scale)
    upper = (x + 1 / 510 - mean) / scale
    lower = (x - 1 / 510 - mean) / scale
    centre = (x - mean) / scale
    first = -F.softplus(-upper)  # ln F(upper)
    last = -F.softplus(lower)  # ln (1 - F(lower))
    probability = torch.sigmoid(upper) - torch.sigmoid(lower)
    # The clamp keeps the branch that is not taken finite, so that its gradient is a true zero.
    inside = torch.log(probability.clamp(min=1e-12))
    density = -centre - log_scale - 2 * F.softplus(-centre) - math.log(255)
    middle = torch.where(probability > SMALLEST_BIN, inside, density)
    return torch.where(x < 0.5 / 255, first, torch.where(x > 254.5 / 255, last, middle))


def kl_divergence(mu, log_var):
    """KL(q(z|x) || N(0, I)) per image, [n]."""
    return -0.5 * (1 + log_var - mu**2 - torch.exp(log_var)).sum(1)
