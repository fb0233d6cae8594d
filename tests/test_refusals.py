"""What no computation takes is refused, and the message names the thing, what it got and the way out."""

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import classified, sample_problem
from torch import nn

from robustlib.attacks import auto_attack, carlini_wagner, hop_skip_jump, pgd, square
from robustlib.attacks.adversaries import Attack, plan_adversary
from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.attacks.statistics import mean_interval, paired_difference, proportion_interval
from robustlib.attacks.words import QueryCache, attack_texts, load_recipe
from robustlib.calibration import fit, metrics
from robustlib.calibration.checks import check_labels, check_logits, check_pixels
from robustlib.calibration.search import search_log, search_paper
from robustlib.calibration.temperature import TemperatureScaled, scale_logits
from robustlib.data import load_images, load_text
from robustlib.data.cache import cache_key
from robustlib.data.splits import subset
from robustlib.models.images import build_image_model
from robustlib.models.precision import at_precision, rounded_probabilities
from robustlib.models.texts import TextClassifier
from robustlib.study import profiles
from robustlib.study.claims.judge import paper_numbers
from robustlib.study.records import PAPER_COLUMNS, pack, paper_tables, unpack
from robustlib.training.augmentation import attacked_copies
from robustlib.training.images import ImageTraining, catastrophic_overfitting
from robustlib.training.methods import Method
from robustlib.training.minimum_norm import minimum_norm_weights
from robustlib.training.perturbation import PerturbationSet
from robustlib.training.texts import TextTraining

ZEROS, LOGITS, LABELS = torch.zeros(2, 2), *sample_problem(n=5, n_classes=4)
PROBS, RIGHT = LOGITS.softmax(dim=1), LABELS < 9
TINY, ZERO = TextClassifier.from_name("tiny-bert", 2), torch.tensor([0])
NET, IMAGE, LABEL = classified(1)
PROFILES = (Path(profiles.__file__).parent / "profiles.toml").read_text()
FITS = fit.fit_temperature, fit.fit_temperature_descent, fit.fit_platt, fit.fit_isotonic, fit.fit_histogram
BUDGETS = {
    pgd: ("steps", "restarts"),
    carlini_wagner: ("steps", "binary_search_steps"),
    hop_skip_jump: ("steps", "max_gradient_evaluations"),
    square: ("n_queries",),
    auto_attack: ("steps", "n_queries"),
}
UNFIT = (
    *(({"epsilon": radius}, "epsilon must be a finite radius") for radius in (-0.1, nan, inf)),
    ({"images": IMAGE * 3}, r"images must lie in \[0, 1\]"),
    ({"labels": torch.tensor([0, 1])}, "one for each example"),
    *(({"labels": LABEL * 0 + label}, rf"labels must lie in \[0, 3\], found {label} to") for label in (4, -1)),
)


def attacked(attack=pgd, **options):
    return attack(NET, **{"images": IMAGE, "labels": LABEL, "epsilon": 0.1} | options)


def answered(logits):
    return QueryCache(lambda texts: logits)(["a text"])


def nan_at_ten(temperature):
    return nan if temperature == 10 else 1.0


CALIBRATION = [
    (lambda: check_logits(torch.zeros(3)), r"shape \(n, n_classes\)"),
    (lambda: check_logits(ZEROS.long()), "floating-point tensor"),
    (lambda: check_labels(torch.tensor([0.0]), 1), "integer tensor"),
    (lambda: check_pixels(255 * torch.rand(2, 1, 4, 4)), "put normalisation into the model"),
    *((lambda t=t: scale_logits(ZEROS, t), "temperature must be finite and above 0") for t in (0.0, -1.0, nan, inf)),
    (lambda: scale_logits(ZEROS.long(), 1.0), r"floating-point tensor, got torch\.int64"),
    (lambda: scale_logits({"logits": ZEROS}, 1.0), "got dict"),
    (lambda: TemperatureScaled(nn.Identity(), 0.0), "temperature must be finite and above 0"),
    *((lambda f=f: f(PROBS, LABELS), "look like probabilities") for f in FITS),
    *((lambda f=f: f(LOGITS / 0, LABELS), "first in row 0") for f in FITS),
    *((lambda f=f: f(LOGITS, LABELS + 5), r"labels must lie in \[0, 3\]") for f in FITS),
    *((lambda f=f: f(LOGITS[:0], LABELS[:0]), "0 rows") for f in FITS),
    (lambda: fit.fit_temperature_descent(LOGITS, LABELS, optimiser="newton"), "optimiser must be one of .*'newton'"),
    (lambda: fit.fit_temperature_descent(LOGITS, LABELS, parameter="newton"), "parameter must be one of .*'newton'"),
    (lambda: fit.fit_temperature_descent(LOGITS, LABELS, reduction="newton"), "reduction must be one of .*'newton'"),
    (lambda: fit.fit_platt(LOGITS, LABELS, solver="newton"), "solver must be 'exact' or 'descent'"),
    (lambda: fit.fit_histogram(LOGITS, LABELS, n_bins=0), "n_bins must be at least 1"),
    (lambda: fit.fit_isotonic(LOGITS, LABELS).probs(LOGITS[:, :3]), "fitted on 4"),
    (lambda: search_log(nan_at_ten), "at temperature 10 is NaN"),
    (lambda: search_paper(nan_at_ten), "at temperature 10 is NaN"),
    (lambda: search_log(abs, centre=0.0), "centre must be finite and above 0"),
    (lambda: metrics.calibration_report(PROBS, LABELS), "look like probabilities"),
    (lambda: metrics.calibration_report(LOGITS[:0], LABELS[:0]), "0 rows"),
    (lambda: metrics.calibration_report(LOGITS * nan, LABELS), "first in row 0"),
    (lambda: metrics.top_label(LOGITS, LABELS), "apply softmax to logits"),
    (lambda: metrics.reliability_bins(torch.tensor([nan]), RIGHT[:1]), "found nan to nan"),
    (lambda: metrics.reliability_bins(torch.tensor([0.5, 90.0]), RIGHT[:2]), "found 0.5 to 90"),
    (lambda: metrics.reliability_bins(PROBS, RIGHT), "top_label"),
    (lambda: metrics.reliability_bins(torch.zeros(0), RIGHT[:0]), "n >= 1"),
    (lambda: metrics.reliability_bins(torch.ones(5), RIGHT, n_bins=0), "n_bins must be at least"),
    (lambda: metrics.calibration_errors(torch.ones(5), LABELS), "must be bool.*compare with the"),
]
ATTACKS = [
    *((lambda a=a, options=options: attacked(a, **options), message) for a in BUDGETS for options, message in UNFIT),
    *((lambda s=s: attacked(step_size=s), "step_size must be a finite number above 0") for s in (0.0, -0.01, nan, inf)),
    (lambda: attacked(seed="0"), "seed must be an integer, got '0'"),
    (lambda: attacked(seed=-1), "seed must be 0 or above, got -1"),
    *(
        (lambda a=a, name=name: attacked(a, **{name: 0}), f"{name} must be at least 1, got 0")
        for a, names in BUDGETS.items()
        for name in names
    ),
    *((lambda a=a: attacked(a, norm="l1"), r"one of \['l2', 'linf'\], got 'l1'") for a in (pgd, square, auto_attack)),
    (lambda: attacked(square, score=Margin()), "a loss of its own"),
    (lambda: plan_adversary("calibrated", NET, Attack("pgd", pgd), IMAGE, LABEL), "choose one of naive, cal"),
    (lambda: plan_adversary("margin", NET, Attack("sq", square, scale_free=None), IMAGE, LABEL), "'sq' searches with"),
    *((lambda t=t: CrossEntropy(t), "must be finite and above 0") for t in (0.0, -1.0, nan, inf)),
    (lambda: DLR()(ZEROS[:1], ZERO), "at least 3 classes"),
    (lambda: proportion_interval(11, 10), "got 11 of 10"),
    (lambda: paired_difference([True, False], [True, False, True]), "same examples, got 2 and 3"),
    (lambda: paired_difference([1, 0], [True, False]), "correct_a must be bool"),
    (lambda: paired_difference([], []), "n >= 1"),
    (lambda: mean_interval([0.5, nan]), "finite numbers"),
    *((lambda v=v: crossed_mean(v), "n_seeds") for v in (np.zeros(5), np.zeros((2, 1)), np.full((2, 3), nan))),
]
WORDS = [
    (lambda: answered(torch.tensor([[0.333, 0.333, 0.333]])), "look like probabilities"),  # as rounded by a service
    (lambda: answered(torch.tensor([[nan, 1.0]])), "NaN or infinite logits"),
    (lambda: answered(torch.zeros(2, 2) - 1), r"shape \(2, 2\) for 1 examples"),
    (lambda: answered(["positive"]), "tensor of logits"),
    (lambda: QueryCache(TINY, batch_size=0), "batch_size must be at least 1, got 0"),
    (lambda: attack_texts(TINY, ["a film"], torch.tensor([2])), r"labels must lie in \[0, 1\], found 2 to 2"),
    (lambda: attack_texts(TINY, ["a film"], LABELS[:2]), r"labels must have shape \(1,\)"),
    (lambda: attack_texts(TINY, ["a film"], ZERO, max_queries=0), "max_queries must be at least 1"),
    (lambda: attack_texts(TINY, ["a film"], ZERO, score=DLR()), "needs 3 classes, the model has 2"),
    (lambda: load_recipe("bae"), "bae needs masked_lm="),
    (lambda: load_recipe("textbugger"), "unknown recipe 'textbugger'; known: dg, pwws, tf, bae"),
    (lambda: attacked_copies(["a", "b"], torch.tensor([0, 2]), TINY), r"labels must lie in \[0, 1\]"),
    (lambda: attacked_copies(["a", "b"], ZERO, TINY), r"labels must have shape \(2,\)"),
    (lambda: attacked_copies(["a"], ZERO, TINY, "dgb"), "unknown recipe 'dgb'"),
    (lambda: attacked_copies(["a", " "], torch.tensor([0, 0]), TINY), r"texts\[1\] is empty"),
]
PAPER = ("2 nobody naive", "25 baseline_gradnorm cal", "10 ddi-at(M=3,K=3) naive attack=tf", "2 baseline opt")
RECORDS = [
    *((lambda p=p: paper_numbers(f"{{{p}}}", paper_tables()[PAPER_COLUMNS]), "not name one number") for p in PAPER),
    *((lambda v=v: cache_key("kind", {"value": v}, ()), "config") for v in (nan, object(), {1: 2}, ZERO)),
    (lambda: cache_key("kind", {}, ("attics",)), "no room or module 'attics'"),
    (lambda: profiles.get_profile("fast"), "choose one of smoke, quick, night, full, paper"),
    (lambda: profiles.read_profiles(PROFILES.replace("epochs", "epochz")), "unexpected keyword argument 'epochz'"),
    (lambda: profiles.read_profiles(PROFILES.replace("n_test = 600\n", "")), r"missing .* 'n_test'"),
    *((lambda t=t: pack(np.array(t)), "whole numbers") for t in ([[0, 1]], [0.5], [300])),
    (lambda: unpack("bm90IHppcA=="), "outcomes"),
    (lambda: unpack(""), "make no table"),
    (lambda: unpack(f"{pack(np.ones(3))} {pack(np.ones(4))}"), "make no table"),
]
DATA = [
    (lambda: load_images("mnist", "test"), "unknown image data set 'mnist'; known: fashion_mnist"),
    (lambda: load_images("digits", "dev"), "split must be one of train, validation, test, got 'dev'"),
    (lambda: load_text("imdb", "test"), "unknown text data set 'imdb'"),
    *((lambda n=n: subset(range(200), n, 3), f"n must be between 1 and 200, .*, got {n}") for n in (0, -1, 201)),
]
MODELS = [
    (lambda: TextClassifier.from_name("tiny-bert", 2, layers=3), "between 1 and the 2 of 'tiny-bert'"),
    (lambda: TextClassifier.from_name("tiny-bert", 2, max_length=300), "max_length .* between 3 and the 258 positions"),
    (lambda: TextClassifier.from_name("tiny-bert", 1), "n_classes must be at least 2"),
    (lambda: TextClassifier.from_name("tiny-mpnet", 2, max_length=257), "between 3 and the 256 .* 'tiny-mpnet'"),
    (lambda: TextClassifier.from_name("mpnet", 2), r"'mpnet' lies in a data folder: pass folder=.*fetch"),
    (lambda: build_image_model("vgg", 1, 8, 10, seed=0), "choose small_cnn or resnet18"),
    (lambda: rounded_probabilities(TINY, 0), "decimals must be at least 1"),
    (lambda: at_precision(TINY, "int4"), "precision must be one of float32, tf32, .*, int8, got 'int4'"),
    (lambda: at_precision(at_precision(TINY, "bfloat16"), "int8"), "must be float32.* computes in bfloat16"),
    (lambda: at_precision(at_precision(TINY, "int8"), "int8"), "must be float32.* computes in int8"),
]
TRAINING = [
    *((lambda s=s: minimum_norm_weights(torch.ones(s)), r"gram must be \(M, M\) with") for s in ((2, 3), (9, 9), (4,))),
    (lambda: PerturbationSet(norm="l1"), "norm must be linf or l2"),
    (lambda: PerturbationSet(radius=-1.0), "radius must be finite and at least 0"),
    (lambda: PerturbationSet(initial=2.0), "initial must be at most the radius"),
    (lambda: Method("mixup"), "method must be one of standard, fgsm, pgd"),
    (lambda: Method("pgd", steps=0), "steps must be at least 1"),
    (lambda: Method("ddi", solutions=9), "solutions 1 to 8"),
    (lambda: Method("fgsm", steps=2), "fgsm takes steps=1, got 2"),
    (lambda: Method("trades", beta=-1.0), "beta must be 0 or above, got -1"),
    (lambda: Method("ascc", kl=-1.0), "kl must be 0 or above"),
    (lambda: ImageTraining(method=Method("ascc")), "ascc is for texts; for images choose one of standard, fgsm"),
    (lambda: ImageTraining(method=Method("dg-aug")), "dg-aug is for texts"),
    (lambda: catastrophic_overfitting([{"epoch": 1}]), "no accuracy under PGD"),
    (lambda: TextTraining(training_temperature=0.0), "training_temperature must be finite and above 0"),
    (lambda: TextTraining(temperature_schedule="square"), "temperature_schedule must be one of constant, linear"),
    (lambda: TextTraining(gradient_rule="normalize"), "gradient_rule must be one of none, clip, normalise, got 'norm"),
    (lambda: TextTraining(precision="half"), "precision must be one of auto, float32, bfloat16"),
    (lambda: TextTraining(epochs=0), "epochs must be above 0"),
]


@pytest.mark.parametrize(("call", "message"), CALIBRATION + ATTACKS + WORDS + RECORDS + DATA + MODELS + TRAINING)
def test_it_is_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=message):
        call()
