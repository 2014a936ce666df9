"""The variational bound of a discrete diffusion, term by term (Ho et al. 2020, section 3.3), in nats.

Pixels are bytes k, seen as k / 127.5 - 1. Steps count from zero: step 0 is the decoder's.
"""

import torch

from twin_diffusion import alpha_bars


def normal_kl(mean1, variance1, mean2, variance2):
    """KL(N(mean1, variance1) || N(mean2, variance2)), elementwise."""
    return 0.5 * (torch.log(variance2 / variance1) + (variance1 + (mean1 - mean2) ** 2) / variance2 - 1)


def per_image(x):
    return x.flatten(1).sum(1)


class Bound:
    def __init__(self, network, schedule, variance, clip):
        self.network, self.variance, self.clip = network, variance, clip
        self.now = alpha_bars(schedule)
        self.before = torch.cat([torch.ones(1, dtype=torch.float64), self.now[:-1]])
        self.beta = 1 - self.now / self.before
        self.posterior_variance = self.beta * (1 - self.before) / (1 - self.now)

    def at(self, table, step, x):
        return table[step].to(x.dtype)

    def posterior_mean(self, step, x0, x_t):
        """Mean of q(x_{t-1} | x_t, x_0)."""
        now, before, beta = (self.at(t, step, x0) for t in (self.now, self.before, self.beta))
        return before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t

    def term(self, step, x0, noise):
        """[n]: the decoder's term at step 0, elsewhere the divergence of the two steps back."""
        now = self.at(self.now, step, x0)
        x_t = now.sqrt() * x0 + (1 - now).sqrt() * noise
        eps = self.network(x_t, torch.full((len(x0),), float(step), dtype=x0.dtype), None)
        image = (x_t - (1 - now).sqrt() * eps) / now.sqrt()
        if self.clip:
            image = image.clamp(-1, 1)
        mean = self.posterior_mean(step, image, x_t)
        if step == 0:
            return -per_image(self.byte_mass(x0, mean, self.at(self.posterior_variance, 1, x0).sqrt()))
        true_variance = self.at(self.posterior_variance, step, x0)
        model_variance = {"small": true_variance, "large": self.at(self.beta, step, x0)}[self.variance]
        return per_image(normal_kl(self.posterior_mean(step, x0, x_t), true_variance, mean, model_variance))

    def byte_mass(self, x0, mean, sigma):
        """log of the mass of N(mean, sigma^2) between the edges of each byte's bin."""
        upper, lower = (x0 + 1 / 255 - mean) / sigma, (x0 - 1 / 255 - mean) / sigma
        # The bin and the mean on the side where the distribution function is small.
        flip = upper + lower > 0
        a, b = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
        high, low = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
        inside = high + torch.log1p(-torch.exp(low - high))
        first, last = torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower)
        return torch.where(x0 < -0.999, first, torch.where(x0 > 0.999, last, inside))

    def prior(self, x0):
        """KL(q(x_T | x_0) || N(0, 1)), [n]."""
        now = self.at(self.now, -1, x0)
        one = torch.ones_like(x0)
        return per_image(normal_kl(now.sqrt() * x0, (1 - now) * one, 0 * one, one))
