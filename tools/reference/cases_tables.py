"""Fixtures without a network, in float64: schedules, step grids, likelihoods."""

import itertools

import torch

from fixture import Case
from twin_diffusion import alpha_bars, betas
from twin_samplers import karras_sigmas, strided_steps
from twin_vae import (
    SMALLEST_BIN,
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
    kl_divergence,
    logistic_log_likelihood,
)

COUNTS = (1, 2, 3, 8, 20, 50, 250, 1000)


def build_schedules(_):
    """The same in every floating-point type: a schedule is computed in float64 and nowhere else."""
    out = {}
    for schedule in ("linear", "cosine"):
        bars = alpha_bars(schedule)
        out |= {f"output/{schedule}.beta": betas(schedule), f"output/{schedule}.alpha_bar": bars}
        kept = torch.cat([bars[torch.tensor(strided_steps(8))], torch.ones(1, dtype=torch.float64)])
        now, following = kept[:-1], kept[1:]
        beta = 1 - now / following
        out |= {
            f"output/{schedule}.respaced8.alpha_bar": now,
            f"output/{schedule}.respaced8.beta": beta,
            f"output/{schedule}.respaced8.posterior_variance": beta * (1 - following) / (1 - now),
            f"output/{schedule}.respaced8.sigma": ((1 - kept) / kept).sqrt(),
        }
    out |= {f"output/steps.{n}": torch.tensor(strided_steps(n), dtype=torch.float64) for n in COUNTS}
    out |= {f"output/karras.{n}": torch.tensor(karras_sigmas(n), dtype=torch.float64) for n in (8, 18)}
    return out


def grid(*columns):
    """Every combination, one per row, as columns that float32 holds exactly."""
    rows = torch.tensor(list(itertools.product(*columns)), dtype=torch.float64).float().double()
    return list(rows.T.contiguous())


def build_likelihoods(dtype):
    out = {}

    logits, x = (c.to(dtype) for c in grid([-100, -20, -3, -0.5, 0, 0.1, 2, 15, 90], [0, 0.25, 0.5, 1]))
    out |= {"input/bernoulli.logits": logits, "input/bernoulli.x": x}
    out["output/bernoulli"] = bernoulli_log_likelihood(logits, x)

    mean, log_sigma, x = (c.to(dtype) for c in grid([-0.5, 0, 0.3, 1], [-6, -2.3, 0, 2], [0, 0.4, 1]))
    out |= {"input/gaussian.mean": mean, "input/gaussian.log_sigma": log_sigma, "input/gaussian.x": x}
    out["output/gaussian"] = gaussian_log_likelihood(mean, log_sigma, x)

    means = [-2, -0.25, 0, 0.001, 0.2, 0.5, 0.75, 1, 1.5]
    levels = [k / 255 for k in (0, 1, 51, 127, 128, 200, 254, 255)]
    mean, log_scale, x = grid(means, [-9, -7, -5, -3, -2, -1, 0, 2, 5], levels)
    # Near the threshold a float32 run may take the other branch; no row lies there.
    probability = torch.sigmoid((x + 1 / 510 - mean) / log_scale.exp())
    probability = probability - torch.sigmoid((x - 1 / 510 - mean) / log_scale.exp())
    inner = (x > 0.5 / 255) & (x < 254.5 / 255)
    clear = ~(inner & (probability > 0.5 * SMALLEST_BIN) & (probability < 2 * SMALLEST_BIN))
    mean, log_scale, x = (c[clear].to(dtype) for c in (mean, log_scale, x))
    out |= {"input/logistic.mean": mean, "input/logistic.log_scale": log_scale, "input/logistic.x": x}
    out["output/logistic"] = logistic_log_likelihood(mean, log_scale, x)

    mu, log_var = (c.to(dtype) for c in grid([-5, -1, 0, 0.01, 2], [-12, -3, 0, 0.02, 1.5, 6]))
    out |= {"input/kl.mu": mu, "input/kl.log_var": log_var}
    out["output/kl"] = kl_divergence(mu[:, None], log_var[:, None])
    return out


def cases():
    keep = ("output/", "input/")
    yield Case("schedules", {"steps": 1000, "strided": list(COUNTS), "karras": [8, 18]}, build_schedules, keep)
    yield Case("likelihoods", {"bins": 256, "smallest_bin": SMALLEST_BIN}, build_likelihoods, keep)
