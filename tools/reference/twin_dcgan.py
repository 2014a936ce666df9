"""DCGAN (Radford et al. 2016), twin of the `dcgan` family: two networks, four losses, one step.

The modules' state_dict keys are the parameter paths of the Rust family. Pixels lie in [-1, 1].
"""

import torch
from torch import nn
from torch.nn import functional as F

LOSSES = ("non-saturating", "least-squares", "hinge", "wasserstein")


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


class Block(nn.Module):
    """One convolution and, where there is one, its normalisation."""

    def __init__(self, conv, norm_channels=None):
        super().__init__()
        self.conv = conv
        self.norm = norm(norm_channels) if norm_channels else None


class Generator(nn.Module):
    """[n, latent, 1, 1] -> [n, C, S, S] in [-1, 1]."""

    def __init__(self, *, size, channels, width, latent):
        super().__init__()
        wide = width * size // 8
        blocks = [Block(nn.ConvTranspose2d(latent, wide, 4, 1, 0, bias=False), wide)]
        while wide > width:
            blocks.append(Block(nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False), wide // 2))
            wide //= 2
        self.blocks = nn.ModuleList(blocks)
        self.out = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)

    def forward(self, z):
        h = z
        for block in self.blocks:
            h = F.relu(block.norm(block.conv(h)))
        return torch.tanh(self.out(h))


class Discriminator(nn.Module):
    """[n, C, S, S] -> logits [n].

    With spectral normalisation there is no batch normalisation, every convolution has a bias, and
    its weight is divided by u^T W v with the vectors that `power_iteration` last left. `biases` and
    `out_bias` say otherwise where they are given: biases in place of normalisation, and behind the logits.
    """

    def __init__(self, *, size, channels, width, spectral_norm=False, biases=None, out_bias=None):
        super().__init__()
        biases = spectral_norm if biases is None else biases
        blocks = [Block(nn.Conv2d(channels, width, 4, 2, 1, bias=biases))]
        wide = width
        while wide < width * size // 8:
            conv = nn.Conv2d(wide, 2 * wide, 4, 2, 1, bias=biases)
            blocks.append(Block(conv, None if biases else 2 * wide))
            wide *= 2
        self.blocks = nn.ModuleList(blocks)
        self.out = nn.Conv2d(wide, 1, 4, 1, 0, bias=spectral_norm if out_bias is None else out_bias)
        self.spectral_norm = spectral_norm
        self.u, self.v = {}, {}  # by layer name; no part of the state_dict

    def convs(self):
        """Every convolution by its path, in the order of the forward pass."""
        return {**{f"blocks.{i}.conv": b.conv for i, b in enumerate(self.blocks)}, "out": self.out}

    @torch.no_grad()
    def power_iteration(self):
        """One step per layer: v = normalize(W^T u), then u = normalize(W v)."""
        for name, conv in self.convs().items():
            matrix = conv.weight.flatten(1)  # [out, in * k * k]
            self.v[name] = F.normalize(matrix.T @ self.u[name], dim=0, eps=1e-12)
            self.u[name] = F.normalize(matrix @ self.v[name], dim=0, eps=1e-12)

    def apply_conv(self, name, conv, x):
        weight = conv.weight
        if self.spectral_norm:
            weight = weight / (self.u[name] @ weight.flatten(1) @ self.v[name])
        return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding)

    def maps(self, x):
        """The map before the logits, [n, C, 4, 4]."""
        h = x
        for i, block in enumerate(self.blocks):
            h = self.apply_conv(f"blocks.{i}.conv", block.conv, h)
            if block.norm is not None:
                h = block.norm(h)
            h = F.leaky_relu(h, 0.2)
        return h

    def logits(self, maps):
        return self.apply_conv("out", self.out, maps).flatten()

    def forward(self, x):
        return self.logits(self.maps(x))


def discriminator_loss(kind, real, fake, smoothing=0.0):
    """Scalar from the logits of real and generated images; `smoothing` lowers the real target."""
    if kind == "non-saturating":
        on_real = (1 - smoothing) * F.softplus(-real) + smoothing * F.softplus(real)
        return on_real.mean() + F.softplus(fake).mean()
    if kind == "least-squares":
        return 0.5 * ((real - (1 - smoothing)) ** 2).mean() + 0.5 * (fake**2).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind, fake):
    """Scalar from the logits of generated images."""
    if kind == "non-saturating":
        return F.softplus(-fake).mean()
    if kind == "least-squares":
        return 0.5 * ((fake - 1) ** 2).mean()
    return -fake.mean()


def step(generator, discriminator, optimizer_g, optimizer_d, real, z, *, loss, smoothing):
    """One update of both networks in training mode; the gradients are copied out as they are used."""
    fake = generator(z)
    if discriminator.spectral_norm:
        discriminator.power_iteration()
    logits_real = discriminator(real)
    logits_fake = discriminator(fake.detach())
    loss_d = discriminator_loss(loss, logits_real, logits_fake, smoothing)
    optimizer_d.zero_grad()
    loss_d.backward()
    grads_d = {k: p.grad.clone() for k, p in discriminator.named_parameters()}
    optimizer_d.step()

    logits_updated = discriminator(fake)
    loss_g = generator_loss(loss, logits_updated)
    optimizer_g.zero_grad()
    loss_g.backward()
    grads_g = {k: p.grad.clone() for k, p in generator.named_parameters()}
    optimizer_g.step()
    return {
        "fake": fake.detach(),
        "logits_real": logits_real.detach(),
        "logits_fake": logits_fake.detach(),
        "logits_fake_updated": logits_updated.detach(),
        "loss_d": loss_d.detach(),
        "loss_g": loss_g.detach(),
        "grads_d": grads_d,
        "grads_g": grads_g,
    }


def r1_finite_difference(discriminator, x, v, *, h, gamma):
    """gamma/2 mean_n ((D(x + h v) - D(x - h v)) / 2h)^2: needs first derivatives only."""
    slope = (discriminator(x + h * v) - discriminator(x - h * v)) / (2 * h)
    return gamma / 2 * (slope**2).mean()


def r1_exact(discriminator, x, *, gamma):
    """The published penalty by double backward: gamma/2 mean_n ||d(sum of logits)/dx_n||^2."""
    x = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gamma / 2 * grad.pow(2).flatten(1).sum(1).mean()


def r1_jacobian(discriminator, x, *, gamma):
    """What the finite differences tend to for h -> 0 in the mean over v: gamma/2 mean_n ||d l_n/dx||^2.

    Batch normalisation lets the logit of one image depend on the others, so the derivative is taken
    with respect to the whole batch. Without it this equals `r1_exact`.
    """
    x = x.clone().requires_grad_(True)
    logits = discriminator(x)
    total = 0
    for logit in logits:
        (grad,) = torch.autograd.grad(logit, x, create_graph=True)
        total = total + grad.pow(2).sum()
    return gamma / 2 * total / len(logits)
