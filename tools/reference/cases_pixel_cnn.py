"""Fixtures of the `pixel-cnn` family: grey pixels of two levels, and colours of four levels by class."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_pixel_cnn import PixelCnn, negative_log_likelihood

STEPS = 3
BATCH = 4
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

MODELS = {
    "binary": ({"channels": 1, "width": 6, "blocks": 2, "head": 5, "levels": 2}, [8, 8]),
    # Not square, and with features that three colours do not share evenly.
    "colour": ({"channels": 3, "width": 7, "blocks": 2, "head": 8, "levels": 4, "classes": 3}, [6, 8]),
    # Wide enough for the filtered convolutions of training.
    "wide": ({"channels": 1, "width": 16, "blocks": 1, "head": 16, "levels": 2}, [9, 12]),
}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(PixelCnn(**settings["model"]))
    shape = [settings["model"]["channels"], *settings["size"]]
    x = draws.below(settings["model"]["levels"], BATCH, *shape)
    out = state(model, "weights/") | {"input/x": x}
    labels = None
    if settings["model"].get("classes"):
        out["input/labels"] = draws.below(settings["model"]["classes"], BATCH)
        labels = out["input/labels"].long()

    with torch.no_grad():
        outputs = model(x, labels)
        nats = negative_log_likelihood(outputs, x)
    out |= {"output/outputs": outputs, "output/nats": nats, "loss/total": scalar(nats.mean())}

    optimizer = torch.optim.Adam(model.parameters(), lr=ADAM["lr"], betas=tuple(ADAM["betas"]), eps=ADAM["eps"])
    for k in range(STEPS):
        optimizer.zero_grad()
        negative_log_likelihood(model(x, labels), x).mean().backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def cases():
    for name, (model, size) in MODELS.items():
        name = f"pixel-cnn-{name}"
        settings = {"model": model, "size": size, "optimizer": ADAM}
        yield Case(name, {"family": "pixel-cnn", **settings}, lambda dtype, n=name, s=settings: build(n, s, dtype))
