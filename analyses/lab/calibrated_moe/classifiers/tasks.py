"""The two tasks of the classifier mixtures: what is learnt, what shifts, what belongs together.

Every task has a fixed test set, so that seeds and documents can be resampled as crossed factors. A seed
decides the rest: which samples are trained on and which are kept for recalibration, their
corruption, initial weights and the order of batches.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.seeds import generator

from .robust_training import RobustSettings
from .soft_moe import ContextTrunk, PixelTrunk

Labelled = tuple[Tensor, Tensor]  # inputs, labels


@dataclass(frozen=True)
class TestSet:
    """Rows, the cluster (image or document) of each, and its stratum.

    `weight` is a row's share in the in-domain mix (0: not part of it). `block` says within which
    clusters are exchangeable. `shifted` names the strata that training never saw.
    """

    inputs: Tensor
    labels: Tensor
    cluster: np.ndarray
    block: np.ndarray
    stratum: np.ndarray
    weight: np.ndarray
    seen: tuple[str, ...]
    shifted: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What to train, what to fit temperatures on, what to test on; `settings` are put in by the command."""

    name: str
    classes: int
    trunk: Callable[[], nn.Module]
    width: int
    settings: RobustSettings
    draw: Callable[[int], tuple[Labelled, Labelled]]
    test: TestSet
    focus: str  # the stratum a robust loss is meant to help


# ---------------------------------------------------------------------------------- digits

N_TEST, N_VALID = 500, 250
HARD_SHARE, HARD_NOISE, HARD_LABELS = 0.3, 0.6, 0.3


def digits(quick: bool = False) -> Task:  # noqa: ARG001
    """Handwritten digits (1,797 images of 8 x 8, scikit-learn), easy and hard.

    As in the published set-up a part of the inputs is hard: 30 % of the images get noise (standard
    deviation 0.6 of the range of a pixel) and 30 % of their labels are drawn at random, so that
    no model can be sure of them. Training, validation and the in-domain mix of the test have 30 % hard
    images. The shift is to all hard (the same images, another mix: what the theory is about), and to
    corruptions that were never trained on: rotation by 30 degrees, a third of the contrast, noise without
    changed labels. The 500 test images occur in every stratum; the image is the cluster. Writers are
    not recorded in this copy of the data, so two images of one hand count as independent.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "The digits come with scikit-learn, which is not installed. Install it with "
            "`pip install moeaudit[analyses]`, or run `--tasks text`."
        ) from error
    pixels, truth = load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16).astype(np.float32)  # (1797, 64) in [0, 1]
    labels = np.asarray(truth).astype(np.int64)
    order = generator(0, "digits", "test").permutation(len(labels))
    held, rest = order[:N_TEST], order[N_TEST:]

    def draw(seed: int) -> tuple[Labelled, Labelled]:
        rng = generator(seed, "digits", "train")
        mixed = rng.permutation(rest)
        train, valid = mixed[N_VALID:], mixed[:N_VALID]
        return _mix(images[train], labels[train], rng), _mix(images[valid], labels[valid], rng)

    return Task(
        "digits", 10, lambda: PixelTrunk(64, 128), 128, RobustSettings(), draw,
        _digit_test(images[held], labels[held]), "hard",
    )  # fmt: skip


def _mix(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Labelled:
    hard = rng.random(len(labels)) < HARD_SHARE
    worse, changed = harden(images, labels, rng)
    x = np.where(hard[:, None], worse, images)
    return torch.from_numpy(x), torch.from_numpy(np.where(hard, changed, labels))


def harden(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator):
    """Noisy images, and labels of which 30 % are drawn anew from all ten."""
    changed = np.where(
        rng.random(len(labels)) < HARD_LABELS, rng.integers(0, 10, len(labels)), labels
    )
    return _noisy(images, rng), changed


def _noisy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, HARD_NOISE, images.shape).astype(np.float32)
    return np.clip(images + noise, 0, 1)


def _digit_test(images: np.ndarray, labels: np.ndarray) -> TestSet:
    from scipy.ndimage import rotate

    rng = generator(0, "digits", "corruption")
    hard, changed = harden(images, labels, rng)
    turned = rotate(images.reshape(-1, 8, 8), 30, axes=(2, 1), reshape=False, order=1)
    parts = {
        "easy": (images, labels, 1 - HARD_SHARE),
        "hard": (hard, changed, HARD_SHARE),
        "rotated 30 degrees": (np.clip(turned, 0, 1).reshape(len(labels), -1), labels, 0.0),
        "a third of the contrast": (images / 3, labels, 0.0),
        "noise": (_noisy(images, rng), labels, 0.0),
    }
    n = len(labels)
    return TestSet(
        torch.from_numpy(np.concatenate([p[0] for p in parts.values()]).astype(np.float32)),
        torch.from_numpy(np.concatenate([p[1] for p in parts.values()])),
        np.tile(np.arange(n), len(parts)),
        np.zeros(n, np.int64),
        np.repeat(list(parts), n),
        np.repeat([p[2] for p in parts.values()], n),
        ("easy", "hard"),
        tuple(parts)[2:],
    )


# ------------------------------------------------------------------------------------ text

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYMBOLS, CONTEXT = 256, 8
CLASSES = len(LETTERS) + 8  # space, line break, digit, comma, full stop, quotes, other marks, rest


def text(quick: bool = False) -> Task:
    """The next character of bundled documents, from the 8 characters before it.

    Why this task: a shift needs labels on both sides. The domain of a text has none in a domain
    that was held out; the next character has one everywhere, in the same 34 classes (letters without case
    and accents, space, line break, digit, comma, full stop, quotes, other marks, anything else). And it
    is what language models do, in small: much of it cannot be known, so the truth is a distribution.
    Trained on eight domains; the shift is the three domains held out from them (Spanish, licences,
    API documentation), and every mix of the eight. The document is the cluster.
    """
    share = 0.25 if quick else 1.0
    parts = {s: ma.corpus("bundled", split=s) for s in ("train", "calibration", "test", "shift")}
    coded = {s: [_codes(d.text) for d in c] for s, c in parts.items()}

    def draw(seed: int) -> tuple[Labelled, Labelled]:
        def part(split: str, n: int) -> Labelled:
            return sample(coded[split], round(share * n), generator(seed, "text", split))[:2]

        return part("train", 20), part("calibration", 10)

    tested = list(parts["test"]) + list(parts["shift"])
    x, y, cluster = sample(
        coded["test"] + coded["shift"], round(share * 20), generator(0, "text", "positions")
    )
    domains = np.array([d.domain for d in tested])
    seen = tuple(sorted(set(parts["test"].domains)))
    test = TestSet(
        x, y, cluster, np.unique(domains, return_inverse=True)[1], domains[cluster],
        np.isin(domains[cluster], seen).astype(float), seen, tuple(sorted(parts["shift"].domains)),
    )  # fmt: skip
    return Task(
        "text",
        CLASSES,
        lambda: ContextTrunk(SYMBOLS, CONTEXT),
        128,
        RobustSettings(),
        draw,
        test,
        "all shifted",
    )


def sample(
    documents: list[tuple[np.ndarray, np.ndarray]], n: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, np.ndarray]:
    """`n` positions of each document: the symbols before it, the class at it, document number."""
    before, labels = [], []
    for symbols, classes in documents:
        at = rng.integers(CONTEXT, len(symbols), n)
        before.append(symbols[at[:, None] - np.arange(CONTEXT, 0, -1)])
        labels.append(classes[at])
    cluster = np.repeat(np.arange(len(documents)), n)
    return (
        torch.from_numpy(np.concatenate(before)),
        torch.from_numpy(np.concatenate(labels)),
        cluster,
    )


def _codes(string: str) -> tuple[np.ndarray, np.ndarray]:
    """The symbol (code point modulo 256) and the class of each character."""
    codes = np.frombuffer(string.encode("utf-32-le"), dtype=np.uint32)
    classes = np.array([_CLASS.get(c) or _learn(c) for c in string], np.int64) - 1
    return (codes % SYMBOLS).astype(np.int64), classes


_CLASS: dict[str, int] = {}  # character -> class + 1


def _learn(character: str) -> int:
    _CLASS[character] = _class(character) + 1
    return _CLASS[character]


def _class(character: str) -> int:
    plain = unicodedata.normalize("NFD", character)[0].lower()
    marks = {" ": 0, "\n": 1, ",": 3, ".": 4}
    if plain in LETTERS:
        return LETTERS.index(plain)
    if plain.isdigit():
        return len(LETTERS) + 2
    if plain in "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb":
        return len(LETTERS) + 5
    if plain in marks:
        return len(LETTERS) + marks[plain]
    return len(LETTERS) + (6 if unicodedata.category(plain)[0] in "PS" else 7)
