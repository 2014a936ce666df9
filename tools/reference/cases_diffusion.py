"""Fixtures of the `diffusion` family: one file per framework and prediction, and the samplers."""

import torch

from fixture import Case, Draws, gradients, scalar, state
from twin_diffusion import STEPS as SCHEDULE_STEPS
from twin_diffusion import UNet, loss_terms
from twin_samplers import Ddpm, edm, flow, guided, karras_sigmas, strided_steps

TRAIN_STEPS = 3
SAMPLER_STEPS = 8
ADAM = {"algorithm": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}
MODEL = {"channels": 1, "width": 8, "mult": [1, 2], "blocks": 1, "attention_levels": [1], "groups": 4}
EPS = {"framework": "ddpm", "schedule": "linear", "prediction": "eps"}
OBJECTIVES = {
    "ddpm-eps-linear": (MODEL, EPS),
    "ddpm-x0-linear": (MODEL, {**EPS, "prediction": "x0"}),
    "ddpm-v-cosine": (MODEL, {**EPS, "schedule": "cosine", "prediction": "v"}),
    "ddpm-eps-classes": ({**MODEL, "classes": 3}, EPS),
    "flow": (MODEL, {"framework": "flow"}),
    "edm": (MODEL, {"framework": "edm", "sigma_data": 0.5, "p_mean": -1.2, "p_std": 1.2}),
}
WITH_AFTER3 = ("ddpm-eps-linear",)


def drawn_model(objective, dtype):
    """The network of a case, and the draws that go on behind its weights."""
    draws = Draws(f"diffusion-{objective}", dtype)
    return draws.fill(UNet(**OBJECTIVES[objective][0])), draws


def draw_time(draws, settings, batch):
    if settings["framework"] == "edm":
        return torch.exp(settings["p_mean"] + settings["p_std"] * draws.normal(batch).double()).float().to(draws.dtype)
    if settings["framework"] == "flow":
        return draws.below(1024, batch) / 1024  # 1000 t is then exact in float32
    return draws.below(SCHEDULE_STEPS, batch)


def build(objective, settings, dtype):
    model, draws = drawn_model(objective, dtype)
    batch, classes = settings["batch"], settings["model"].get("classes")
    x = (draws.bytes(batch, 1, 8, 8) * 2 - 1).float().to(dtype)
    noise = [draws.normal(*x.shape) for _ in range(TRAIN_STEPS)]
    key = "sigma" if settings["framework"] == "edm" else "t"
    time = [draw_time(draws, settings, batch) for _ in range(TRAIN_STEPS)]
    steps = TRAIN_STEPS if objective in WITH_AFTER3 else 1

    out = state(model, "weights/") | {"input/x": x}
    for k in range(steps):
        out |= {f"input/noise.{k}": noise[k], f"input/{key}.{k}": time[k]}
    labels = None
    if classes is not None:
        labels = torch.tensor([0, classes - 1, classes, 1])
        out["input/labels"] = labels.to(dtype)

    terms = loss_terms(model, settings, x, noise[0], time[0], labels)
    terms["total"].backward()
    out["loss/total"] = scalar(terms.pop("total"))
    out |= {f"output/{k}": v.detach() for k, v in terms.items()}
    out |= gradients(model, "grad/")
    if objective not in WITH_AFTER3:
        return out

    optimizer = torch.optim.Adam(model.parameters(), lr=ADAM["lr"], betas=tuple(ADAM["betas"]), eps=ADAM["eps"])
    for k in range(steps):
        optimizer.zero_grad()
        loss_terms(model, settings, x, noise[k], time[k], labels)["total"].backward()
        optimizer.step()
    return out | state(model, "after3/")


# Trajectories by name: the file their weights come from, and how they are sampled.
TRAJECTORIES = {
    "ddpm-small-clip": ("ddpm-eps-linear", {"sampler": "ddpm", "variance": "small", "clip": True}),
    "ddpm-small": ("ddpm-eps-linear", {"sampler": "ddpm", "variance": "small", "clip": False}),
    "ddpm-large-clip": ("ddpm-eps-linear", {"sampler": "ddpm", "variance": "large", "clip": True}),
    "ddim-eta0": ("ddpm-eps-linear", {"sampler": "ddim", "eta": 0.0, "clip": False}),
    "ddim-eta0-clip": ("ddpm-eps-linear", {"sampler": "ddim", "eta": 0.0, "clip": True}),
    "ddim-eta1": ("ddpm-eps-linear", {"sampler": "ddim", "eta": 1.0, "clip": False}),
    "euler": ("ddpm-eps-linear", {"sampler": "euler", "clip": False}),
    "heun": ("ddpm-eps-linear", {"sampler": "heun", "clip": False}),
    "heun-clip": ("ddpm-eps-linear", {"sampler": "heun", "clip": True}),
    "ddim-x0": ("ddpm-x0-linear", {"sampler": "ddim", "eta": 0.0, "clip": False}),
    "ddim-v-cosine": ("ddpm-v-cosine", {"sampler": "ddim", "eta": 0.0, "clip": False}),
    "ddim-guided": ("ddpm-eps-classes", {"sampler": "ddim", "eta": 0.0, "clip": False, "guidance": 2.0}),
    "flow-euler": ("flow", {"sampler": "euler"}),
    "flow-heun": ("flow", {"sampler": "heun"}),
    "edm-euler": ("edm", {"sampler": "euler"}),
    "edm-heun": ("edm", {"sampler": "heun"}),
}


def trajectory(objective, how, start, step_noise, labels):
    network, _ = drawn_model(objective, start.dtype)
    model_settings, settings = OBJECTIVES[objective]
    order = 2 if how["sampler"] == "heun" else 1
    if settings["framework"] == "flow":
        return flow(network, start, SAMPLER_STEPS, order)
    if settings["framework"] == "edm":
        return edm(network, start, SAMPLER_STEPS, order, settings["sigma_data"])
    if "guidance" in how:
        network = guided(network, labels, model_settings["classes"], how["guidance"])
    ddpm = Ddpm(network, {**settings, **how}, SAMPLER_STEPS)
    if how["sampler"] == "ddpm":
        return ddpm.ancestral(start, step_noise, how["variance"])
    if how["sampler"] == "ddim":
        return ddpm.ddim(start, step_noise, how["eta"])
    return ddpm.sigma_space(start, order)


@torch.no_grad()
def build_samplers(dtype):
    draws = Draws("samplers", dtype)
    start = draws.normal(2, 1, 8, 8)
    step_noise = draws.normal(SAMPLER_STEPS, 2, 1, 8, 8)
    labels = torch.tensor([0, 2])
    out = {"input/start": start, "input/step_noise": step_noise, "input/labels": labels.to(dtype)}
    for name, (objective, how) in TRAJECTORIES.items():
        out[f"output/{name}"] = trajectory(objective, how, start, step_noise, labels)
    # Two identities of the formulas.
    if dtype == torch.float64:
        torch.testing.assert_close(out["output/ddim-eta1"], out["output/ddpm-small"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out["output/ddim-eta0"], out["output/euler"], rtol=1e-9, atol=1e-9)
    return out


def cases():
    for objective, (model, settings) in OBJECTIVES.items():
        full = {"family": "diffusion", "model": model, **settings, "batch": 4}
        if objective in WITH_AFTER3:
            full["optimizer"] = ADAM
        yield Case(f"diffusion-{objective}", full, lambda dtype, o=objective, s=full: build(o, s, dtype))
    described = {
        name: {"weights": f"diffusion-{objective}", **OBJECTIVES[objective][1], **how}
        for name, (objective, how) in TRAJECTORIES.items()
    }
    settings = {
        "family": "diffusion",
        "steps": SAMPLER_STEPS,
        "strided_steps": strided_steps(SAMPLER_STEPS),
        "karras_sigmas": karras_sigmas(SAMPLER_STEPS),
        "trajectories": described,
    }
    yield Case("samplers", settings, build_samplers)
