"""StyleGAN2 (Karras et al. 2020) with augmentation, twin of the `stylegan2` family.

Convolutions are modulated as the paper says it: every image has its own weight, and a grouped convolution
applies them. The modules' state_dict keys are the parameter paths of the Rust family. Pixels lie in [-1, 1].
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

GAIN = 2**0.5
SLOPE = 0.2


def leaky(x):
    return F.leaky_relu(x, SLOPE) * GAIN


def normalised(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def fir(x, *, up=1, down=1, pad=(0, 0), gain=1.0):
    """Zeros between the pixels, `pad` of them before and behind, the filter (1, 3, 3, 1), every `down`-th pixel."""
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, h * up, w * up)
    wide[:, :, ::up, ::up] = x
    wide = F.pad(wide, (*pad, *pad))
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    square = torch.outer(taps, taps) / 64 * gain
    return F.conv2d(wide, square.expand(c, 1, 4, 4), groups=c)[:, :, ::down, ::down]


class Dense(nn.Module):
    """Equalised learning rate: the weight is divided by the root of its inputs as it is used."""

    def __init__(self, inputs, outputs, rate=1.0, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.rate, self.start = rate, start

    def forward(self, x):
        return F.linear(x, self.weight * (self.rate / self.weight.shape[1] ** 0.5), self.bias * self.rate)


class Mapping(nn.Module):
    def __init__(self, *, latent, style, classes, depth, rate):
        super().__init__()
        self.embedding = Dense(classes, style) if classes else None
        joined = latent + (style if classes else 0)
        self.layers = nn.ModuleList(Dense(style if i else joined, style, rate) for i in range(depth))
        self.register_buffer("running_mean", torch.zeros(style))

    def forward(self, z, classes):
        x = normalised(z)
        if self.embedding is not None:
            x = torch.cat([x, normalised(self.embedding(classes))], 1)
        for layer in self.layers:
            x = leaky(layer(x))
        return x

    @torch.no_grad()
    def track(self, styles):
        self.running_mean.mul_(0.995).add_(0.005 * styles.mean(0))

    def truncated(self, styles, psi):
        return self.running_mean + psi * (styles - self.running_mean)


def modulated(x, weight, style, *, demodulate=True, up=False):
    """A weight for each image, [n, k, c, s, s], and one grouped convolution."""
    n, c = style.shape
    weight = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    k, side = weight.shape[1], weight.shape[-1]
    x = x.reshape(1, n * c, *x.shape[2:])
    if up:
        weight = weight.transpose(1, 2).reshape(n * c, k, side, side)
        x = F.conv_transpose2d(x, weight, stride=2, groups=n)
        x = fir(x, pad=(1, 1), gain=4.0)
    else:
        x = F.conv2d(x, weight.reshape(n * k, c, side, side), padding=side // 2, groups=n)
    return x.reshape(n, k, *x.shape[2:])


class StyledConv(nn.Module):
    def __init__(self, style, inputs, outputs, up):
        super().__init__()
        self.affine = Dense(style, inputs, start=1.0)
        shape = (inputs, outputs) if up else (outputs, inputs)
        self.weight = nn.Parameter(torch.zeros(*shape, 3, 3))
        self.strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.up = up

    def forward(self, x, style, noise):
        weight = self.weight.transpose(0, 1) if self.up else self.weight
        weight = weight / (weight.shape[1] * 9) ** 0.5
        x = modulated(x, weight, self.affine(style), up=self.up)
        return leaky(x + self.strength * noise + self.bias[:, None, None])


class ToImage(nn.Module):
    def __init__(self, style, inputs, channels):
        super().__init__()
        self.affine = Dense(style, inputs, start=1.0)
        self.weight = nn.Parameter(torch.zeros(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x, style):
        style = self.affine(style) / self.weight.shape[1] ** 0.5
        return modulated(x, self.weight, style, demodulate=False) + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    def __init__(self, style, wide, width, channels, first):
        super().__init__()
        self.up = None if first else StyledConv(style, wide, width, True)
        self.conv = StyledConv(style, width, width, False)
        self.to_image = ToImage(style, width, channels)


class Synthesis(nn.Module):
    def __init__(self, *, style, widths, channels):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, widths[0], 4, 4))
        self.blocks = nn.ModuleList(
            SynthesisBlock(style, widths[max(i - 1, 0)], w, channels, i == 0) for i, w in enumerate(widths)
        )

    def sides(self):
        return [4 << i for i in range(len(self.blocks)) for _ in range(2)][1:]

    def forward(self, styles, noise):
        """A style [n, style] for each layer; noise [n, sum of the squared sides]."""
        n = len(noise)
        maps = noise.split([s * s for s in self.sides()], 1)
        maps = iter([m.reshape(n, 1, s, s) for m, s in zip(maps, self.sides())])
        layer, image = 0, None
        x = self.start.expand(n, -1, -1, -1)
        for block in self.blocks:
            for conv in (block.up, block.conv):
                if conv is not None:
                    x = conv(x, styles[layer], next(maps))
                    layer += 1
            own = block.to_image(x, styles[layer])
            image = own if image is None else own + fir(image, up=2, pad=(2, 1), gain=4.0)
        return image


class Generator(nn.Module):
    def __init__(self, *, latent, style, classes, depth, rate, widths, channels):
        super().__init__()
        self.mapping = Mapping(latent=latent, style=style, classes=classes, depth=depth, rate=rate)
        self.synthesis = Synthesis(style=style, widths=widths, channels=channels)
        self.layers = 2 * len(widths)

    def mixed(self, first, second, cuts):
        cuts = torch.as_tensor(cuts)[:, None]
        return [torch.where(layer < cuts, first, second) for layer in range(self.layers)]


class EqualConv(nn.Module):
    def __init__(self, inputs, outputs, side, bias=True, down=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.down = down

    def forward(self, x):
        side = self.weight.shape[-1]
        weight = self.weight / self.weight[0].numel() ** 0.5
        if self.down:
            return F.conv2d(fir(x, pad=(2, 2)), weight, self.bias, stride=2)
        return F.conv2d(x, weight, self.bias, padding=side // 2)


class Stage(nn.Module):
    def __init__(self, width, wide):
        super().__init__()
        self.conv = EqualConv(width, width, 3)
        self.down = EqualConv(width, wide, 3, down=True)
        self.skip = EqualConv(width, wide, 1, bias=False)

    def forward(self, x):
        around = self.skip(fir(x, down=2, pad=(1, 1)))
        return (leaky(self.down(leaky(self.conv(x)))) + around) * 0.5**0.5


def with_deviation(x):
    """Minibatch standard deviation over groups of the largest size up to 4 that divides the batch."""
    n, c, h, w = x.shape
    group = max(g for g in range(1, min(4, n) + 1) if n % g == 0)
    y = x.reshape(group, -1, c, h, w)
    y = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, y.repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)], 1)


class Discriminator(nn.Module):
    def __init__(self, *, widths, channels, classes):
        super().__init__()
        first = widths[0]
        self.from_image = EqualConv(channels, widths[-1], 1)
        pairs = list(zip(widths[1:], widths))[::-1]
        self.stages = nn.ModuleList(Stage(width, wide) for width, wide in pairs)
        self.conv = EqualConv(first + 1, first, 3)
        self.dense = Dense(16 * first, first)
        outputs = first if classes else 1
        self.out = Dense(first, outputs)
        self.embedding = Dense(classes, outputs) if classes else None

    def maps(self, x):
        x = leaky(self.from_image(x))
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, x, classes):
        x = leaky(self.conv(with_deviation(self.maps(x))))
        out = self.out(leaky(self.dense(x.flatten(1))))
        if self.embedding is None:
            return out.flatten()
        own = normalised(self.embedding(classes))
        return (out * own).sum(1) / own.shape[1] ** 0.5


def augmented(x, changes):
    """Images changed as `changes` say: one dictionary for each image, or None for all as they are."""
    if changes is None:
        return x
    n, _, side, _ = x.shape
    out = []
    for image, change in zip(x, changes):
        # From the middle of the result to that of the source, x to the right and y down.
        angle = change["turns"] * math.pi / 2
        cos, sin = round(math.cos(angle)), round(math.sin(angle))
        turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
        flip = torch.tensor([[-1.0 if change["flip"] else 1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        middle = (side - 1) / 2
        at = torch.arange(side, dtype=torch.float64) - middle
        places = torch.stack(torch.meshgrid(at, at, indexing="xy"))  # [2, side, side]: x, y
        shift = torch.tensor(change["shift"], dtype=torch.float64)[:, None, None]
        places = torch.einsum("ij,jhw->ihw", flip @ turn, places / change["zoom"] - shift)
        # PyTorch's own sampling, whose reflection is about the centres of the first and last pixel.
        grid = (places / middle).permute(1, 2, 0)[None].to(x.dtype)
        image = F.grid_sample(image[None], grid, "bilinear", "reflection", align_corners=True)[0]
        out.append((image + change["brightness"]) * change["contrast"])
    return torch.stack(out)


def r1_finite_difference(discriminator, x, v, classes, changes, *, h):
    ahead = discriminator(augmented(x + h * v, changes), classes)
    behind = discriminator(augmented(x - h * v, changes), classes)
    return ((ahead - behind) / (2 * h)).square().mean()


def path_lengths(generator, styles, directions, noise, *, h):
    ahead = generator.synthesis([styles + h * directions] * generator.layers, noise)
    behind = generator.synthesis([styles - h * directions] * generator.layers, noise)
    slope = (ahead - behind) / (2 * h)
    pixels = slope.shape[2] * slope.shape[3]
    return (slope.square().flatten(1).sum(1) / pixels + 1e-8).sqrt()


def step(generator, discriminator, optimizers, real, classes, draws, rules, path_mean):
    """One update of both networks; gives what it found and the new mean of the path lengths."""
    styles = generator.mapping(draws["z"], classes)
    generator.mapping.track(styles)
    second = generator.mapping(draws["second"], classes)
    fake = generator.synthesis(generator.mixed(styles, second, draws["cuts"]), draws["noise"])
    on_real, on_fake, again = draws["changes"]
    logits_real = discriminator(augmented(real, on_real), classes)
    logits_fake = discriminator(augmented(fake.detach(), on_fake), classes)
    loss_d = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
    found = {"loss/discriminator": loss_d, "output/styles": styles, "output/fake": fake}
    found |= {"output/logits_real": logits_real, "output/logits_fake": logits_fake}
    total = loss_d
    if draws["slope"] is not None:
        r1 = r1_finite_difference(discriminator, real, draws["slope"], classes, on_real, h=rules["r1_step"])
        found["loss/r1"] = r1
        total = total + 0.5 * rules["r1_gamma"] * rules["r1_every"] * r1
    optimizers[1].zero_grad()
    total.backward()
    found |= {f"grad/discriminator.{k}": p.grad for k, p in discriminator.named_parameters()}
    found = {k: v.detach().clone() for k, v in found.items()}
    optimizers[1].step()

    loss_g = F.softplus(-discriminator(augmented(fake, again), classes)).mean()
    found["loss/generator"] = loss_g.detach()
    total = loss_g
    if draws["path"] is not None:
        rows = len(draws["path"])
        lengths = path_lengths(generator, styles[:rows], draws["path"], draws["noise"][:rows], h=rules["path_step"])
        path_mean = path_mean + 0.01 * (lengths.mean().item() - path_mean)
        found["loss/path_length"] = lengths.mean().detach()
        total = total + rules["path_weight"] * rules["path_every"] * (lengths - path_mean).square().mean()
    optimizers[0].zero_grad()
    total.backward()
    found |= {f"grad/generator.{k}": p.grad.clone() for k, p in generator.named_parameters()}
    optimizers[0].step()
    return found, path_mean
