"""Fixture of the variational bound: its terms at some steps, with fixed noise."""

import torch

from cases_diffusion import OBJECTIVES, drawn_model
from fixture import Case, Draws
from twin_bound import Bound

WEIGHTS = "ddpm-eps-linear"
STEPS = [0, 1, 7, 100, 500, 999]
VARIANTS = {
    "small-clip": ("small", True),
    "small": ("small", False),
    "large-clip": ("large", True),
    "large": ("large", False),
}


@torch.no_grad()
def build(dtype):
    """The formulas are computed in float64 in every run, since differences lose digits; the network is not."""
    model, _ = drawn_model(WEIGHTS, dtype)

    def network(x, time, labels):
        return model(x.to(dtype), time.to(dtype), labels).double()

    draws = Draws("diffusion-bound", torch.float64)
    x = draws.bytes(3, 1, 8, 8)
    x0 = (x * 255).round() / 127.5 - 1
    out = {"input/x": x}
    noise = {step: draws.normal(*x.shape) for step in STEPS}
    out |= {f"input/noise.{step}": eps for step, eps in noise.items()}
    for name, (variance, clip) in VARIANTS.items():
        bound = Bound(network, OBJECTIVES[WEIGHTS][1]["schedule"], variance, clip)
        out |= {f"output/{name}.{step}": bound.term(step, x0, eps) for step, eps in noise.items()}
        out["output/prior"] = bound.prior(x0)
    return out


def cases():
    settings = {"family": "diffusion", "weights": f"diffusion-{WEIGHTS}", "steps": STEPS, "variants": sorted(VARIANTS)}
    yield Case("diffusion-bound", settings, build)
