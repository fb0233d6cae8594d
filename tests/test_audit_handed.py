"""What is handed in beside the model: an attack of one's own, adversarial inputs and records of earlier audits."""

import numpy as np
import pytest
import torch
from audit_subjects import EPSILON, held_out, net, sentences, words_subject

from robustlib import attacks, audit
from robustlib.audit import Audit, IllusionError, command
from robustlib.audit.again import load

OPTIONS = {"n": 80, "figures": False}


def audited(model=None, *, images=None, **options):
    given, labels = held_out()
    options = {"epsilon": EPSILON, **OPTIONS, **options}
    return audit(model or net(), given if images is None else images, labels, **options)


def pgd(images, labels, *, steps=20, epsilon=EPSILON, model=None):
    return attacks.pgd(model or net(), images, labels, epsilon=epsilon, steps=steps).adversarial


def nothing(images, labels):
    return images


def led_astray(images):
    """The network with a chequered pattern that speaks for class 0: as often right, and easier to fool."""
    pattern = torch.ones(8, 8)
    pattern[::2, 1::2] = pattern[1::2, ::2] = -1.0
    return net()(images) + 3 * (pattern * images).sum(dim=(1, 2, 3))[:, None] * torch.eye(4)[0]


@pytest.fixture(scope="module")
def honest():
    return audited()


def test_a_weak_attack_is_told_and_its_number_refuted(honest):
    report = audited(attack=nothing)
    assert report.verdict == "no illusion found" and report.at_most == honest.at_most
    assert report.rung("your attack").accuracy.percent == report.clean.percent == report.claim
    assert report.finding("attack.yours").severity == "warning" and report.claim_outcome == "refuted"
    assert command.status(report) == command.BELOW
    with pytest.raises(IllusionError, match="refuted"):
        report.raise_for_verdict()


def test_a_good_attack_is_confirmed_and_is_part_of_the_bound():
    report = audited(attack=pgd)
    assert report.finding("attack.yours").severity == "fine" and report.claim_outcome == "not refuted"
    assert report.rung("your attack").family == "strength"
    report.raise_for_verdict()
    assert audited(attack=nothing, claim=0.01).claim_outcome == "not refuted"  # what is claimed counts, if it is


def test_a_state_keeps_no_attack_that_was_handed_in(tmp_path):
    weak, good = (audited(attack=attack, n=40, state=tmp_path / "state.json") for attack in (nothing, pgd))
    assert good.rung("your attack").accuracy.percent < weak.rung("your attack").accuracy.percent
    assert good.rung("margin") == weak.rung("margin")  # taken from the state, seconds and all


def test_an_attack_gets_inputs_as_they_were_handed_in():
    images, _ = held_out()
    seen = []

    def model(rows):
        return net()(rows.reshape(-1, 1, 8, 8) / 255)

    def attack(rows, labels):
        seen.append(rows)
        made = pgd(rows.reshape(-1, 1, 8, 8) / 255, labels)
        return (255 * made).reshape(rows.shape).numpy()

    report = audited(model, images=255 * images.flatten(1), epsilon=255 * EPSILON, bounds=(0, 255), attack=attack)
    assert seen[0].shape[1:] == (64,) and 200 < float(seen[0].max()) <= 255
    assert report.finding("attack.outside") is None
    assert report.rung("your attack").accuracy.percent == pytest.approx(report.at_most.percent, abs=5)


@pytest.mark.parametrize(
    ("attack", "severity", "words"),
    [
        (lambda x, y: pgd(x, y, epsilon=4 * EPSILON), "attack.outside", "were moved into it"),
        (lambda x, y: x[:, :, 1:], "attack.failed", "returned shape"),
        (lambda x, y: x * torch.nan, "attack.failed", "NaN"),
    ],
)
def test_what_an_attack_may_not_do_is_said(attack, severity, words):
    report = audited(attack=attack)
    assert words in report.finding(severity).sentence
    if severity == "attack.failed":
        assert report.rung("your attack").status == "failed" and report.claim is None


def test_adversarial_inputs_are_kept_and_fool_the_model_again(honest, tmp_path):
    images, labels = held_out()
    kept = honest.adversarial
    path = tmp_path / "found.npz"
    honest.save(path)
    again = load(path)
    assert torch.equal(again.inputs, kept.inputs) and again.settings["examples"] == honest.settings["examples"]
    right = net()(kept.inputs).argmax(1) == labels[kept.positions]
    assert 100 * right.double().mean() == pytest.approx(honest.together.percent)
    assert (kept.inputs - images[kept.positions]).abs().max() <= EPSILON + 1e-6
    report = audited(replay=path, n=None)
    assert report.settings["n"] == 80
    assert report.rung("replayed").accuracy == honest.together
    assert report.verdict == "no illusion found"


def test_adversarial_inputs_are_those_of_the_same_examples(honest, tmp_path):
    path = tmp_path / "found.npz"
    honest.save(path)
    with pytest.raises(ValueError, match=r"not the examples of the earlier audit.*n = 80, seed = 0"):
        audited(replay=path, seed=3)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="holds no adversarial inputs"):
        audited(replay=tmp_path / "other.npz")
    with pytest.raises(ValueError, match="holds no adversarial inputs: save them after"):
        Audit.from_json(honest.to_json()).save(path)


def test_texts_are_kept_and_replayed(tmp_path):
    texts, labels = sentences(120)
    respond = words_subject().respond
    first = audit(respond, texts, labels, gives="logits", n=60, figures=False)
    first.save(tmp_path / "found.npz")
    seen = []

    def attack(batch, classes):
        seen.extend(batch)
        return [text.upper() for text in batch]

    second = audit(respond, texts, labels, gives="logits", replay=tmp_path / "found.npz", attack=attack)
    assert second.rung("replayed").accuracy == first.together
    assert set(seen) <= set(texts) and second.rung("your attack").status == "done"


def test_a_model_that_got_worse_is_told(honest, tmp_path):
    path = tmp_path / "audit.json"
    honest.save(path)
    same = audited().compared_with(path)
    assert not same.worse and "+0.0" in same.finding("attack.regression").sentence
    assert command.status(same) == 0
    weaker = audited(led_astray, gives="logits").compared_with(honest)
    cold = audited(lambda x: 1e4 * net()(x), gives="logits").compared_with(honest)
    assert weaker.worse and weaker.finding("attack.regression").values["high"] < 0
    assert cold.worse and cold.finding("attack.regression").values["high"] >= 0  # as little stands, another verdict
    with pytest.raises(IllusionError, match="worse than before"):
        weaker.raise_for_verdict()
    with pytest.raises(ValueError, match="epsilon"):
        audited(epsilon=0.01).compared_with(honest)


def test_the_command_keeps_replays_and_compares(tmp_path, capsys):
    images, labels = held_out()
    np.savez(tmp_path / "test.npz", images=images.numpy(), labels=labels.numpy())
    (tmp_path / "mine.py").write_text(
        "from audit_subjects import net\nfrom test_audit_handed import led_astray, nothing\n\n"
        "def honest():\n    return net()\n"
    )

    def run(model, *more):
        arguments = ["--model", f"{tmp_path / 'mine.py'}:{model}", "--data", tmp_path / "test.npz", "--gives", "logits"]
        return command.main([str(part) for part in (*arguments, "--epsilon", EPSILON, "--quiet", *more)])

    kept = ["--json", tmp_path / "a.json", "--adversarial", tmp_path / "a.npz"]
    assert run("honest", "--n", 80, "--seed", 4, *kept) == 0
    assert run("honest", "--baseline", tmp_path / "a.json", "--replay", tmp_path / "a.npz") == 0
    assert "replayed" in capsys.readouterr().out
    assert run("led_astray", "--baseline", tmp_path / "a.json") == 6
    assert "attack.regression" in capsys.readouterr().out
    assert run("honest", "--n", 80, "--attack", f"{tmp_path / 'mine.py'}:nothing") == 6
    assert "attack.yours" in capsys.readouterr().out
