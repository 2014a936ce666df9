"""Writes every fixture of `testdata/twins`, or checks that the stored ones are what this code computes.

python generate.py            write all
python generate.py --check    compute again and compare; exit 1 if anything differs
python generate.py vae edm    only the cases with one of these words in their name
"""

import argparse
import os
import sys

import torch

import cases_autoencoder
import cases_bound
import cases_cvae
import cases_dae
import cases_dcgan
import cases_diffusion
import cases_gans
import cases_gated_pixel_cnn
import cases_pixel_cnn
import cases_pixel_cnn_pp
import cases_pixel_rnn
import cases_stylegan2
import cases_tables
import cases_vae
import cases_vq_vae
import cases_wavenet
from fixture import FOLDER, differences, encode, render

MODULES = (
    cases_vae,
    cases_dcgan,
    cases_diffusion,
    cases_tables,
    cases_autoencoder,
    cases_dae,
    cases_pixel_cnn,
    cases_pixel_rnn,
    cases_wavenet,
    cases_bound,
    cases_cvae,
    cases_gans,
    cases_gated_pixel_cnn,
    cases_pixel_cnn_pp,
    cases_vq_vae,
    cases_stylegan2,
)

LARGEST_FILE = 600_000
LARGEST_TOTAL = 8_000_000


def all_cases():
    for module in MODULES:
        yield from module.cases()


def write(path, data):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="words of case names; all cases when absent")
    parser.add_argument("--check", action="store_true", help="compare with the stored files, write nothing")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    selected = [c for c in all_cases() if not args.words or any(w in c.name for w in args.words)]
    failed = False
    for case in selected:
        path = FOLDER / f"{case.name}.safetensors"
        tensors, header = render(case)
        if args.check:
            found = differences(path, tensors, header)
            failed |= bool(found)
            print(f"{case.name}: {'; '.join(found) or 'same'}")
        else:
            data = encode(tensors, header)
            assert len(data) <= LARGEST_FILE, (case.name, len(data))
            write(path, data)
            print(f"{case.name}: {len(data)} bytes; float32 {header['float32_run']}; floor {header['under_floor']}")

    if not args.words:
        known = {f"{c.name}.safetensors" for c in selected}
        stray = sorted(p.name for p in FOLDER.iterdir() if p.name not in known)
        total = sum(p.stat().st_size for p in FOLDER.iterdir())
        print(f"{len(known)} cases, {total} bytes in all")
        if stray:
            print(f"no case writes: {', '.join(stray)}")
        failed |= bool(stray) or total > LARGEST_TOTAL
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
