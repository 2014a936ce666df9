"""Fixtures of the `pixel-rnn` family: each cell, not square, and colours of four levels by class."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_pixel_rnn import PixelRnn, negative_log_likelihood

STEPS = 3
BATCH = 4
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

GREY = {"channels": 1, "hidden": 5, "layers": 2, "head": 7, "levels": 2}
MODELS = {
    "row-lstm": ({**GREY, "cell": "row-lstm"}, [6, 5]),
    "diagonal-bilstm": ({**GREY, "cell": "diagonal-bilstm"}, [4, 6]),
    "row-gru": ({**GREY, "cell": "row-gru"}, [5, 6]),
    "row-lstm-colour": (
        {"cell": "row-lstm", "channels": 3, "hidden": 6, "layers": 1, "head": 9, "levels": 4, "classes": 3},
        [4, 5],
    ),
    "diagonal-bilstm-colour": (
        {"cell": "diagonal-bilstm", "channels": 3, "hidden": 6, "layers": 1, "head": 6, "levels": 4},
        [5, 3],
    ),
    # Wide enough for the filtered convolutions of training.
    "row-lstm-wide": ({**GREY, "cell": "row-lstm", "hidden": 16, "layers": 1, "head": 16}, [5, 9]),
}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(PixelRnn(**settings["model"]))
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
    out |= {"output/outputs": outputs.clone(), "output/nats": nats, "loss/total": scalar(nats.mean())}

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
        name = f"pixel-rnn-{name}"
        settings = {"model": model, "size": size, "optimizer": ADAM}
        yield Case(name, {"family": "pixel-rnn", **settings}, lambda dtype, n=name, s=settings: build(n, s, dtype))
