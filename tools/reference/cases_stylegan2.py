"""Fixtures of the `stylegan2` family: three whole steps, without and with classes and augmentation."""

import torch
from torch.nn import functional as F

from fixture import Case, Draws, scalar, state
from twin_stylegan2 import Dense, Discriminator, Generator, step

STEPS = 3
ADAM = {"algorithm": "adam", "lr": 2e-3, "betas": [0.0, 0.99], "eps": 1e-8}
RULES = {"r1_step": 0.01, "path_step": 0.1, "r1_gamma": 0.5, "r1_every": 2, "path_weight": 0.5, "path_every": 2}
NONE = {"flip": False, "turns": 0, "shift": [0, 0], "zoom": 1.0, "brightness": 0.0, "contrast": 1.0}
CHANGES = [
    {"flip": True, "turns": 1},
    {"shift": [1, -1], "brightness": 0.25},
    {"zoom": 1.25, "contrast": 1.5},
    {},
    {"turns": 3, "zoom": 0.75, "shift": [0, 1]},
    {"flip": True, "contrast": 0.5, "brightness": -0.5, "turns": 2},
]

# The settings of the networks, whether the images are augmented, which regularisation, images of a batch
CASES = {
    "stylegan2": (
        {"latent": 5, "style": 6, "classes": 0, "depth": 2, "rate": 0.1, "base": 48, "max": 4, "channels": 1, "side": 16},
        False, [], 4,
    ),
    "stylegan2-regularised": (
        {"latent": 4, "style": 5, "classes": 0, "depth": 2, "rate": 0.1, "base": 32, "max": 4, "channels": 1, "side": 8},
        False, ["slope", "path"], 5,
    ),
    "stylegan2-classes-augmented": (
        {"latent": 4, "style": 5, "classes": 3, "depth": 1, "rate": 0.1, "base": 32, "max": 4, "channels": 3, "side": 8},
        True, ["slope"], 6,
    ),
}


def widths(model):
    sides = [4 << i for i in range(model["side"].bit_length() - 3 + 1)]
    return [min(model["base"] // side, model["max"]) for side in sides if side <= model["side"]]


def fill(draws, module):
    """Numbers of the size each parameter starts with; none is left at zero or one."""
    module.to(draws.dtype)
    with torch.no_grad():
        for owner in module.modules():
            for key, p in owner.named_parameters(recurse=False):
                scale, middle = 1.0, 0.0
                if isinstance(owner, Dense):
                    scale = (1.0 if key == "weight" else 0.2) / owner.rate
                    middle = owner.start if key == "bias" else 0.0
                elif key in ("bias", "strength"):
                    scale = 0.2
                p.copy_((middle + draws.normal(*p.shape, scale=scale)).float())
            for _, b in owner.named_buffers(recurse=False):
                b.copy_(draws.normal(*b.shape, scale=0.2))
    return module


def changes_for(batch, first):
    return [{**NONE, **CHANGES[(first + i) % len(CHANGES)]} for i in range(batch)]


def build(name, settings, dtype):
    draws, model, rules = Draws(name, dtype), settings["model"], settings["rules"]
    batch, side, channels = settings["batch"], model["side"], model["channels"]
    sizes = {"widths": widths(model), "channels": channels, "classes": model["classes"]}
    told = {k: model[k] for k in ("latent", "style", "depth", "rate")}
    g = fill(draws, Generator(**sizes, **told))
    d = fill(draws, Discriminator(**sizes))
    real = (draws.bytes(batch, channels, side, side) * 2 - 1).float().to(dtype)
    out = state(g, "weights/generator.") | state(d, "weights/discriminator.") | {"input/x": real}
    classes = None
    if model["classes"]:
        labels = torch.arange(batch) % model["classes"]
        classes = F.one_hot(labels, model["classes"]).to(dtype)
        out["input/labels"] = labels.to(dtype)
    noise_size = sum(s * s for s in g.synthesis.sides())
    all_draws = []
    for k in range(STEPS):
        own = {
            "z": draws.normal(batch, model["latent"]),
            "second": draws.normal(batch, model["latent"]),
            "noise": draws.normal(batch, noise_size),
            "slope": draws.normal(*real.shape) if "slope" in settings["terms"] else None,
            "path": None,
        }
        if "path" in settings["terms"]:
            directions = draws.normal((batch + 1) // 2, model["style"]).double()
            own["path"] = F.normalize(directions, dim=1).float().to(dtype)
        out |= {f"input/{key}.{k}": v for key, v in own.items() if v is not None}
        own["cuts"], own["changes"] = settings["cuts"], settings["changes"] or [None] * 3
        all_draws.append(own)

    adam = {"lr": ADAM["lr"], "betas": tuple(ADAM["betas"]), "eps": ADAM["eps"]}
    optimizers = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    path_mean = 0.0
    for k in range(STEPS):
        found, path_mean = step(g, d, optimizers, real, classes, all_draws[k], rules, path_mean)
        if k == 0:
            out |= {key: scalar(v) if key.startswith("loss/") else v for key, v in found.items()}
            with torch.no_grad():
                out["output/truncated"] = g.mapping.truncated(found["output/styles"], 0.5)
    out["output/path_mean"] = torch.tensor([path_mean], dtype=dtype)
    return out | state(g, "after3/generator.") | state(d, "after3/discriminator.")


def cases():
    for name, (model, augment, terms, batch) in CASES.items():
        layers = 2 * len(widths(model))
        settings = {"family": "stylegan2", "model": model, "batch": batch, "terms": terms, "rules": RULES}
        settings["cuts"] = [[layers, 1, layers - 1, 2, layers, 3][i] for i in range(batch)]
        settings["changes"] = [changes_for(batch, first) for first in (0, 2, 4)] if augment else None
        settings["optimizer"] = ADAM
        yield Case(name, settings, lambda dtype, n=name, s=settings: build(n, s, dtype))
