"""Fixtures of the families `gan`, `cgan`, `acgan` and `wgan`: three whole steps of each game."""

import torch
from torch.nn import functional as F

from fixture import Case, Draws, scalar, state
from twin_gans import (
    ClassGenerator, Critic, JoinedDiscriminator, MlpDiscriminator, MlpGenerator, NamingDiscriminator,
    PlainGenerator, ProjectionDiscriminator, discriminate, generate,
)

STEPS = 3
ADAM = {"lr": 2e-4, "betas": [0.5, 0.999], "eps": 1e-8}
RMS = {"lr": 2e-4, "betas": [0.0, 0.99], "eps": 1e-8}
SMALL = {"latent": 4, "width": 2}
CLASSED = {**SMALL, "class_latent": 3}

# family, the family's own settings, images, micro-batches in a step, optimizer
CASES = {
    "gan": ("gan", {"latent": 4, "hidden": [12, 8]}, {"channels": 1, "side": 8}, 1, ADAM),
    "cgan-projected": (
        "cgan", {**CLASSED, "condition": "projection", "loss": "hinge", "spectral_norm": True},
        {"channels": 1, "side": 16, "classes": 3}, 1, ADAM,
    ),
    "cgan-embedding": (
        "cgan", {**CLASSED, "condition": "embedding", "loss": "non-saturating", "spectral_norm": False},
        {"channels": 3, "side": 16, "classes": 3}, 1, ADAM,
    ),
    "acgan": (
        "acgan", {**CLASSED, "class_weight": 0.5, "generator_class_weight": 2.0},
        {"channels": 1, "side": 16, "classes": 3}, 1, ADAM,
    ),
    "acgan-spectral": (
        "acgan", {**CLASSED, "spectral_norm": True, "loss": "least-squares"},
        {"channels": 1, "side": 16, "classes": 3}, 1, ADAM,
    ),
    "wgan-clipping": (
        "wgan", {**SMALL, "lipschitz": "clipping", "clip": 0.25, "discriminator_steps": 2},
        {"channels": 1, "side": 16}, 2, RMS,
    ),
    "wgan-spectral": (
        "wgan", {**SMALL, "lipschitz": "spectral", "discriminator_steps": 2},
        {"channels": 1, "side": 16}, 1, RMS,
    ),
}


def networks(family, config, images):
    side, channels = images["side"], images["channels"]
    if family == "gan":
        shape = (channels, side, side)
        made = MlpGenerator(latent=config["latent"], hidden=config["hidden"], shape=shape)
        return made, MlpDiscriminator(hidden=config["hidden"], shape=shape)
    sizes = {"size": side, "channels": channels, "width": config["width"]}
    if family == "wgan":
        spectral = config["lipschitz"] == "spectral"
        return PlainGenerator(**sizes, latent=config["latent"]), Critic(**sizes, spectral_norm=spectral)
    sizes["classes"] = images["classes"]
    kind = {"projection": ProjectionDiscriminator, "embedding": JoinedDiscriminator}
    kind = NamingDiscriminator if family == "acgan" else kind[config["condition"]]
    told = {k: config[k] for k in ("latent", "class_latent")}
    return ClassGenerator(**sizes, **told), kind(**sizes, spectral_norm=config.get("spectral_norm", False))


def rules_of(family, config):
    spectral = config.get("spectral_norm", False) or config.get("lipschitz") == "spectral"
    return {
        "loss": "wasserstein" if family == "wgan" else config.get("loss", "non-saturating"),
        "spectral_norm": spectral,
        "clip": config["clip"] if config.get("lipschitz") == "clipping" else None,
        "class_weights": [config.get("class_weight", 1.0), config.get("generator_class_weight", 1.0)],
        "steps": config.get("discriminator_steps", 1),
    }


def turns(parts, updates):
    """Which micro-batches each update sees: dealt in turn, used again where they are few."""
    hands = min(parts, updates)
    return [[i for i in range(parts) if i % hands == update % hands] for update in range(updates)]


def body_of(discriminator):
    return getattr(discriminator, "body", discriminator)


def matrices(discriminator):
    return discriminator.matrices() if hasattr(discriminator, "matrices") else discriminator.convs()


def build(name, settings, dtype):
    draws, images, config = Draws(name, dtype), settings["images"], settings["config"]
    family, batch, parts = settings["family"], settings["batch"], settings["accumulate"]
    rules = rules_of(family, config)
    g, d = networks(family, config, images)
    draws.fill(g)
    draws.fill(d)
    if rules["clip"]:
        with torch.no_grad():
            for p in d.parameters():
                p.clamp_(-rules["clip"], rules["clip"])
    out = {}
    if rules["spectral_norm"]:
        body = body_of(d)
        for i, (layer, owner) in enumerate(matrices(d).items()):
            u = F.normalize(draws.normal(owner.weight.shape[0]).double(), dim=0).float().to(dtype)
            body.u[layer] = u
            out[f"input/u.{i}"] = u.clone()
    side, count = images["side"], images.get("classes", 0)
    x, classes = [], []
    for i in range(parts):
        x.append((draws.bytes(batch, images["channels"], side, side) * 2 - 1).float().to(dtype))
        out[f"input/x.{i}"] = x[i]
        # Every class is there, so that no row of a table is left without a gradient.
        labels = (torch.arange(batch) + i) % count if count else None
        classes.append(F.one_hot(labels, count).to(dtype) if count else None)
        if count:
            out[f"input/labels.{i}"] = labels.to(dtype)
    deal = turns(parts, rules["steps"])
    z = [[[draws.normal(batch, config["latent"]) for _ in turn] for turn in deal] for _ in range(STEPS)]
    for k in range(STEPS):
        flat = [one for turn in z[k] for one in turn]
        out |= {f"input/z.{k}.{j}": one for j, one in enumerate(flat)}
    out |= state(g, "weights/generator.") | state(d, "weights/discriminator.")

    adam = settings["optimizer"]
    adam = {"lr": adam["lr"], "betas": tuple(adam["betas"]), "eps": adam["eps"]}
    optimizer_g, optimizer_d = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    for k in range(STEPS):
        losses, named, first = [], [], None
        for turn, latents in zip(deal, z[k]):
            seen = [(x[i], classes[i], one) for i, one in zip(turn, latents)]
            shown, got = discriminate(g, d, optimizer_d, seen, rules)
            losses.append(torch.stack(got["losses"]).mean())
            named += got["named"]
            first = first or got["first"]
        answer = generate(g, d, optimizer_g, shown, rules)
        if k == 0:
            out["loss/discriminator"] = scalar(torch.stack(losses).mean())
            out["loss/generator"] = scalar(torch.stack(answer["losses"]).mean())
            out |= {f"output/{t}": v for t, v in zip(("fake", "logits_real", "logits_fake"), first)}
            if named:
                out["loss/class"] = scalar(torch.stack(named).mean())
                out["loss/generator_class"] = scalar(torch.stack(answer["named"]).mean())
                out["output/classes_real"] = first[3].detach()
            # Of the last update, when there are several.
            out |= {f"grad/discriminator.{p}": v for p, v in got["grads"].items()}
            out |= {f"grad/generator.{p}": v for p, v in answer["grads"].items()}
    if rules["spectral_norm"]:
        out |= {f"output/u_after3.{i}": body_of(d).u[n].clone() for i, n in enumerate(matrices(d))}
    return out | state(g, "after3/generator.") | state(d, "after3/discriminator.")


def cases():
    for name, (family, config, images, parts, optimizer) in CASES.items():
        settings = {"family": family, "config": config, "images": images, "batch": 6 if "classes" in images else 4}
        settings |= {"accumulate": parts, "optimizer": optimizer}
        yield Case(name, settings, lambda dtype, n=name, s=settings: build(n, s, dtype))
