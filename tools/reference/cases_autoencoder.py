"""Fixtures of the `autoencoder` family: both networks, each loss, each activation."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_autoencoder import Autoencoder

STEPS = 3
ADAM = {"algorithm": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

CONV = {"network": "conv", "channels": 1, "image_height": 8, "image_width": 8, "levels": 2, "width": 3}
MLP = {"network": "mlp", "channels": 1, "image_height": 6, "image_width": 5}
MODELS = {
    # Three levels and no hidden layer, as in the tutorial whose weights are imported.
    "conv-mse": {
        **CONV, "levels": 3, "hidden": [], "latent": 4, "activation": "gelu", "code": "linear", "loss": "mse",
    },
    # Not square, so that a height taken for a width shows.
    "conv-l1": {
        **CONV, "channels": 3, "image_width": 12, "hidden": [12], "latent": 5, "activation": "relu", "code": "sigmoid",
        "loss": "l1",
    },
    "mlp-bernoulli": {
        **MLP, "hidden": [16, 12], "latent": 4, "activation": "sigmoid", "code": "linear", "loss": "bernoulli",
    },
}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(Autoencoder(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
    x = draws.bytes(settings["batch"], *shape)
    out = state(model, "weights/") | {"input/x": x}
    with torch.no_grad():
        terms = model.terms(x)
    out["loss/total"] = scalar(terms.pop("total"))
    out |= {f"output/{k}": v for k, v in terms.items()}
    settings = settings["optimizer"]
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"]
    )
    for k in range(STEPS):
        optimizer.zero_grad()
        model.terms(x)["total"].backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def case(name, model):
    name = f"autoencoder-{name}"
    settings = {"model": model, "batch": 4, "optimizer": ADAM}
    return Case(name, {"family": "autoencoder", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield from (case(name, model) for name, model in MODELS.items())
