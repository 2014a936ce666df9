"""VQ-VAE, twin of the `vq-vae` family: autoencoder, codebook by moving averages, and both priors.

Keys are the parameter paths of the Rust family without `autoencoder.` and `prior.`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from twin_gated_pixel_cnn import First, GatedPixelCnn, Masked

EPSILON = 1e-5
FIRST_KERNEL = 5
HEADS = 4


class Residual(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.wide = nn.Conv2d(width, inner, 3, padding=1)
        self.back = nn.Conv2d(inner, width, 1)

    def forward(self, x):
        return x + self.back(F.relu(self.wide(F.relu(x))))


def halvings(width, downsampling):
    """Channels after each halving of the sides: half the width after the first of several."""
    count = int(math.log2(downsampling))
    return [width // 2 if i == 0 and count > 1 else width for i in range(count)]


class Encoder(nn.Module):
    def __init__(self, channels, width, inner, blocks, downsampling, size):
        super().__init__()
        sizes = [channels] + halvings(width, downsampling)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(sizes, sizes[1:]))
        self.middle = nn.Conv2d(sizes[-1], width, 3, padding=1)
        self.residuals = nn.ModuleList(Residual(width, inner) for _ in range(blocks))
        self.out = nn.Conv2d(width, size, 1)

    def forward(self, x):
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        x = self.middle(x)
        for block in self.residuals:
            x = block(x)
        return self.out(F.relu(x))


class Decoder(nn.Module):
    def __init__(self, channels, width, inner, blocks, downsampling, size):
        super().__init__()
        sizes = ([channels] + halvings(width, downsampling))[::-1]
        self.middle = nn.Conv2d(size, width, 3, padding=1)
        self.residuals = nn.ModuleList(Residual(width, inner) for _ in range(blocks))
        self.convolutions = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(sizes, sizes[1:]))

    def forward(self, codes):
        x = self.middle(codes)
        for block in self.residuals:
            x = block(x)
        x = F.relu(x)
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if i + 1 < len(self.convolutions):
                x = F.relu(x)
        return x


class Codebook(nn.Module):
    def __init__(self, codes, size):
        super().__init__()
        self.register_buffer("running_count", torch.zeros(codes))
        self.register_buffer("running_sum", torch.zeros(codes, size))

    def codes(self):
        n = self.running_count
        total = n.sum()
        smooth = (n + EPSILON) / (total + len(n) * EPSILON) * total
        return self.running_sum / smooth[:, None]

    def distances(self, vectors):
        return torch.cdist(vectors, self.codes(), compute_mode="donot_use_mm_for_euclid_dist")

    def learn(self, vectors, chosen, decay):
        used = F.one_hot(chosen, len(self.running_count)).to(vectors.dtype)
        self.running_count.mul_(decay).add_((1 - decay) * used.sum(0))
        self.running_sum.mul_(decay).add_((1 - decay) * used.T @ vectors)


class VqVae(nn.Module):
    def __init__(
        self,
        *,
        channels,
        width,
        residual_blocks,
        residual_width,
        downsampling,
        codes,
        code_size,
        variance,
        commitment,
        decay,
    ):
        super().__init__()
        shape = (channels, width, residual_width, residual_blocks, downsampling, code_size)
        self.encoder, self.decoder = Encoder(*shape), Decoder(*shape)
        self.codebook = Codebook(codes, code_size)
        self.variance, self.commitment, self.decay = variance, commitment, decay

    def encode(self, x):
        return self.encoder(x - 0.5)

    def quantise(self, z):
        """Vectors [places, size], the nearest codes [places], and these as a map like z."""
        vectors = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
        chosen = self.codebook.distances(vectors).argmin(1)
        n, size, height, width = z.shape
        nearest = self.codebook.codes()[chosen].view(n, height, width, size).permute(0, 3, 1, 2)
        return vectors, chosen, nearest

    def decode(self, codes):
        return self.decoder(codes) + 0.5

    def loss(self, x):
        """Both terms, the vectors and their codes."""
        z = self.encode(x)
        vectors, chosen, nearest = self.quantise(z)
        q = z + (nearest - z).detach()
        reconstruction = (self.decode(q) - x).square().mean() / self.variance
        commitment = (z - nearest.detach()).square().mean()
        return reconstruction, commitment, vectors, chosen


class CodePixelCnn(GatedPixelCnn):
    """The gated PixelCNN that sees a vector for each code."""

    def __init__(self, *, codes, width, layers, classes):
        super().__init__(
            channels=1,
            width=width,
            first_kernel=FIRST_KERNEL,
            kernel=3,
            dilations=[1] * layers,
            levels=codes,
            classes=classes,
        )
        half = FIRST_KERNEL // 2
        self.embedding = nn.Embedding(codes, width)
        self.first = First(1, width, FIRST_KERNEL)
        self.first.vertical = Masked(width, width, (FIRST_KERNEL, FIRST_KERNEL), (half, FIRST_KERNEL))
        self.first.horizontal = Masked(width, width, (1, FIRST_KERNEL), (1, half))

    def forward(self, x, labels=None):
        n, _, height, width = x.shape
        seen = self.embedding(x[:, 0].long()).permute(0, 3, 1, 2)
        v, h = self.first.vertical(seen), self.first.horizontal(seen)
        for layer in self.layers:
            v, h = layer(v, h, labels)
        y = self.out(F.elu(h)).view(n, 1, self.outputs_per_channel, height, width)
        return y.transpose(1, 2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h):
        n, length, width = h.shape
        q, k, v = self.qkv(self.norm1(h)).view(n, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.mix(seen.transpose(1, 2).flatten(2))
        return h + self.down(F.gelu(self.up(self.norm2(h)), approximate="tanh"))


class CodeTransformer(nn.Module):
    def __init__(self, *, codes, width, layers, classes, places):
        super().__init__()
        self.levels = codes
        self.codes, self.positions = nn.Embedding(codes, width), nn.Embedding(places, width)
        if classes:
            self.classes = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, codes)

    def forward(self, x, labels=None):
        """Logits [n, k, 1, H, W] for codes x [n, 1, H, W]."""
        n, _, height, width = x.shape
        vectors = self.codes(x.flatten(1).long())
        h = F.pad(vectors, (0, 0, 1, 0))[:, :-1] + self.positions.weight
        if labels is not None:
            h = h + self.classes(labels)[:, None]
        for block in self.blocks:
            h = block(h)
        return self.out(self.norm(h)).transpose(1, 2).reshape(n, self.levels, 1, height, width)

    def nats(self, x, labels=None):
        """-ln p(x) per map, [n]."""
        return F.cross_entropy(self(x, labels), x.long(), reduction="none").flatten(1).sum(1)
