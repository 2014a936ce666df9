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


def beside(h, condition):
    """The columns of h, then those of the condition, where there is one."""
    return h if condition is None else torch.cat([h, condition], 1)


class ConvEncoder(nn.Module):
    """[n, C, H, W] -> [n, hidden], H and W divisible by 4; `told` numbers join the flat features."""

    def __init__(self, channels, height, width, base, hidden, told=0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, base, 4, 2, 1)
        self.conv2 = nn.Conv2d(base, 2 * base, 4, 2, 1)
        self.hidden = nn.Linear(2 * base * (height // 4) * (width // 4) + told, hidden)

    def forward(self, x, condition=None):
        h = F.relu(self.conv1(x))
        h = F.relu(self.conv2(h))
        return F.relu(self.hidden(beside(h.flatten(1), condition)))


class ConvDecoder(nn.Module):
    """[n, latent] -> [n, C, H, W]."""

    def __init__(self, channels, height, width, base, hidden, latent, told=0):
        super().__init__()
        self.shape = (2 * base, height // 4, width // 4)
        self.hidden = nn.Linear(latent + told, hidden)
        self.expand = nn.Linear(hidden, math.prod(self.shape))
        self.conv1 = nn.ConvTranspose2d(2 * base, base, 4, 2, 1)
        self.conv2 = nn.ConvTranspose2d(base, channels, 4, 2, 1)

    def forward(self, z, condition=None):
        h = F.relu(self.expand(F.relu(self.hidden(beside(z, condition)))))
        h = F.relu(self.conv1(h.view(-1, *self.shape)))
        return self.conv2(h)


class MlpEncoder(nn.Module):
    """[n, C, H, W] -> [n, last hidden size]; pixels are flattened in the order C, H, W."""

    def __init__(self, pixels, hidden, activation=F.relu, told=0):
        super().__init__()
        self.activation = activation
        sizes = [pixels + told, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x, condition=None):
        h = beside(x.flatten(1), condition)
        for layer in self.layers:
            h = self.activation(layer(h))
        return h


class MlpDecoder(nn.Module):
    """[n, latent] -> [n, C, H, W]; the hidden sizes of the encoder, reversed."""

    def __init__(self, shape, hidden, latent, activation=F.relu, told=0):
        super().__init__()
        self.shape, self.activation = shape, activation
        sizes = [latent + told, *reversed(hidden)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(sizes[-1], math.prod(shape))

    def forward(self, z, condition=None):
        h = beside(z, condition)
        for layer in self.layers:
            h = self.activation(layer(h))
        return self.out(h).view(-1, *self.shape)


class Vae(nn.Module):
    """Encoder, Gaussian posterior, decoder and, where the likelihood has one, its learned scale.

    `network` is "conv" (with `width`, `hidden`) or "mlp" (with `hidden`, a list, and `activation`).
    A conditional model is told `told` numbers [n, told] wherever `condition` is an argument. `modelled`
    [H, W] is one for the pixels whose likelihood counts and zero for those the condition tells.
    """

    def __init__(
        self,
        *,
        network,
        likelihood,
        channels,
        image_height,
        image_width,
        latent,
        hidden,
        width=None,
        sigma=None,
        activation="relu",
        told=0,
        modelled=None,
    ):
        super().__init__()
        self.modelled = modelled
        assert likelihood in LIKELIHOODS, likelihood
        self.likelihood, self.sigma = likelihood, sigma
        if network == "conv":
            self.encoder = ConvEncoder(channels, image_height, image_width, width, hidden, told)
            self.decoder = ConvDecoder(channels, image_height, image_width, width, hidden, latent, told)
            features = hidden
        else:
            between = {"relu": F.relu, "tanh": torch.tanh}[activation]
            self.encoder = MlpEncoder(channels * image_height * image_width, hidden, between, told)
            self.decoder = MlpDecoder((channels, image_height, image_width), hidden, latent, between, told)
            features = hidden[-1]
        self.mu = nn.Linear(features, latent)
        self.log_var = nn.Linear(features, latent)
        scales = {"gaussian-learned": 1, "discretised-logistic": channels}.get(likelihood)
        if scales:
            self.log_scale = nn.Parameter(torch.full((scales,), math.log(0.1)))

    def posterior(self, x, condition=None):
        """mu and log_var of q(z|x), each [n, latent]."""
        h = self.encoder(x, condition)
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
        if self.modelled is not None:
            pixels = pixels * self.modelled.to(pixels.dtype)
        return pixels.flatten(1).sum(1)

    def terms(self, x, eps, beta, condition=None, free_bits=0.0):
        """Loss, its parts and the intermediate values, for posterior noise `eps` [n, latent].

        With free bits each code number's KL, a mean over the batch, counts at least `free_bits` nats.
        """
        mu, log_var = self.posterior(x, condition)
        z = mu + eps * torch.exp(log_var / 2)
        location = self.decoder(z, condition)
        reconstruction = -self.log_px_z(x, location)
        numbers = kl_of_numbers(mu, log_var)
        kl = numbers.sum(1)
        counted = torch.clamp(numbers.mean(0), min=free_bits).sum() if free_bits else kl
        return {
            "mu": mu,
            "log_var": log_var,
            "z": z,
            "location": location,
            "reconstruction": reconstruction,  # [n]
            "kl": kl,  # [n]
            "total": (reconstruction + beta * counted).mean(),
        }

    def importance_weighted_bound(self, x, eps, condition=None, weight=1.0):
        """ln p(x) bounded from below with K importance samples, [n]; `eps` is [K, n, latent].

        `weight` weighs ln p(z) - ln q(z|x); below one it is the annealed objective, no bound.
        """
        mu, log_var = self.posterior(x, condition)
        log_weights = []
        for noise in eps:
            z = mu + noise * torch.exp(log_var / 2)
            log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
            log_qz = -0.5 * (noise**2 + log_var + math.log(2 * math.pi)).sum(1)
            log_weights.append(self.log_px_z(x, self.decoder(z, condition)) + weight * (log_pz - log_qz))
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


def kl_of_numbers(mu, log_var):
    """KL(q(z|x) || N(0, I)) per image and code number, [n, latent]."""
    return -0.5 * (1 + log_var - mu**2 - torch.exp(log_var))


def kl_divergence(mu, log_var):
    """KL(q(z|x) || N(0, I)) per image, [n]."""
    return kl_of_numbers(mu, log_var).sum(1)
