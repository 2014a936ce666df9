"""Writes `testdata/metrics/pairs.safetensors`: metrics of pairs of synthetic pictures, and published resizes.

python cases_pairs.py            write the file
python cases_pairs.py --check    compute again and compare; exit 1 if anything differs

Packages beside those of `requirements.txt`: scikit-image 0.26.0, torch-fidelity 0.4.0.

Inputs are bytes, pictures `[height, width]` or `[height, width, 3]`, the inputs of resizes
`[channels, height, width]`. Of a resized picture the file holds the first, the middle and the last row and the
SHA-256 of all its little-endian float32 values. The sizes avoid what would make the last bits a matter of the
route: PyTorch sums in another order for outputs of at most 128 rows and columns together, and for three channels on
one thread; Pillow 13 resizes the height first where it shrinks much more than the width (python-pillow/Pillow#9549).
Two things remain: a processor without fused multiplication and addition changes the sums of PyTorch, and its
antialiased windows of more than four samples (the width of `down`) are unrolled by fours, whose products are rounded.
"""

import argparse
import hashlib
import json
import os
import sys

import numpy as np
import PIL
import skimage
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from fixture import DTYPES, FOLDER, differences, encode

FILE = FOLDER.parent / "metrics" / "pairs.safetensors"
LARGEST_FILE = 200_000
DTYPES[torch.uint8] = "U8"

# Wang et al. (2004): window of 11 taps, population covariance, valid region.
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
# Wang et al. (2003), the finest scale first.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

RESIZES = {"up": ((2, 21, 34), (75, 60)), "down": ((2, 90, 170), (70, 60)), "thumbnail": ((2, 32, 32), (299, 299))}


def grain(shape, seed):
    """Whole numbers -20..=20 of a linear congruential generator."""
    state, out = seed, np.empty(int(np.prod(shape)))
    for i in range(out.size):
        state = (1664525 * state + 1013904223) % 2**32
        out[i] = (state >> 16) % 41 - 20
    return out.reshape(shape)


def picture(height, width, channels, seed):
    """Waves of another length and phase in every channel, an edge, a little grain."""
    y, x, c = np.indices((height, width, channels)).astype(np.float64)
    wave = np.sin(0.21 * x + 0.13 * (c + 1) * y + seed) + np.cos(0.004 * x * y + c)
    edge = 40.0 * (x + 2 * y > width)
    return np.clip(np.rint(95 + 40 * wave + edge + 0.5 * grain(wave.shape, seed)), 0, 255)


def pair(height, width, channels, seed):
    a = picture(height, width, channels, seed)
    b = np.clip(np.rint(0.9 * a + 8 + grain(a.shape, seed + 1)), 0, 255)
    return (a, b) if channels == 3 else (a[..., 0], b[..., 0])


def luma(rgb):
    """MATLAB's rgb2ycbcr on bytes, before it rounds."""
    return rgb @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def similarity(a, b, **options):
    return structural_similarity(a, b, channel_axis=2 if a.ndim == 3 else None, **WANG, **options)


def factors(a, b):
    """The terms of MS-SSIM; with an enormous K1 scikit-image's SSIM is the contrast term alone."""
    out = []
    for scale in range(5):
        out.append(similarity(a, b, **({} if scale == 4 else {"K1": 1e8})))
        a, b = (block_means(image) for image in (a, b))
    return np.array(out)


def block_means(image):
    image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def plain(name, a, b):
    return {
        f"{name}.mse": mean_squared_error(a, b),
        f"{name}.mae": np.abs(a - b).mean(),
        f"{name}.psnr_db": peak_signal_noise_ratio(a, b, data_range=255),
        f"{name}.ssim": similarity(a, b),
    }


def pairs():
    grey, colour = pair(177, 180, 1, 3), pair(48, 40, 3, 5)
    inputs = dict(zip(("grey.a", "grey.b", "colour.a", "colour.b"), grey + colour))
    out = plain("grey", *grey) | plain("colour", *colour)
    out["grey.ms_ssim_factors"] = factors(*grey)
    out["grey.ms_ssim"] = np.prod(out["grey.ms_ssim_factors"] ** SCALE_WEIGHTS)
    # Three channels made of the two grey pictures: the terms are averaged before the product.
    a, b = grey
    mixed = np.stack([a, 255 - b, a], axis=2), np.stack([b, 255 - b, (a + b) / 2], axis=2)
    out["mixed.ms_ssim"] = np.prod(factors(*mixed) ** SCALE_WEIGHTS)

    y = [luma(image) for image in colour]
    out |= plain("colour_y", *y)
    out |= plain("colour_y_rounded", *(np.floor(image + 0.5) for image in y))
    out |= plain("colour_y_shaved4", *(image[4:-4, 4:-4] for image in y))
    _, whole = similarity(*colour, full=True)
    out["colour.ssim_map"] = whole[5:-5, 5:-5].transpose(2, 0, 1).astype(np.float32)
    return inputs, out


def resized(samples, to):
    """Every rule on samples 0..=255, [channels, height, width] in float32."""
    batch = torch.from_numpy(samples)[None]
    options = {"size": to, "mode": "bilinear", "align_corners": False}
    cubic = [Image.fromarray(plane).resize((to[1], to[0]), Image.BICUBIC) for plane in samples]
    return {
        "tf1-bilinear": interpolate_bilinear_2d_like_tensorflow1x(batch, size=to, align_corners=False)[0].numpy(),
        "torch-bilinear": F.interpolate(batch, **options)[0].numpy(),
        "torch-bilinear-antialias": F.interpolate(batch, antialias=True, **options)[0].numpy(),
        "pil-bicubic": np.stack([np.asarray(plane) for plane in cubic]).clip(0, 255),
    }


def resizes():
    inputs, out = {}, {}
    for name, (shape, to) in RESIZES.items():
        channels, height, width = shape
        samples = picture(height, width, channels, len(name)).transpose(2, 0, 1)
        # Both ends of the range, so that the cubic has something to clip.
        samples[0, ::5], samples[1, :, ::7] = 0, 255
        inputs[name] = samples
        for rule, values in resized(np.ascontiguousarray(samples, dtype=np.float32), to).items():
            assert values.dtype == np.float32 and values.shape == (channels, *to)
            digest = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).digest()
            out[f"{name}.{rule}.rows"] = values[:, [0, to[0] // 2, to[0] - 1]]
            out[f"{name}.{rule}.sha256"] = np.frombuffer(digest, dtype=np.uint8)
    return inputs, out


def tensors():
    stored = {}
    for inputs, outputs in (pairs(), resizes()):
        for name, image in inputs.items():
            assert (image == image.astype(np.uint8)).all()
            stored[f"input/{name}"] = torch.from_numpy(np.ascontiguousarray(image, dtype=np.uint8))
        for name, value in outputs.items():
            stored[f"output/{name}"] = torch.from_numpy(np.atleast_1d(np.asarray(value)).copy())
    return stored


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored file, write nothing")
    args = parser.parse_args()

    settings = {"window": WANG, "scale_weights": SCALE_WEIGHTS, "resizes": RESIZES}
    versions = {"skimage": skimage.__version__, "pillow": PIL.__version__, "torch": torch.__version__}
    header = {"case": "pairs", "settings": json.dumps(settings, sort_keys=True), "versions": json.dumps(versions)}
    computed = tensors()
    if args.check:
        found = differences(FILE, computed, header)
        print(f"pairs: {'; '.join(found) or 'same'}")
        sys.exit(1 if found else 0)
    data = encode(computed, header)
    assert len(data) <= LARGEST_FILE, len(data)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    temporary = FILE.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, FILE)
    print(f"pairs: {len(data)} bytes")


if __name__ == "__main__":
    main()
