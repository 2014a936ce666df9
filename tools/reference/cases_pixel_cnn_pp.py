"""Fixtures of the `pixel-cnn-pp` family: two networks, and its mixtures of logistics by themselves."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_pixel_cnn_pp import PixelCnnPp, log_levels, log_probability

STEPS = 3
ADAM = {"algorithm": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}

# Neither is square, so that a height taken for a width shows.
GREY = {"channels": 1, "height": 8, "width": 12, "config": {"width": 3, "blocks": 1, "scales": 3, "components": 2}}
COLOUR = {"channels": 3, "height": 8, "width": 4, "config": {"width": 3, "blocks": 2, "scales": 2, "components": 2}}


def bytes_of(draws, *shape):
    """Bytes as whole numbers, with both ends taken."""
    x = draws.below(256, *shape)
    x.view(-1)[0], x.view(-1)[1] = 0, 255
    return x


def build(name, settings, dtype):
    draws = Draws(name, dtype)
    model = settings["model"]
    classes, batch = settings["classes"], settings["batch"]
    net = draws.fill(PixelCnnPp(channels=model["channels"], classes=classes, **model["config"]))
    with torch.no_grad():
        # Scales narrower than a bin would multiply float32's rounding of the means.
        net.out.weight.mul_(0.25)
    x = bytes_of(draws, batch, *(model[k] for k in ("channels", "height", "width")))
    held = draws.below(classes, batch) if classes else None
    labels = held.long() if classes else None

    out = state(net, "weights/") | {"input/x": x} | ({"input/labels": held} if classes else {})
    with torch.no_grad():
        out["output/parameters"] = net(x, labels)
        out["output/nll"] = net.nll(x, labels)
        out["loss/total"] = scalar(out["output/nll"].mean())
    optimizer = torch.optim.Adam(net.parameters(), lr=ADAM["lr"], betas=tuple(ADAM["betas"]), eps=ADAM["eps"])
    for k in range(STEPS):
        optimizer.zero_grad()
        net.nll(x, labels).mean().backward()
        if k == 0:
            out |= gradients(net, "grad/")
        optimizer.step()
    return out | state(net, "after3/")


def build_mixtures(name, dtype):
    """Scales from far below a bin to wider than the range, some of them below the least; means in the
    range and outside."""
    draws = Draws(name, dtype)
    out = {}
    for kind, channels, components in (("grey", 1, 4), ("colour", 3, 2)):
        shape = (2, components, 2, 3)
        group = lambda low, high: [draws.uniform(low, high, *shape) for _ in range(channels)]
        logits, means, scales = draws.normal(*shape), group(-1.5, 1.5), group(-8.0, 1.0)
        coefficients = [draws.normal(*shape) for _ in range(3)] if channels == 3 else []
        parameters = torch.cat([logits, *means, *scales, *coefficients], 1).requires_grad_()
        x = bytes_of(draws, 2, channels, 2, 3)
        log_p = log_probability(parameters, x)
        log_p.sum().backward()
        out |= {
            f"input/{kind}.parameters": parameters.detach().clone(),
            f"input/{kind}.x": x,
            f"output/{kind}.log_p": log_p.detach(),
            f"output/{kind}.gradient": parameters.grad.clone(),
            f"output/{kind}.levels": log_levels(parameters.detach()[:1], x[:1]),
        }
    return out


def case(name, model, classes):
    name = f"pixel-cnn-pp-{name}"
    settings = {"model": model, "classes": classes, "batch": 3, "optimizer": ADAM}
    return Case(name, {"family": "pixel-cnn-pp", **settings}, lambda dtype: build(name, settings, dtype))


def cases():
    yield case("grey", GREY, 0)
    yield case("colour-classes", COLOUR, 3)
    yield Case("logistic-mixture", {"bins": 256}, lambda dtype: build_mixtures("logistic-mixture", dtype))
