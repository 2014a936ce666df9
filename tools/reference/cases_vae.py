"""Fixtures of the `vae` family: five networks and likelihoods, and two variants of the optimizer."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_vae import Vae

STEPS = 3
SAMPLES = 5  # K of the importance-weighted bound
ADAM = {"algorithm": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

CONV = {"network": "conv", "image_height": 8, "image_width": 8, "width": 4, "hidden": 16, "latent": 4}
BERNOULLI = {**CONV, "likelihood": "bernoulli", "channels": 1}
MODELS = {
    "conv-bernoulli": (BERNOULLI, 1.0),
    "conv-gaussian": ({**CONV, "likelihood": "gaussian", "sigma": 0.1, "channels": 3}, 0.5),
    # Not square, so that a height taken for a width shows.
    "conv-gaussian-learned": ({**CONV, "image_width": 12, "likelihood": "gaussian-learned", "channels": 1}, 1.0),
    "conv-logistic": ({**CONV, "likelihood": "discretised-logistic", "channels": 3}, 1.0),
    "mlp-bernoulli": ({**BERNOULLI, "network": "mlp", "hidden": [16, 12], "width": None}, 1.0),
}


def optimizer_for(model, settings):
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["algorithm"]]
    extra = {"weight_decay": settings["weight_decay"]} if "weight_decay" in settings else {}
    return kind(model.parameters(), lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"], **extra)


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(Vae(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
    batch, latent, parts = settings["batch"], settings["model"]["latent"], settings["accumulate"]
    rows = batch * parts
    x = draws.bytes(rows, *shape)
    eps = [draws.normal(rows, latent) for _ in range(STEPS)]
    iw_eps = draws.normal(SAMPLES, rows, latent)

    out = state(model, "weights/")
    out |= {"input/x": x, "input/iw_eps": iw_eps} | {f"input/eps.{k}": e for k, e in enumerate(eps)}
    with torch.no_grad():
        terms = model.terms(x, eps[0], settings["beta"])
        out["output/iw_bound"] = model.importance_weighted_bound(x, iw_eps)
    out["loss/total"] = scalar(terms.pop("total"))
    out["loss/reconstruction"] = scalar(terms["reconstruction"].mean())
    out["loss/kl"] = scalar(terms["kl"].mean())
    out |= {f"output/{k}": v for k, v in terms.items()}

    optimizer = optimizer_for(model, settings["optimizer"])
    norms = []
    for k in range(STEPS):
        optimizer.zero_grad()
        for i in range(parts):
            part = slice(i * batch, (i + 1) * batch)
            (model.terms(x[part], eps[k][part], settings["beta"])["total"] / parts).backward()
        if k == 0:
            out |= gradients(model, "grad/")
        if "clip_norm" in settings["optimizer"]:
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), settings["optimizer"]["clip_norm"]))
        optimizer.step()
    if norms:
        out["output/grad_norm"] = torch.stack(norms)
    return out | state(model, "after3/")


def case(name, model, beta, optimizer=ADAM, accumulate=1, batch=4):
    name = f"vae-{name}"
    model = {k: v for k, v in model.items() if v is not None}
    settings = {"model": model, "beta": beta, "batch": batch, "accumulate": accumulate, "optimizer": optimizer}
    return Case(name, {"family": "vae", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield from (case(name, model, beta) for name, (model, beta) in MODELS.items())
    clipped = {**ADAM, "algorithm": "adamw", "weight_decay": 0.01, "clip_norm": 0.5}
    yield case("adamw-clip", BERNOULLI, 1.0, optimizer=clipped)
    yield case("accumulation", BERNOULLI, 1.0, accumulate=2)
