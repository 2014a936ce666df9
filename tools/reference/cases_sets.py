"""Writes `testdata/metrics/sets.safetensors`: metrics of sets that no published fixture holds.

python cases_sets.py            write the file
python cases_sets.py --check    compute again and compare; exit 1 if anything differs

Values come from the package that defines the metric where there is one, and from a transcription of
the definition otherwise; every function names its source. Packages beside those of
`requirements.txt`: scipy 1.17.1, scikit-learn 1.9.1, vendi-score 0.0.3, POT 0.9.7.post1,
torch-fidelity 0.4.0.

Inputs are float32 (whole numbers too), `output/*` float64. The sets have twelve features: with more
than fifteen scikit-learn would search neighbours by a formula that rounds the distance of equal rows
away from zero.
"""

import argparse
import json
import os
import sys
import zlib
from unittest import mock

import numpy as np
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from fixture import FOLDER, differences, encode

FILE = FOLDER.parent / "metrics" / "sets.safetensors"
LARGEST_FILE = 300_000

SETTINGS = {
    "cells": 3,
    "tau": "20 / generated",
    "components": 4,
    "ridge": 0.01,
    "split_seed": 7,
    "projections": 500,
    "projection_seed": 3,
    "epsilon": 0.01,
    "path_seed": 2020,
    "discard_percent": [1, 99],
}


def f32(array):
    """The nearest values that float32 holds, in float64."""
    return np.asarray(array, dtype=np.float32).astype(np.float64)


def draw_sets(rng):
    """Three clusters; the generator is off, copies some training rows and neglects the third cluster."""
    centres = 2.5 * rng.standard_normal((3, 12))

    def sample(counts, spread):
        rows = [c + spread * rng.standard_normal((n, 12)) for c, n in zip(centres, counts)]
        return f32(rng.permutation(np.concatenate(rows)))

    train = sample((120, 100, 80), 1.0)
    heldout = sample((96, 80, 64), 1.0)
    generated = f32(sample((150, 102, 8), 0.9) + 0.3 * (np.arange(12) < 4))
    near = f32(train[40:75] + 0.05 * rng.standard_normal((35, 12)))
    # Equal rows: their distances are zero, and tie.
    generated = np.concatenate([generated, near, train[:5]])
    heldout[:3] = train[10:13]
    return {"train": train, "heldout": heldout, "generated": generated}


def vendi(sets):
    """vendi_score.vendi.score_dual, of cosine similarities."""
    from vendi_score.vendi import score_dual

    few = sets["train"][:8]
    return {
        "vendi.train": score_dual(sets["train"]),
        "vendi.generated": score_dual(sets["generated"]),
        "vendi.train.order2": score_dual(sets["train"], q=2),
        "vendi.train.order_infinite": score_dual(sets["train"], q="inf"),
        "vendi.eight": score_dual(few),
    }


def one_nearest_neighbour(real, fake):
    """Share of rows that the nearest other row classifies rightly (scikit-learn): all, real, fake.

    Rows of both sides may be equally near (there are copies): the mean over both orders of the
    sides counts such a row half. Then the share of rows that are their neighbour's neighbour, m,
    where the other side comes first among equally near ones, and the p-value of the normal
    approximation with the variance (1 + m)/4n of Schilling (1986).
    """
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    def right(first, second):
        rows = np.concatenate([first, second])
        labels = np.repeat([1, 0], [len(first), len(second)])
        nearest = KNeighborsClassifier(1, algorithm="brute")
        return cross_val_predict(nearest, rows, labels, cv=LeaveOneOut()) == labels

    n = len(real)
    one, other = right(real, fake), right(fake, real)
    of_real, of_fake = (one[:n] + 0.0 + other[n:]) / 2, (one[n:] + 0.0 + other[:n]) / 2
    rows = np.concatenate([real, fake])
    labels = np.repeat([1, 0], [n, n])
    distances = cdist(rows, rows)
    np.fill_diagonal(distances, np.inf)
    least = distances.min(axis=1, keepdims=True)
    tie = (distances == least) & (labels[:, None] != labels[None])
    nearest = np.where(tie.any(axis=1), tie.argmax(axis=1), distances.argmin(axis=1))
    mutual = (nearest[nearest] == np.arange(len(rows))).mean()
    expected = (n - 1) / (len(rows) - 1)
    share = (of_real.mean() + of_fake.mean()) / 2
    p_value = stats.norm.sf(share, expected, np.sqrt((1 + mutual) / (4 * len(rows))))
    return np.array([share, of_real.mean(), of_fake.mean(), mutual, p_value])


def classifier(real, fake, seed, ridge):
    """A logistic regression of one half of each set, judged on the other (scikit-learn, scipy).

    Order of the result: rightly classified, rows judged, mean loss in nats, p-value, interval.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    random, half = np.random.RandomState(seed), len(real) // 2
    orders = [random.permutation(len(rows)) for rows in (real, fake)]
    learn = np.concatenate([rows[o[:half]] for rows, o in zip((real, fake), orders)])
    judge = np.concatenate([rows[o[half:]] for rows, o in zip((real, fake), orders)])
    scale = StandardScaler().fit(learn)
    model = LogisticRegression(
        C=1 / (ridge * len(learn)), solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(scale.transform(learn), np.repeat([1, 0], half))
    labels = np.repeat([1, 0], len(real) - half)
    right = int((model.predict(scale.transform(judge)) == labels).sum())
    loss = log_loss(labels, model.predict_proba(scale.transform(judge)))
    test = stats.binomtest(right, len(labels), alternative="greater")
    interval = stats.binomtest(right, len(labels)).proportion_ci(0.95, "exact")
    return np.array([right, len(labels), loss, test.pvalue, interval.low, interval.high])


def sliced_wasserstein(a, b, projections, seed):
    """ot.sliced_wasserstein_distance (POT): the distance and its standard error over directions."""
    import ot

    directions = np.random.RandomState(seed).randn(a.shape[1], projections)
    directions /= np.linalg.norm(directions, axis=0)
    value, log = ot.sliced_wasserstein_distance(a, b, projections=directions, log=True)
    same = ot.sliced_wasserstein_distance(a, b, n_projections=projections, seed=seed)
    assert abs(same / value - 1) < 1e-12
    error = log["projected_emds"].std(ddof=1) / projections**0.5
    return np.array([value, error / (2 * value)])


def authpct(train, generated):
    """layer6ai-labs/dgm-eval @ d57a6d2, dgm_eval/metrics/authpct.py, in float64; marcojira/fld @ 6f0d888,
    fld/metrics/AuthPct.py takes 50 from it (and at most 10,000 rows)."""
    among = cdist(train, train)
    np.fill_diagonal(among, np.inf)
    to_train = cdist(generated, train)
    nearest = to_train.argmin(axis=1)
    percent = 100 * np.mean(among.min(axis=1)[nearest] < to_train.min(axis=1))
    return {"authpct.dgm": percent, "authpct.fld": percent - 50}


def copying_z(train, heldout, generated):
    """casey-meehan/data-copying @ 50db23a, data_copying_tests.py, Zu: a Mann-Whitney statistic
    without correction of its variance for ties."""
    m, n = len(generated), len(heldout)
    u = stats.mannwhitneyu(
        cdist(generated, train).min(axis=1), cdist(heldout, train).min(axis=1), alternative="less"
    ).statistic
    return (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)


def copying(sets, cells):
    """The same file, C_T, with the threshold of dgm-eval (ct.py): more than 20 generated rows in a cell."""
    from sklearn.decomposition import PCA

    order = ("train", "heldout", "generated")
    count = SETTINGS["cells"]
    in_cell = [[sets[s][cells[s] == c] for s in order] for c in range(count)]
    z = np.array([copying_z(*rows) for rows in in_cell])
    shares = np.array([len(rows[1]) for rows in in_cell]) / len(sets["heldout"])
    kept = np.array([len(rows[2]) for rows in in_cell]) > 20
    pca = PCA(SETTINGS["components"], svd_solver="full").fit(sets["train"])
    return {
        "c_t": shares[kept] @ z[kept] / shares[kept].sum(),
        "c_t.cells": z,
        "c_t.global": copying_z(*(sets[s] for s in order)),
        "c_t.global.components": copying_z(*(f32(pca.transform(sets[s])) for s in order)),
    }


def fidelity_path_length(weights, mode):
    """Perceptual Path Length of torch-fidelity 0.4.0: mean and population deviation of the kept pairs.

    The generator is tanh(W z), the distance the squared Euclidean one. The library calls
    `np.percentile` with a keyword that numpy 2.4 has renamed; the call is translated.
    """
    from torch_fidelity import GenerativeModelModuleWrapper, calculate_metrics
    from torch_fidelity.registry import SAMPLE_SIMILARITY_REGISTRY, register_sample_similarity
    from torch_fidelity.sample_similarity_base import SampleSimilarityBase

    class Squared(SampleSimilarityBase):
        def __init__(self, name, **_):
            super().__init__(name)

        def forward(self, a, b):
            return (a - b).square().sum(1)

    class Generator(torch.nn.Module):
        def forward(self, z):
            return torch.tanh(z.double() @ torch.from_numpy(weights).T)

    if "squared" not in SAMPLE_SIMILARITY_REGISTRY:
        register_sample_similarity("squared", Squared)
    percentile = np.percentile

    def renamed(a, q, interpolation):
        return percentile(a, q, method=interpolation)

    with mock.patch.object(np, "percentile", renamed):
        out = calculate_metrics(
            input1=GenerativeModelModuleWrapper(Generator(), weights.shape[1], "normal", 0),
            input1_model_num_samples=400,
            ppl=True,
            ppl_epsilon=SETTINGS["epsilon"],
            ppl_sample_similarity="squared",
            ppl_z_interp_mode=mode,
            rng_seed=SETTINGS["path_seed"],
            batch_size=64,
            cuda=False,
            verbose=False,
        )
    return np.array([out["perceptual_path_length_mean"], out["perceptual_path_length_std"]])


def stylegan_path_length(weights, start, end, t):
    """NVlabs/stylegan3 @ 8fb5177, metrics/perceptual_path_length.py, in z: on the unit sphere."""

    def unit(v):
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    a, b = unit(start), unit(end)
    cosine = (a * b).sum(axis=1, keepdims=True)
    across = unit(b - cosine * a)

    def images(at):
        angle = at[:, None] * np.arccos(cosine)
        return np.tanh(f32(unit(a * np.cos(angle) + across * np.sin(angle))) @ weights.T)

    epsilon = SETTINGS["epsilon"]
    distances = ((images(t) - images(t + epsilon)) ** 2).sum(axis=1) / epsilon**2
    low, high = SETTINGS["discard_percent"]
    low = np.percentile(distances, low, method="lower")
    high = np.percentile(distances, high, method="higher")
    kept = distances[(distances >= low) & (distances <= high)]
    return np.array([kept.mean(), kept.std()])


def path_lengths(rng):
    """Latents as torch-fidelity draws them, and what becomes of them."""
    weights = f32(rng.standard_normal((8, 6)))
    random = np.random.RandomState(SETTINGS["path_seed"])
    start, end = (f32(random.randn(400, 6)) for _ in range(2))
    t = np.random.RandomState(SETTINGS["path_seed"]).random_sample(400)
    inputs = {"path.weights": weights, "path.start": start, "path.end": end}
    return inputs, {
        "path.lerp": fidelity_path_length(weights, "lerp"),
        "path.slerp_any": fidelity_path_length(weights, "slerp_any"),
        "path.slerp": stylegan_path_length(weights, start, end, 0 * t),
        "path.slerp_full": stylegan_path_length(weights, start, end, t),
    }


def clusters(sets):
    """Cells by scikit-learn's k-means on the training rows."""
    from sklearn.cluster import KMeans

    model = KMeans(SETTINGS["cells"], n_init=10, random_state=0).fit(sets["train"])
    return {name: model.predict(rows) for name, rows in sets.items()}


def build():
    """All tensors of the file."""
    rng = np.random.default_rng(zlib.crc32(b"sets"))
    sets = draw_sets(rng)
    cells = clusters(sets)
    real, heldout, fake = (sets[s] for s in ("train", "heldout", "generated"))
    sliced = SETTINGS["projections"], SETTINGS["projection_seed"]
    inputs, outputs = path_lengths(rng)
    inputs |= sets | {f"cells.{name}": labels for name, labels in cells.items()}
    outputs |= vendi(sets) | authpct(real, fake) | copying(sets, cells)
    outputs |= {
        "one_nn": one_nearest_neighbour(real, fake),
        "classifier": classifier(real, fake, SETTINGS["split_seed"], SETTINGS["ridge"]),
        "sliced": sliced_wasserstein(real, fake, *sliced),
        "sliced.unequal": sliced_wasserstein(heldout, fake, *sliced),
    }
    tensors = {f"input/{k}": torch.from_numpy(np.asarray(v, dtype=np.float32)) for k, v in inputs.items()}
    for key, value in outputs.items():
        tensors[f"output/{key}"] = torch.from_numpy(np.atleast_1d(np.asarray(value, dtype=np.float64)))
    assert all(torch.isfinite(v).all() for v in tensors.values())
    return {k: v.contiguous() for k, v in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored file, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors = build()
    header = {"case": "sets", "settings": json.dumps(SETTINGS, sort_keys=True), "numpy": np.__version__}
    if args.check:
        found = differences(FILE, tensors, header)
        print(f"sets: {'; '.join(found) or 'same'}")
        sys.exit(1 if found else 0)
    data = encode(tensors, header)
    assert len(data) <= LARGEST_FILE, len(data)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    temporary = FILE.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, FILE)
    print(f"sets: {len(data)} bytes")
    for key, value in sorted(tensors.items()):
        if key.startswith("output/"):
            print(key.removeprefix("output/"), value.tolist())


if __name__ == "__main__":
    main()
