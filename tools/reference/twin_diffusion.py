"""U-Net, noise schedules and training losses, twin of the `diffusion` family.

The module's state_dict keys are the parameter paths of the Rust family. Pixels lie in [-1, 1].
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

STEPS = 1000  # length T of the discrete schedules


def sinusoid(t, size):
    """[n] -> [n, size]: sines, then cosines, of frequencies from 1 down towards 1/10000."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=t.dtype) / half)
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def group_norm(groups, channels):
    return nn.GroupNorm(groups, channels, eps=1e-5)


class ResBlock(nn.Module):
    def __init__(self, a, b, embedding, groups):
        super().__init__()
        self.norm1 = group_norm(groups, a)
        self.conv1 = nn.Conv2d(a, b, 3, 1, 1)
        self.time = nn.Linear(embedding, b)
        self.norm2 = group_norm(groups, b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1)
        self.skip = nn.Conv2d(a, b, 1) if a != b else None

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.skip is None else self.skip(x)) + h


class Attention(nn.Module):
    """Self-attention over the pixels, one head."""

    def __init__(self, channels, groups):
        super().__init__()
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, height, width = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # [n, c, pixels]
        weights = (q.transpose(1, 2) @ k / math.sqrt(c)).softmax(-1)  # [n, queries, keys]
        h = (v @ weights.transpose(1, 2)).view(n, c, height, width)
        return x + self.proj(h)


class Level(nn.Module):
    """Blocks of one resolution, their attentions (or none) and the change of resolution (or none)."""

    def __init__(self, blocks, attention, sample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attention = nn.ModuleList(attention)
        self.sample = sample

    def block(self, i, x, temb):
        x = self.blocks[i](x, temb)
        return self.attention[i](x) if len(self.attention) else x


class UNet(nn.Module):
    """[n, C, H, W], network time [n], labels [n] or None -> [n, C, H, W].

    H and W are divisible by 2^(levels - 1). Label `classes` means "no label".
    """

    def __init__(self, *, channels, width, mult, blocks, attention_levels, groups, classes=None):
        super().__init__()
        embedding = 4 * width
        self.width = width
        self.time1 = nn.Linear(width, embedding)
        self.time2 = nn.Linear(embedding, embedding)
        if classes is not None:
            self.label = nn.Embedding(classes + 1, embedding)
        self.stem = nn.Conv2d(channels, width, 3, 1, 1)

        ch, skips, down = width, [width], []
        for level, m in enumerate(mult):
            res, attention = [], []
            for _ in range(blocks):
                res.append(ResBlock(ch, width * m, embedding, groups))
                ch = width * m
                skips.append(ch)
                if level in attention_levels:
                    attention.append(Attention(ch, groups))
            last = level == len(mult) - 1
            down.append(Level(res, attention, None if last else nn.Conv2d(ch, ch, 3, 2, 1)))
            if not last:
                skips.append(ch)
        self.down = nn.ModuleList(down)

        self.middle1 = ResBlock(ch, ch, embedding, groups)
        self.middle_attention = Attention(ch, groups)
        self.middle2 = ResBlock(ch, ch, embedding, groups)

        up = []
        for level, m in reversed(list(enumerate(mult))):
            res, attention = [], []
            for _ in range(blocks + 1):
                res.append(ResBlock(ch + skips.pop(), width * m, embedding, groups))
                ch = width * m
                if level in attention_levels:
                    attention.append(Attention(ch, groups))
            up.append(Level(res, attention, nn.Conv2d(ch, ch, 3, 1, 1) if level > 0 else None))
        self.up = nn.ModuleList(up)

        self.norm = group_norm(groups, ch)
        self.out = nn.Conv2d(ch, channels, 3, 1, 1)

    def forward(self, x, time, labels=None):
        temb = self.time2(F.silu(self.time1(sinusoid(time, self.width))))
        if labels is not None:
            temb = temb + self.label(labels)
        h = self.stem(x)
        skips = [h]
        for level in self.down:
            for i in range(len(level.blocks)):
                h = level.block(i, h, temb)
                skips.append(h)
            if level.sample is not None:
                h = level.sample(h)
                skips.append(h)
        h = self.middle1(h, temb)
        h = self.middle_attention(h)
        h = self.middle2(h, temb)
        for level in self.up:
            for i in range(len(level.blocks)):
                h = level.block(i, torch.cat([h, skips.pop()], 1), temb)
            if level.sample is not None:
                h = level.sample(F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.out(F.silu(self.norm(h)))


def betas(schedule):
    """[T] in float64: "linear" (Ho et al. 2020) or "cosine" (Nichol and Dhariwal 2021)."""
    if schedule == "linear":
        return torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    s = 0.008

    def squared_cosine(i):
        return torch.cos((i / STEPS + s) / (1 + s) * math.pi / 2) ** 2

    i = torch.arange(STEPS, dtype=torch.float64)
    return (1 - squared_cosine(i + 1) / squared_cosine(i)).clamp(max=0.999)


def alpha_bars(schedule):
    """[T] in float64; index t is the schedule after t + 1 noise steps, so index 0 is the least noise."""
    return torch.cumprod(1 - betas(schedule), 0)


def edm_scalings(sigma, sigma_data):
    """c_skip, c_out, c_in of Karras et al. 2022."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), 1 / total.sqrt()


def edm_denoise(network, x, sigma, sigma_data, labels=None):
    """D(x; sigma) and the raw network output; `sigma` is [n]."""
    c_skip, c_out, c_in = (c.view(-1, 1, 1, 1) for c in edm_scalings(sigma, sigma_data))
    raw = network(c_in * x, sigma.log() / 4, labels)
    return c_skip * x + c_out * raw, raw


def loss_terms(network, settings, x0, noise, time, labels=None):
    """Noised images, network output and loss of one batch.

    `time` is the integer step (ddpm), t in [0, 1] (flow) or sigma (edm), one per image.
    """
    each = time.view(-1, 1, 1, 1)
    if settings["framework"] == "edm":
        sd = settings["sigma_data"]
        x_t = x0 + each * noise
        denoised, raw = edm_denoise(network, x_t, time, sd, labels)
        weight = (each**2 + sd**2) / (each * sd) ** 2
        return {"x_t": x_t, "network": raw, "denoised": denoised, "total": (weight * (denoised - x0) ** 2).mean()}
    if settings["framework"] == "flow":
        x_t = (1 - each) * x0 + each * noise
        target, network_time = noise - x0, 1000 * time
    else:
        ab = alpha_bars(settings["schedule"]).to(x0.dtype)[time.long()].view(-1, 1, 1, 1)
        x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * noise
        target = {"eps": noise, "x0": x0, "v": ab.sqrt() * noise - (1 - ab).sqrt() * x0}[settings["prediction"]]
        network_time = time
    raw = network(x_t, network_time, labels)
    return {"x_t": x_t, "network": raw, "total": ((raw - target) ** 2).mean()}
