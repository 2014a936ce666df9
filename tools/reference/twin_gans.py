"""Twins of the families `gan`, `cgan`, `acgan` and `wgan`: networks, and the step they share.

The modules' state_dict keys are the parameter paths of the Rust families. Pixels lie in [-1, 1], classes
are one-hot rows. Every discriminator gives (logits [n], class logits [n, classes] or None).
"""

import torch
from torch import nn
from torch.nn import functional as F

from twin_dcgan import Discriminator, Generator, discriminator_loss, generator_loss


class MlpGenerator(nn.Module):
    """Goodfellow et al. 2014: fully connected, ReLU, tanh."""

    def __init__(self, *, latent, hidden, shape):
        super().__init__()
        sizes = [latent, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(sizes[-1], shape[0] * shape[1] * shape[2])
        self.shape = shape

    def forward(self, z, classes):
        h = z
        for layer in self.layers:
            h = F.relu(layer(h))
        return torch.tanh(self.out(h)).reshape(-1, *self.shape)


class MlpDiscriminator(nn.Module):
    """Fully connected, leaky ReLU of slope 0.2."""

    def __init__(self, *, hidden, shape):
        super().__init__()
        sizes = [shape[0] * shape[1] * shape[2], *hidden[::-1]]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(sizes[-1], 1)

    def forward(self, x, classes):
        h = x.flatten(1)
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
        return self.out(h).flatten(), None


class PlainGenerator(Generator):
    def forward(self, z, classes):
        return super().forward(z[:, :, None, None])


class Critic(Discriminator):
    """The Wasserstein critic: biases in place of normalisation, none behind the value."""

    def __init__(self, **sizes):
        super().__init__(**sizes, biases=True, out_bias=False)

    def forward(self, x, classes):
        return super().forward(x), None


class ClassGenerator(nn.Module):
    """A vector for the class is joined to the latent."""

    def __init__(self, *, size, channels, width, latent, class_latent, classes):
        super().__init__()
        self.embedding = nn.Embedding(classes, class_latent)
        self.body = Generator(size=size, channels=channels, width=width, latent=latent + class_latent)

    def forward(self, z, classes):
        own = classes @ self.embedding.weight
        return self.body(torch.cat([z, own], 1)[:, :, None, None])


class Normalised(nn.Module):
    """A discriminator in the DCGAN's layout with one more weight behind those of its `body`.

    `extra` names that weight's owner where spectral normalisation reaches it too.
    """

    extra = None

    def power_iteration(self):
        self.body.power_iteration()
        if self.extra:
            with torch.no_grad():
                matrix = self.extra.weight.flatten(1)
                self.body.v["extra"] = F.normalize(matrix.T @ self.body.u["extra"], dim=0, eps=1e-12)
                self.body.u["extra"] = F.normalize(matrix @ self.body.v["extra"], dim=0, eps=1e-12)

    def extra_weight(self):
        weight = self.extra.weight
        if self.body.spectral_norm:
            weight = weight / (self.body.u["extra"] @ weight.flatten(1) @ self.body.v["extra"])
        return weight

    def matrices(self):
        own = {"extra": self.extra} if self.extra else {}
        return {**self.body.convs(), **own}


class ProjectionDiscriminator(Normalised):
    """Miyato and Koyama 2018: logit = l(phi) + <e_y, sum of phi over positions>."""

    def __init__(self, *, size, channels, width, spectral_norm, classes):
        super().__init__()
        self.embedding = nn.Embedding(classes, width * size // 8)
        layout = {"size": size, "channels": channels, "width": width, "spectral_norm": spectral_norm}
        self.body = Discriminator(**layout, out_bias=False)

    @property
    def extra(self):
        return self.embedding

    def forward(self, x, classes):
        maps = self.body.maps(x)
        own = classes @ self.extra_weight()
        return self.body.logits(maps) + (maps.sum((2, 3)) * own).sum(1), None


class JoinedDiscriminator(Normalised):
    """A learned image for the class is one more channel."""

    def __init__(self, *, size, channels, width, spectral_norm, classes):
        super().__init__()
        self.embedding = nn.Embedding(classes, size * size)
        layout = {"size": size, "channels": channels + 1, "width": width, "spectral_norm": spectral_norm}
        self.body = Discriminator(**layout, out_bias=False)

    def forward(self, x, classes):
        own = (classes @ self.embedding.weight).reshape(-1, 1, *x.shape[2:])
        return self.body(torch.cat([x, own], 1)), None


class NamingDiscriminator(Normalised):
    """Odena et al. 2017: a second head names the class."""

    def __init__(self, *, size, channels, width, spectral_norm, classes):
        super().__init__()
        layout = {"size": size, "channels": channels, "width": width, "spectral_norm": spectral_norm}
        self.body = Discriminator(**layout, out_bias=False)
        self.classes = nn.Conv2d(width * size // 8, classes, 4)

    @property
    def extra(self):
        return self.classes

    def forward(self, x, classes):
        maps = self.body.maps(x)
        return self.body.logits(maps), F.conv2d(maps, self.extra_weight(), self.classes.bias).flatten(1)


def cross_entropy(logits, classes):
    return -(F.log_softmax(logits, 1) * classes).sum(1).mean()


def discriminate(generator, discriminator, optimizer, parts, rules):
    """One update of the discriminator on micro-batches (x, classes, z); gives the images it was shown."""
    if rules["spectral_norm"]:
        discriminator.power_iteration()
    optimizer.zero_grad()
    shown, losses, named, first = [], [], [], None
    for x, classes, z in parts:
        fake = generator(z, classes)
        real_logits, real_named = discriminator(x, classes)
        fake_logits, fake_named = discriminator(fake.detach(), classes)
        loss = discriminator_loss(rules["loss"], real_logits, fake_logits)
        losses.append(loss.detach())
        if real_named is not None:
            wrong = cross_entropy(real_named, classes) + cross_entropy(fake_named, classes)
            named.append(wrong.detach())
            loss = loss + rules["class_weights"][0] * wrong
        (loss / len(parts)).backward()
        first = first or (fake.detach(), real_logits.detach(), fake_logits.detach(), real_named)
        shown.append((fake, classes))
    grads = {k: p.grad.clone() for k, p in discriminator.named_parameters()}
    optimizer.step()
    if rules["clip"]:
        with torch.no_grad():
            for p in discriminator.parameters():
                p.clamp_(-rules["clip"], rules["clip"])
    return shown, {"losses": losses, "named": named, "grads": grads, "first": first}


def generate(generator, discriminator, optimizer, shown, rules):
    """One update of the generator against the discriminator as it now is."""
    optimizer.zero_grad()
    losses, named = [], []
    for fake, classes in shown:
        logits, fake_named = discriminator(fake, classes)
        loss = generator_loss(rules["loss"], logits)
        losses.append(loss.detach())
        if fake_named is not None:
            wrong = cross_entropy(fake_named, classes)
            named.append(wrong.detach())
            loss = loss + rules["class_weights"][1] * wrong
        (loss / len(shown)).backward()
    grads = {k: p.grad.clone() for k, p in generator.named_parameters()}
    optimizer.step()
    return {"losses": losses, "named": named, "grads": grads}
