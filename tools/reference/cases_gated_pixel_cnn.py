"""Fixtures of the `gated-pixel-cnn` family: two levels with classes, sixteen levels, colours with classes."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_gated_pixel_cnn import GatedPixelCnn

STEPS = 3
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

# None is square, so that a height taken for a width shows.
MODELS = {
    "binary": ((6, 8), 4, {"channels": 1, "width": 6, "first_kernel": 5, "dilations": [1, 2], "levels": 2, "classes": 3}),
    "grey": ((7, 5), 3, {"channels": 1, "width": 4, "first_kernel": 3, "kernel": 5, "dilations": [2, 1], "levels": 16}),
    "colour": ((5, 6), 3, {"channels": 3, "width": 6, "dilations": [1, 2], "levels": 4, "classes": 2}),
    # As many features as the fast convolutions of the Rust side need to take over.
    "wide": ((8, 9), 2, {"channels": 1, "width": 16, "dilations": [1], "levels": 2}),
}
DEFAULTS = {"first_kernel": 7, "kernel": 3, "classes": 0}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(GatedPixelCnn(**settings["model"]))
    batch, (height, width) = settings["batch"], settings["size"]
    x = draws.below(settings["model"]["levels"], batch, settings["model"]["channels"], height, width)
    out = state(model, "weights/") | {"input/x": x}
    labels = None
    if settings["model"]["classes"]:
        # Every class at least once.
        drawn = torch.arange(batch) % settings["model"]["classes"]
        out["input/labels"] = drawn.to(dtype)
        labels = drawn
    with torch.no_grad():
        out["output/outputs"] = model(x, labels)
        nats = model.nats(x, labels)
    out["output/nats"] = nats
    out["loss/total"] = scalar(nats.mean())

    adam = settings["optimizer"]
    optimizer = torch.optim.Adam(model.parameters(), lr=adam["lr"], betas=tuple(adam["betas"]), eps=adam["eps"])
    for k in range(STEPS):
        optimizer.zero_grad()
        model.nats(x, labels).mean().backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def case(name, size, batch, model):
    name = f"gated-pixel-cnn-{name}"
    settings = {"model": {**DEFAULTS, **model}, "size": list(size), "batch": batch, "optimizer": ADAM}
    return Case(name, {"family": "gated-pixel-cnn", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield from (case(name, size, batch, model) for name, (size, batch, model) in MODELS.items())
