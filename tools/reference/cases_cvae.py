"""Fixtures of the `cvae` family: a class and two known parts, both networks, one and several draws."""

import torch

from cases_vae import ADAM, BERNOULLI, STEPS, optimizer_for
from fixture import Case, Draws, gradients, scalar, state
from twin_cvae import Cvae

CLASSES = 3
# Neither square nor of one channel, so that a mistaken order of the pixels shows.
WIDE = {**BERNOULLI, "channels": 3, "image_width": 12, "width": 3}
MLP = {**BERNOULLI, "network": "mlp", "hidden": [16, 12], "width": None, "image_width": 6}
MODELS = {
    "conv-class": ({**BERNOULLI, "condition": "class", "classes": CLASSES}, 1),
    "mlp-class-draws": ({**MLP, "condition": "class", "classes": CLASSES}, 5),
    "conv-top": ({**WIDE, "condition": "top"}, 1),
    "mlp-left": ({**MLP, "condition": "left"}, 1),
    "mlp-quarter-draws": ({**MLP, "channels": 3, "condition": "quarter"}, 3),
}


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(Cvae(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
    rows, latent, count = settings["batch"], settings["model"]["latent"], settings["draws"]
    x = draws.bytes(rows, *shape)
    labels = draws.below(CLASSES, rows)
    labels[0], labels[1] = 2, 0
    eps = [draws.normal(count, rows, latent) for _ in range(STEPS)]
    z = draws.normal(rows, latent)
    told = model.condition(x, labels)

    def loss(noise):
        if count > 1:
            return -model.importance_weighted_bound(x, noise, told).mean()
        return model.terms(x, noise[0], 1.0, told)["total"]

    out = state(model, "weights/")
    out |= {"input/x": x, "input/labels": labels, "input/z": z} | {f"input/eps.{k}": e for k, e in enumerate(eps)}
    with torch.no_grad():
        terms = model.terms(x, eps[0][0], 1.0, told)
        for key in ("mu", "log_var", "reconstruction", "kl", "location"):
            out[f"output/{key}"] = terms[key]
        out["output/condition"] = told
        out["output/expected"] = model.expected(z, told)
        out["loss/total"] = scalar(loss(eps[0]))
    optimizer = optimizer_for(model, settings["optimizer"])
    for k in range(STEPS):
        optimizer.zero_grad()
        loss(eps[k]).backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def cases():
    for name, (model, draws) in MODELS.items():
        name = f"cvae-{name}"
        model = {k: v for k, v in model.items() if v is not None}
        settings = {"model": model, "draws": draws, "batch": 4, "optimizer": ADAM}
        yield Case(name, {"family": "cvae", **settings}, lambda dtype, n=name, s=settings: build(n, s, dtype))
