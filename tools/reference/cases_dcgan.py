"""Fixtures of the `dcgan` family: one file per loss with the whole two-network step, and R1."""

import torch
from torch.nn import functional as F

from fixture import Case, Draws, gradients, scalar, state
from twin_dcgan import Discriminator, Generator, r1_exact, r1_finite_difference, r1_jacobian, step

STEPS = 3
ADAM = {"algorithm": "adam", "lr": 2e-4, "betas": [0.5, 0.999], "eps": 1e-8}
MODEL = {"size": 32, "latent": 8, "width": 4, "channels": 1, "spectral_norm": False}
LOSSES = {
    "non-saturating": (MODEL, 0.1),
    "least-squares": ({**MODEL, "width": 3}, 0.1),
    "hinge": ({**MODEL, "width": 2, "channels": 3}, 0.0),
    "wasserstein": ({**MODEL, "channels": 3, "spectral_norm": True}, 0.0),
}


def discriminator_for(model, draws):
    d = Discriminator(**{k: model[k] for k in ("size", "channels", "width", "spectral_norm")})
    draws.fill(d)
    if d.spectral_norm:
        d.u = {name: unit(draws, conv.out_channels) for name, conv in d.convs().items()}
    return d


def unit(draws, size):
    # Rounded to float32 once more, so that both runs start from the same numbers.
    return F.normalize(draws.normal(size).double(), dim=0).float().to(draws.dtype)


def named_u(discriminator, prefix):
    return {prefix + name: u.clone() for name, u in discriminator.u.items()}


def build(name, settings, dtype):
    draws, model = Draws(name, dtype), settings["model"]
    g = draws.fill(Generator(**{k: model[k] for k in ("size", "channels", "width", "latent")}))
    d = discriminator_for(model, draws)
    batch, size = settings["batch"], model["size"]
    real = draws.bytes(batch, model["channels"], size, size) * 2 - 1
    real = real.float().to(dtype)
    z = [draws.normal(batch, model["latent"], 1, 1) for _ in range(STEPS)]

    out = state(g, "weights/generator.") | state(d, "weights/discriminator.") | named_u(d, "input/u.")
    out |= {"input/x": real} | {f"input/z.{k}": v for k, v in enumerate(z)}
    adam = {"lr": ADAM["lr"], "betas": tuple(ADAM["betas"]), "eps": ADAM["eps"]}
    optimizers = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    for k in range(STEPS):
        got = step(g, d, *optimizers, real, z[k], loss=settings["loss"], smoothing=settings["label_smoothing"])
        if k == 0:
            out |= {"loss/discriminator": scalar(got["loss_d"]), "loss/generator": scalar(got["loss_g"])}
            out |= {f"output/{t}": got[t] for t in ("fake", "logits_real", "logits_fake", "logits_fake_updated")}
            out |= {f"grad/discriminator.{p}": v for p, v in got["grads_d"].items()}
            out |= {f"grad/generator.{p}": v for p, v in got["grads_g"].items()}
    out |= named_u(d, "output/u_after3.")
    return out | state(g, "after3/generator.") | state(d, "after3/discriminator.")


def build_r1(name, settings, dtype):
    draws, model = Draws(name, dtype), settings["model"]
    d = discriminator_for(model, draws)
    shape = (settings["batch"], model["channels"], model["size"], model["size"])
    x = (draws.bytes(*shape) * 2 - 1).float().to(dtype)
    v = draws.normal(*shape)
    out = state(d, "weights/discriminator.") | named_u(d, "input/u.") | {"input/x": x, "input/v": v}
    if d.spectral_norm:
        d.power_iteration()
    running = state(d, "")
    h, gamma = settings["h"], settings["gamma"]

    value = r1_finite_difference(d, x, v, h=h, gamma=gamma)
    value.backward()
    out["loss/r1"] = scalar(value)
    out |= gradients(d, "grad/discriminator.")
    out |= {k: t for k, t in state(d, "output/statistics.").items() if "running" in k}

    d.load_state_dict(running, strict=False)
    directions = [draws.normal(*shape) for _ in range(settings["directions"])]
    values = torch.stack([r1_finite_difference(d, x, w, h=h, gamma=gamma) for w in directions])
    exact = {"double_backward": r1_exact(d, x, gamma=gamma), "jacobian": r1_jacobian(d, x, gamma=gamma)}
    averaged = flat_gradient(values.mean(), d)
    out["output/mean_over_directions"] = scalar(values.mean())
    out["output/deviation_over_directions"] = scalar(values.std())
    for name, value in exact.items():
        gradient = flat_gradient(value, d)
        out[f"output/exact_{name}"] = scalar(value)
        out[f"output/gradient_cosine_{name}"] = scalar(F.cosine_similarity(averaged, gradient, dim=0))
    return out


def flat_gradient(value, module):
    """All parameters' gradients in one vector; zero where the value does not depend on one."""
    grads = torch.autograd.grad(value, list(module.parameters()), allow_unused=True)
    pairs = zip(grads, module.parameters())
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])


def cases():
    for loss, (model, smoothing) in LOSSES.items():
        name = f"dcgan-{loss}"
        settings = {"family": "dcgan", "model": model, "loss": loss, "label_smoothing": smoothing, "batch": 4}
        settings["optimizer"] = ADAM
        yield Case(name, settings, lambda dtype, n=name, s=settings: build(n, s, dtype))
    for name, model in {"dcgan-r1": MODEL, "dcgan-r1-spectral": {**MODEL, "spectral_norm": True}}.items():
        settings = {"family": "dcgan", "model": model, "batch": 4, "h": 0.01, "gamma": 10.0, "directions": 256}
        yield Case(name, settings, lambda dtype, n=name, s=settings: build_r1(n, s, dtype))
