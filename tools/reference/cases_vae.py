"""Fixtures of the `vae` family: five networks and likelihoods, two variants of the optimizer, four of the bound."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_vae import Vae, kl_of_numbers

STEPS = 3
SAMPLES = 5  # K of the importance-weighted bound
FREE_BITS = 0.15  # two of the four code numbers of `vae-free-bits` have less KL, two more
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


def kl_weight(settings):
    """beta, reached from zero by a straight line over `warmup_images`, when `images` have been seen."""
    warmup = settings.get("warmup_images", 0)
    return settings["beta"] * (min(1.0, settings["images"] / warmup) if warmup else 1.0)


def build_bound(name, settings, dtype):
    """As `build`, for other objectives: several draws, free bits, an annealed weight."""
    draws = Draws(name, dtype)
    model = draws.fill(Vae(**settings["model"]))
    shape = [settings["model"][k] for k in ("channels", "image_height", "image_width")]
    rows, latent, count = settings["batch"], settings["model"]["latent"], settings.get("draws", 1)
    x, weight = draws.bytes(rows, *shape), kl_weight(settings)
    eps = [draws.normal(count, rows, latent) for _ in range(STEPS)]

    def loss(noise):
        if count > 1:
            return -model.importance_weighted_bound(x, noise, weight=weight).mean()
        return model.terms(x, noise[0], weight, free_bits=settings.get("free_bits", 0.0))["total"]

    out = state(model, "weights/") | {"input/x": x} | {f"input/eps.{k}": e for k, e in enumerate(eps)}
    with torch.no_grad():
        terms = [model.terms(x, noise, weight) for noise in eps[0]]
        out["output/mu"], out["output/log_var"] = terms[0]["mu"], terms[0]["log_var"]
        out["output/kl_numbers"] = kl_of_numbers(terms[0]["mu"], terms[0]["log_var"]).mean(0)
        out["loss/total"] = scalar(loss(eps[0]))
        out["loss/reconstruction"] = scalar(torch.stack([t["reconstruction"] for t in terms]).mean())
        out["loss/kl"] = scalar(terms[0]["kl"].mean())
    optimizer = optimizer_for(model, settings["optimizer"])
    for k in range(STEPS):
        optimizer.zero_grad()
        loss(eps[k]).backward()
        if k == 0:
            out |= gradients(model, "grad/")
        optimizer.step()
    return out | state(model, "after3/")


def bound_case(name, model, **more):
    name = f"vae-{name}"
    model = {k: v for k, v in model.items() if v is not None}
    settings = {"model": model, "beta": 1.0, "batch": 4, "optimizer": ADAM} | more
    return Case(name, {"family": "vae", **settings}, lambda dtype: build_bound(name, settings, dtype))


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
    mlp = {**MODELS["mlp-bernoulli"][0], "activation": "tanh"}
    yield bound_case("draws", mlp, draws=5)
    # Not square and several draws: rows of one image must stay together. The weight is a quarter.
    wide = MODELS["conv-gaussian-learned"][0]
    yield bound_case("draws-annealed", wide, draws=3, warmup_images=400, images=100)
    yield bound_case("annealed", BERNOULLI, beta=2.0, warmup_images=1000, images=250)
    yield bound_case("free-bits", BERNOULLI, free_bits=FREE_BITS)
