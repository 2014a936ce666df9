"""Conditional variational autoencoder, twin of the `cvae` family: the twin of `vae`, told a condition.

The module's state_dict keys are the parameter paths of the Rust family without their first part, `net`.
"""

import torch
from torch.nn import functional as F

from twin_vae import Vae


def part(condition, height, width):
    """Rows and columns of the known part, which begins in the upper left corner; None for a class."""
    return {
        "top": (height // 2, width),
        "left": (height, width // 2),
        "quarter": (height // 2, width // 2),
    }.get(condition)


class Cvae(Vae):
    """`condition` is "class" (of `classes`), "top", "left" or "quarter"; the rest is as for `Vae`."""

    def __init__(self, *, condition, classes=0, **model):
        known = part(condition, model["image_height"], model["image_width"])
        modelled = None
        told = classes
        if known:
            told = model["channels"] * known[0] * known[1]
            modelled = torch.ones(model["image_height"], model["image_width"])
            modelled[: known[0], : known[1]] = 0
        super().__init__(**model, told=told, modelled=modelled)
        self.known, self.classes = known, classes

    def condition(self, x, labels):
        """What is told of images x: one number per class, or the known pixels in the order C, H, W."""
        if self.known:
            return x[:, :, : self.known[0], : self.known[1]].flatten(1)
        return F.one_hot(labels.long(), self.classes).to(x.dtype)

    def expected(self, z, condition):
        """Expected pixels of a Bernoulli model; known ones as they are told."""
        x = torch.sigmoid(self.decoder(z, condition))
        if self.known:
            rows, columns = self.known
            x[:, :, :rows, :columns] = condition.view(len(x), -1, rows, columns)
        return x
