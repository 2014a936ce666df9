"""Fixtures of the `wavenet` family: grey pixels of two levels, and colours of four levels by class."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_wavenet import WaveNet, negative_log_likelihood

STEPS = 3
BATCH = 4
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

GREY = {"channels": 1, "image_height": 8, "image_width": 8, "skip": 8, "levels": 2, "positions": True}
MODELS = {
    # The stack 1, 2, 4 twice.
    "binary": {**GREY, "width": 6, "dilations": [1, 2, 4, 1, 2, 4]},
    # Not square; a dilation of a row of sub-pixels, and one beyond the image.
    "colour": {
        "channels": 3, "image_height": 4, "image_width": 5, "width": 6, "skip": 7, "dilations": [1, 2, 15, 100],
        "levels": 4, "positions": True, "classes": 3,
    },
    # Wide enough for the filtered convolutions of training, and without positions.
    "wide": {**GREY, "width": 16, "dilations": [1, 8], "positions": False},
}  # fmt: skip


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(WaveNet(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
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
    for name, model in MODELS.items():
        name = f"wavenet-{name}"
        settings = {"model": model, "optimizer": ADAM}
        yield Case(name, {"family": "wavenet", **settings}, lambda dtype, n=name, s=settings: build(n, s, dtype))
