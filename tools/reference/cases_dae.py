"""Fixtures of the `dae` family: a code, a contractive code, a U-Net; spoiled images of each step."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_dae import Dae

STEPS = 3
ADAM = {"algorithm": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

GREY = {"channels": 1, "image_height": 8, "image_width": 12}
MODELS = {
    "conv": {
        **GREY, "network": "conv", "levels": 2, "width": 3, "hidden": [12], "latent": 4, "activation": "gelu",
        "code": "linear", "loss": "mse",
    },
    "contractive": {
        **GREY, "network": "mlp", "image_height": 5, "image_width": 6, "hidden": [], "latent": 12,
        "activation": "gelu", "code": "sigmoid", "loss": "bernoulli", "contraction": 0.5,
    },
    "unet": {
        "channels": 3, "image_height": 8, "image_width": 12, "network": "unet", "levels": 2, "width": 4,
        "activation": "gelu", "loss": "l1",
    },
}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(Dae(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
    x = draws.bytes(settings["batch"], *shape)
    # Any images serve as spoiled ones; rounded to float32, as an input is held.
    spoiled = [(x + draws.normal(*x.shape, scale=0.3)).clamp(0, 1).float().to(dtype) for _ in range(STEPS)]
    out = state(model, "weights/") | {"input/x": x}
    out |= {f"input/spoiled.{k}": s for k, s in enumerate(spoiled)}
    terms = {k: v.detach() for k, v in model.terms(x, spoiled[0]).items()}
    out["loss/total"] = scalar(terms.pop("total"))
    out["loss/reconstruction"] = scalar(terms["reconstruction"].mean())
    if "contraction" in terms:
        out["loss/contraction"] = scalar(terms["contraction"].mean())
    out |= {f"output/{k}": v for k, v in terms.items()}
    settings = settings["optimizer"]
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"]
    )
    for k in range(STEPS):
        optimizer.zero_grad()
        model.terms(x, spoiled[k])["total"].backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def case(name, model):
    name = f"dae-{name}"
    settings = {"model": model, "batch": 4, "optimizer": ADAM}
    return Case(name, {"family": "dae", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield from (case(name, model) for name, model in MODELS.items())
