#!/usr/bin/env python3
"""Samples a Gated PixelCNN in PyTorch with caches, and prints seconds as JSON.

python tools/bench/autoregressive/cached.py [--threads 2] [--batch 16] [--processes 1] [--check]

With `--processes` the images and the threads are shared among as many processes that draw side by side; the
seconds are those from their common start to the end of the last one.

The caches are those of the Rust side: the vertical stack a row at a time, when its first pixel comes;
the horizontal stack pixel by pixel from what is kept of the pixels to the left. `--check` compares the
logits with those of the whole network on the images drawn. torch must be importable
(tools/reference/requirements.txt).
"""

import argparse
import json
import multiprocessing
import pathlib
import statistics
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "reference"))
from twin_gated_pixel_cnn import GatedPixelCnn, gate  # noqa: E402

SIDE, WIDTH, FIRST, KERNEL, DILATIONS = 28, 64, 7, 3, (1, 2, 1, 4, 1, 2, 1)


class Sampler:
    """Grey images of two levels; weights in the form each step wants them."""

    def __init__(self, net):
        self.net, self.first = net, net.first
        # Of the row's convolutions, taps and inputs as one axis: [outputs, taps * inputs].
        flat = lambda conv: conv.weight[:, :, 0].transpose(1, 2).flatten(1).contiguous()
        self.first_row = (flat(net.first.horizontal), net.first.horizontal.bias)
        self.rows = [(flat(layer.horizontal), layer.horizontal.bias) for layer in net.layers]
        self.across = [(layer.across.weight[:, :, 0, 0].contiguous(), layer.across.bias) for layer in net.layers]
        self.mix = [(layer.mix.weight[:, :, 0, 0].contiguous(), layer.mix.bias) for layer in net.layers]
        self.out = (net.out.weight[:, :, 0, 0].contiguous(), net.out.bias)

    def row_above(self, image, v, y):
        """What the rows above give every pixel of row y: a list of [side, n, 2 * width], one for each layer."""
        # Rows of zeros lie above the image and columns of zeros beside it, so no case is special.
        half = FIRST // 2
        above = image[:, :, y : y + half]
        current = F.conv2d(above, self.first.vertical.weight, self.first.vertical.bias, padding=(0, half))
        result = []
        for i, (layer, dilation) in enumerate(zip(self.net.layers, DILATIONS)):
            top = dilation * (KERNEL // 2)
            v[i][:, :, top + y] = current[:, :, 0]
            taps = v[i][:, :, y : top + y + 1 : top]
            conv = layer.vertical
            features = F.conv2d(taps, conv.weight, conv.bias, padding=(0, top), dilation=(1, dilation))
            pixels = features[:, :, 0].permute(2, 0, 1)  # [side, n, 2 * width]
            result.append(F.linear(pixels, *self.across[i]))
            current = gate(features)
        return result

    @torch.inference_mode()
    def sample(self, n, keep_logits=False):
        half = FIRST // 2
        image = torch.zeros(n, 1, half + SIDE, SIDE)
        v = [torch.zeros(n, WIDTH, d * (KERNEL // 2) + SIDE, SIDE) for d in DILATIONS]
        logits = torch.zeros(n, SIDE, SIDE)
        for y in range(SIDE):
            above = self.row_above(image, v, y)
            # Behind as many columns of zeros as the kernel is wide to its left.
            row = torch.zeros(half + SIDE, n, 1)
            h = [torch.zeros(d + SIDE, n, WIDTH) for d in DILATIONS]
            for x in range(SIDE):
                own = F.linear(row[x : x + half].permute(1, 0, 2).flatten(1), *self.first_row)
                for i, dilation in enumerate(DILATIONS):
                    h[i][dilation + x] = own
                    seen = torch.cat([h[i][x], own], dim=1)
                    features = torch.addmm(above[i][x] + self.rows[i][1], seen, self.rows[i][0].t())
                    a, b = features.chunk(2, dim=1)
                    own = own + F.linear(torch.tanh(a) * torch.sigmoid(b), *self.mix[i])
                logit = F.linear(F.elu(own), *self.out)
                if keep_logits:
                    logits[:, y, x] = logit[:, 0]
                value = torch.bernoulli(torch.sigmoid(logit))  # [n, 1]
                signed = 2 * value - 1
                row[half + x] = signed
                image[:, 0, half + y, x] = signed[:, 0]
        return image[:, :, half:], logits


def build():
    """The network of the benchmark, the same in every process."""
    torch.manual_seed(0)
    net = GatedPixelCnn(
        channels=1, width=WIDTH, first_kernel=FIRST, kernel=KERNEL, dilations=DILATIONS, levels=2, classes=0
    )
    for parameter in net.parameters():
        scale = parameter[0].numel() if parameter.ndim > 1 else WIDTH
        torch.nn.init.uniform_(parameter, -(scale**-0.5), scale**-0.5)
    return net.requires_grad_(False)


def check(net, sampler, batch):
    image, logits = sampler.sample(batch, keep_logits=True)
    with torch.no_grad():
        whole = net((image + 1) / 2)[:, 0, 0]
    apart = (whole - logits).abs().max().item()
    assert apart < 1e-4, apart
    print(f"logits are at most {apart:.1e} from those of the whole network", file=sys.stderr)


def work(index, threads, batch, rounds, barrier, results):
    """Draws in step with the other processes; the first one tells the seconds of each round."""
    torch.set_num_threads(threads)
    sampler = Sampler(build())
    torch.manual_seed(index)
    sampler.sample(batch)
    seconds = []
    for _ in range(rounds):
        barrier.wait()
        start = time.perf_counter()
        sampler.sample(batch)
        barrier.wait()
        seconds.append(time.perf_counter() - start)
    if index == 0:
        results.put(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.processes < 1 or args.batch % args.processes or args.threads % args.processes:
        parser.error("images and threads must be shared equally among the processes")
    if args.check:
        net = build()
        check(net, Sampler(net), args.batch)
    # Every process is started anew, so that none inherits threads or memory of another one.
    start = multiprocessing.get_context("spawn")
    barrier, results = start.Barrier(args.processes, timeout=600), start.Queue()
    threads, batch = args.threads // args.processes, args.batch // args.processes
    workers = [
        start.Process(target=work, args=(index, threads, batch, args.rounds, barrier, results))
        for index in range(args.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            for other in workers:
                other.terminate()
            sys.exit(f"a process ended with {worker.exitcode}")
    print(
        json.dumps(
            {
                "batch": args.batch,
                "side": SIDE,
                "width": WIDTH,
                "layers": len(DILATIONS),
                "threads": args.threads,
                "processes": args.processes,
                "cached_seconds": statistics.median(results.get()),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
