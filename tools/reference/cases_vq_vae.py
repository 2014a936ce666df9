"""Fixtures of the `vq-vae` family: three steps of autoencoder, codebook and prior, with each prior."""

import torch
from torch import nn

from fixture import Case, Draws, gradients, scalar, state
from twin_vq_vae import CodePixelCnn, CodeTransformer, VqVae

STEPS = 3
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}
MODEL = {
    "channels": 1,
    "width": 8,
    "residual_blocks": 1,
    "residual_width": 6,
    "downsampling": 4,
    "codes": 12,
    "code_size": 4,
    "variance": 0.1,
    "commitment": 0.25,
    "decay": 0.9,
}

# Neither is square, so that a height taken for a width shows.
CASES = {
    "gated": ((16, 12), {}, {"network": "gated-pixel-cnn", "width": 6, "layers": 2, "classes": 2}, [3.75, 3.875, 1, 0]),
    "transformer": (
        (8, 12),
        {"channels": 3, "downsampling": 2, "residual_blocks": 2, "commitment": 0.5},
        {"network": "transformer", "width": 8, "layers": 2, "classes": 0},
        [-4.25, 4.75, 1.125, 4.625],
    ),
}

# A code nearer than the next by less than this share could be another one in float32.
MARGIN = 2e-4


def prior_net(settings, places):
    sizes = {k: settings["prior"][k] for k in ("width", "layers", "classes")} | {"codes": settings["model"]["codes"]}
    if settings["prior"]["network"] == "transformer":
        return CodeTransformer(**sizes, places=places)
    return CodePixelCnn(**sizes)


def both(model, prior, prefix, of):
    return of(model, f"{prefix}autoencoder.") | of(prior, f"{prefix}prior.")


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = draws.fill(VqVae(**settings["model"]))
    (height, width), batch = settings["size"], settings["batch"]
    factor = settings["model"]["downsampling"]
    map_size = (height // factor, width // factor)
    prior = draws.fill(prior_net(settings, map_size[0] * map_size[1]))
    book = model.codebook
    with torch.no_grad():
        # Outputs that lie among the codes and as far apart as these; a factor of 4 rounds nothing.
        last = model.encoder.out
        last.weight.mul_(4)
        last.bias.copy_((last.bias + torch.tensor(settings["offset"], dtype=dtype)).float())
        book.running_count.copy_(draws.uniform(1, 6, *book.running_count.shape))
        book.running_sum.copy_(draws.normal(*book.running_sum.shape, scale=settings["spread"]))
        for module in prior.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.copy_((1 + draws.normal(*module.weight.shape, scale=0.2)).float())
    x = draws.bytes(batch, settings["model"]["channels"], height, width)
    out = both(model, prior, "weights/", state) | {"input/x": x}
    labels = None
    if settings["prior"]["classes"]:
        labels = torch.arange(batch) % settings["prior"]["classes"]
        out["input/labels"] = labels.to(dtype)

    def maps(chosen):
        return chosen.to(dtype).view(batch, 1, *map_size)

    with torch.no_grad():
        z = model.encode(x)
        vectors, chosen, nearest = model.quantise(z)
        out["output/z"], out["output/nearest"] = z, nearest
        out["output/codes"] = maps(chosen)
        out["output/location"] = model.decode(nearest)
        out["output/outputs"] = prior(maps(chosen), labels)

    adam = settings["optimizer"]
    make = lambda net: torch.optim.Adam(net.parameters(), lr=adam["lr"], betas=tuple(adam["betas"]), eps=adam["eps"])
    optimizers = [make(model), make(prior)]
    for k in range(STEPS):
        for optimizer in optimizers:
            optimizer.zero_grad()
        reconstruction, commitment, vectors, chosen = model.loss(x)
        near = model.codebook.distances(vectors).sort(1).values
        assert ((near[:, 1] - near[:, 0]) / near[:, 1]).min() > MARGIN, (name, k, "a code is chosen by a hair")
        assert len(chosen.unique()) >= 5, (name, k, chosen.unique())
        (reconstruction + settings["model"]["commitment"] * commitment).backward()
        nats = prior.nats(maps(chosen), labels).mean() / (map_size[0] * map_size[1])
        nats.backward()
        if k == 0:
            out |= both(model, prior, "grad/", gradients)
            out["loss/reconstruction"] = scalar(reconstruction)
            out["loss/commitment"] = scalar(commitment)
            out["loss/prior"] = scalar(nats)
        with torch.no_grad():
            model.codebook.learn(vectors, chosen, settings["model"]["decay"])
        for optimizer in optimizers:
            optimizer.step()
    return out | both(model, prior, "after3/", state)


def case(name, size, model, prior, offset):
    settings = {
        "model": {**MODEL, **model},
        "prior": prior,
        "size": list(size),
        "batch": 4,
        "offset": offset,
        "spread": 4,
        "optimizer": ADAM,
    }
    name = f"vq-vae-{name}"
    return Case(name, {"family": "vq-vae", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield from (case(name, *rest) for name, rest in CASES.items())
