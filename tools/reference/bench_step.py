"""Times one training step and sampling of the three families in PyTorch and prints JSON.

python bench_step.py [--threads 2] [--seconds 15] [--family vae|dcgan|diffusion]

Each measurement runs in a process of its own, so that its peak memory is its own. The peak counts
the interpreter and the library, whose share before any model is `baseline_rss_bytes`.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from twin_dcgan import Discriminator, Generator, step
from twin_diffusion import UNet, loss_terms
from twin_samplers import Ddpm
from twin_vae import Vae

BATCH = 64
SAMPLES = 64
MODELS = {
    "vae": {
        "network": "conv",
        "likelihood": "bernoulli",
        "channels": 1,
        "image_height": 28,
        "image_width": 28,
        "width": 32,
        "hidden": 256,
        "latent": 32,
    },
    "dcgan": {"size": 32, "channels": 1, "width": 64, "latent": 100},
    "diffusion": {"channels": 1, "width": 32, "mult": [1, 2, 2], "blocks": 1, "attention_levels": [2], "groups": 8},
}
DDPM = {"framework": "ddpm", "schedule": "linear", "prediction": "eps", "clip": True}
DDIM_STEPS = 20


def vae():
    model = Vae(**MODELS["vae"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(BATCH, 1, 28, 28)

    def train():
        optimizer.zero_grad()
        model.terms(x, torch.randn(BATCH, 32), 1.0)["total"].backward()
        optimizer.step()

    def sample():
        torch.sigmoid(model.decoder(torch.randn(SAMPLES, 32)))

    return [model], train, sample


def dcgan():
    settings = MODELS["dcgan"]
    g = Generator(**settings)
    d = Discriminator(**{k: settings[k] for k in ("size", "channels", "width")})
    optimizers = [torch.optim.Adam(m.parameters(), lr=2e-4, betas=(0.5, 0.999)) for m in (g, d)]
    x = torch.rand(BATCH, 1, 32, 32) * 2 - 1

    def train():
        z = torch.randn(BATCH, settings["latent"], 1, 1)
        step(g, d, *optimizers, x, z, loss="non-saturating", smoothing=0.0)

    def sample():
        g(torch.randn(SAMPLES, settings["latent"], 1, 1))

    return [g, d], train, sample


def diffusion():
    model = UNet(**MODELS["diffusion"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(BATCH, 1, 28, 28) * 2 - 1

    def train():
        optimizer.zero_grad()
        t = torch.randint(0, 1000, (BATCH,)).float()
        loss_terms(model, DDPM, x, torch.randn_like(x), t)["total"].backward()
        optimizer.step()

    def sample():
        start = torch.randn(SAMPLES, 1, 28, 28)
        Ddpm(model, DDPM, DDIM_STEPS).ddim(start, torch.zeros(DDIM_STEPS, 1, 1, 1, 1), 0.0)

    return [model], train, sample


FAMILIES = {"vae": vae, "dcgan": dcgan, "diffusion": diffusion}


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(family, what, threads, seconds):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    # The first convolution sets up the thread pool and the kernels' own memory.
    F.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    baseline = peak_rss_bytes()
    models, train, sample = FAMILIES[family]()
    for model in models:
        model.train(what == "train")
    once, images = (train, BATCH) if what == "train" else (sample, SAMPLES)
    times, began = [], time.perf_counter()
    with torch.set_grad_enabled(what == "train"):
        for _ in range(2):
            once()
        while len(times) < 5 or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            once()
            times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return {
        "seconds_median": median,
        "seconds_fastest": min(times),
        "runs": len(times),
        "images_per_second": images / median,
        "peak_rss_bytes": peak_rss_bytes(),
        "baseline_rss_bytes": baseline,
        "parameters": sum(p.numel() for m in models for p in m.parameters()),
    }


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0, help="time per measurement")
    parser.add_argument("--family", choices=FAMILIES, help="only this one")
    parser.add_argument("--measure", choices=("train", "sample"), help="one measurement in this process")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.family, args.measure, args.threads, args.seconds)))
        return
    out = {
        "torch": torch.__version__,
        "processor": processor(),
        "threads": args.threads,
        "batch": BATCH,
        "samples": SAMPLES,
        "ddim_steps": DDIM_STEPS,
        "models": MODELS,
        "results": {},
    }
    for family in [args.family] if args.family else FAMILIES:
        out["results"][family] = {}
        for what in ("train", "sample"):
            command = [sys.executable, __file__, "--family", family, "--measure", what]
            command += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            out["results"][family][what] = json.loads(done.stdout)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
