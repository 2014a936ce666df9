"""Samplers of the `diffusion` family: the loops that walk a schedule back to an image.

Every function returns the whole trajectory [steps + 1, n, C, H, W], the start first. `network` is a
function of (x, network time [n]); guidance is already inside it, see `guided`.
"""

import math

import torch

from twin_diffusion import STEPS, alpha_bars, edm_denoise


def guided(network, labels, null, scale):
    """(1 + g) pred(y) - g pred(no label)."""
    nothing = torch.full_like(labels, null)
    return lambda x, time: (1 + scale) * network(x, time, labels) - scale * network(x, time, nothing)


def strided_steps(count):
    """Descending steps, from T - 1 to 0: floor(i (T - 1) / (count - 1) + 1/2); one step is T - 1 alone."""
    if count == 1:
        return [STEPS - 1]
    return [math.floor(i * (STEPS - 1) / (count - 1) + 0.5) for i in reversed(range(count))]


def karras_sigmas(count, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """count + 1 noise levels, descending, the last one 0."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / (count - 1) * (low - high)) ** rho for i in range(count)] + [0.0]


class Ddpm:
    """A discrete schedule restricted to a strided set of steps, and the prediction read off it."""

    def __init__(self, network, settings, count):
        bars = alpha_bars(settings["schedule"]).tolist()
        self.network, self.prediction, self.clip = network, settings["prediction"], settings["clip"]
        self.steps = strided_steps(count)
        self.alpha_bar = [bars[t] for t in self.steps] + [1.0]

    def predict(self, x, k):
        """x0 and eps at transition k. A clipped x0 moves eps with it, so that both still make up x."""
        ab = self.alpha_bar[k]
        a, s = math.sqrt(ab), math.sqrt(1 - ab)
        raw = self.network(x, torch.full((len(x),), float(self.steps[k]), dtype=x.dtype))
        if self.prediction == "eps":
            x0, eps = (x - s * raw) / a, raw
        elif self.prediction == "x0":
            x0, eps = raw, (x - a * raw) / s
        else:
            x0, eps = a * x - s * raw, s * x + a * raw
        if self.clip:
            x0 = x0.clamp(-1, 1)
            eps = (x - a * x0) / s
        return x0, eps

    def ancestral(self, x, step_noise, variance):
        """Ho et al. 2020 with betas recomputed from the kept alpha_bars (Nichol and Dhariwal 2021)."""
        path = [x]
        for k in range(len(self.steps)):
            ab, ab_next = self.alpha_bar[k], self.alpha_bar[k + 1]
            beta = 1 - ab / ab_next
            x0, _ = self.predict(x, k)
            mean = math.sqrt(ab_next) * beta / (1 - ab) * x0 + math.sqrt(1 - beta) * (1 - ab_next) / (1 - ab) * x
            var = {"small": beta * (1 - ab_next) / (1 - ab), "large": beta}[variance]
            last = k == len(self.steps) - 1
            x = mean if last else mean + math.sqrt(var) * step_noise[k]
            path.append(x)
        return torch.stack(path)

    def ddim(self, x, step_noise, eta):
        """Song et al. 2021; eta = 1 is the ancestral sampler with the small variance."""
        path = [x]
        for k in range(len(self.steps)):
            ab, ab_next = self.alpha_bar[k], self.alpha_bar[k + 1]
            sigma = eta * math.sqrt((1 - ab_next) / (1 - ab)) * math.sqrt(1 - ab / ab_next)
            x0, eps = self.predict(x, k)
            x = math.sqrt(ab_next) * x0 + math.sqrt(1 - ab_next - sigma**2) * eps + sigma * step_noise[k]
            path.append(x)
        return torch.stack(path)

    def sigma_space(self, x, order):
        """Euler (order 1) or Heun (order 2) on d x_bar / d sigma = eps with x_bar = x / sqrt(ab)."""
        path = [x]
        sigma = [math.sqrt(1 - ab) / math.sqrt(ab) for ab in self.alpha_bar]
        for k in range(len(self.steps)):
            a, a_next = math.sqrt(self.alpha_bar[k]), math.sqrt(self.alpha_bar[k + 1])
            width = sigma[k + 1] - sigma[k]
            _, eps = self.predict(x, k)
            bar = x / a
            moved = bar + width * eps
            if order == 2 and k + 1 < len(self.steps):
                _, eps_next = self.predict(moved * a_next, k + 1)
                moved = bar + width * (eps + eps_next) / 2
            x = moved * a_next
            path.append(x)
        return torch.stack(path)


def flow(network, x, count, order):
    """Euler or Heun on dx/dt = network from t = 1 to 0, t_i = 1 - i/count; Heun evaluates at t = 0 too."""

    def velocity(x, t):
        return network(x, torch.full((len(x),), 1000 * t, dtype=x.dtype))

    path = [x]
    for i in range(count):
        t, t_next = 1 - i / count, 1 - (i + 1) / count
        slope = velocity(x, t)
        moved = x + (t_next - t) * slope
        if order == 2:
            moved = x + (t_next - t) * (slope + velocity(moved, t_next)) / 2
        x = moved
        path.append(x)
    return torch.stack(path)


def edm(network, noise, count, order, sigma_data):
    """Karras et al. 2022 without churn; starts at sigma_max times the noise, the last step is Euler's."""
    sigmas = karras_sigmas(count)

    def slope(x, sigma):
        denoised, _ = edm_denoise(
            lambda a, b, _: network(a, b), x, torch.full((len(x),), sigma, dtype=x.dtype), sigma_data
        )
        return (x - denoised) / sigma

    x = sigmas[0] * noise
    path = [x]
    for i in range(count):
        width = sigmas[i + 1] - sigmas[i]
        d = slope(x, sigmas[i])
        moved = x + width * d
        if order == 2 and sigmas[i + 1] > 0:
            moved = x + width * (d + slope(moved, sigmas[i + 1])) / 2
        x = moved
        path.append(x)
    return torch.stack(path)
