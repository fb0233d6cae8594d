"""The audit from end to end: budget, interrupts, memory, attacks that raise, resuming, records."""

import json

import pytest
import torch
from audit_subjects import EPSILON, N_CLASSES, Shown, held_out, net, sentences, white, words_subject

from robustlib.audit import Audit, IllusionError, run, rungs
from robustlib.audit.record import smallest_gap
from robustlib.audit.run import audit_subject
from robustlib.audit.subject import Subject


def audit(subject, n=60, **options):
    images, labels = held_out()
    return audit_subject(subject, images[:n], labels[:n], epsilon=EPSILON, **options)


def with_rung(monkeypatch, name, action):
    """The ladder in which one rung does something else."""
    ladder = tuple(p if p.name != name else _replaced(p, action) for p in rungs.IMAGE_LADDER)
    monkeypatch.setattr(run, "IMAGE_LADDER", ladder)


def _replaced(plan, action):
    from dataclasses import replace

    return replace(plan, run=action)


def raising(error):
    def action(case):
        raise error

    return action


def test_an_attack_that_raises_is_reported_and_stops_nothing(monkeypatch):
    with_rung(monkeypatch, "margin", raising(ValueError("no luck")))
    report = audit(white())
    assert report.rung("margin").status == "failed" and "no luck" in report.finding("attack.failed").sentence
    assert report.rung("targeted").status == "done" and report.verdict == "no illusion found"


def test_an_interrupt_keeps_what_is_finished(monkeypatch, tmp_path):
    with_rung(monkeypatch, "margin", raising(KeyboardInterrupt()))
    state = tmp_path / "state.json"
    report = audit(white(), state=state)
    assert not report.complete and report.rung("margin").status == "unfinished"
    assert report.rung("as served").status == "done"
    monkeypatch.undo()
    lines = []
    again = audit(white(), state=state, tell=lines.append)
    assert again.complete and not any(line.startswith("as served") for line in lines)
    assert again.rung("as served") == report.rung("as served")


def test_a_state_of_another_model_is_not_used(tmp_path):
    state, lines = tmp_path / "state.json", []
    audit(white(), state=state)
    audit(white(before=lambda x: x.flip(3)), state=state, tell=lines.append)
    assert lines[0].startswith("noise")


def test_running_out_of_memory_halves_the_batch_and_says_so():
    model = Shown()

    def small_batches(images):
        if len(images) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model(images)

    report = audit(Subject(small_batches, "logits", "image", N_CLASSES, module=small_batches))
    assert report.verdict == "no illusion found"
    assert report.finding("attack.memory").values["batch_size"] <= 20


def test_a_small_budget_attacks_fewer_examples_and_leaves_rungs_out(monkeypatch):
    monkeypatch.setattr(run, "_seconds_a_pass", lambda served: 1e-3)
    images, labels = held_out()
    report = audit_subject(white(), images, labels, epsilon=EPSILON, budget=5)
    assert report.finding("attack.budget").values["n"] == report.settings["n"] < 200
    assert report.rung("targeted").status == "skipped" and "5 s" in report.rung("targeted").note
    assert report.rung("as served").status == "done"


def test_more_examples_calibrate_and_the_attacked_ones_follow_the_seed():
    first, again, other = (audit(white(), n=200, **{"seed": seed}) for seed in (0, 0, 1))
    few = audit_subject(white(), *held_out(), epsilon=EPSILON, n=50)
    assert few.settings["n"] == 50 and few.finding("scale.temperature").values["n"] == 150
    assert first.rung("margin").standing == again.rung("margin").standing
    assert first.settings["examples"] != other.settings["examples"]


def test_a_record_survives_json_and_another_version_is_refused():
    report = audit(white(behind=lambda z: z * 1e4), claim=0.8)
    assert Audit.from_json(report.to_json()) == report
    assert report.claim_outcome == "refuted"
    with pytest.raises(ValueError, match="schema"):
        Audit.from_json(json.dumps({**json.loads(report.to_json()), "schema": 0}))
    with pytest.raises(ValueError, match="no record"):
        Audit.from_json("[]")
    with pytest.raises(IllusionError, match="miscalibration"):
        report.raise_for_verdict()


def test_the_smallest_gap_shrinks_with_examples_down_to_the_threshold():
    assert smallest_gap(50) > smallest_gap(100) > smallest_gap(1000) == 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": None}, "epsilon"),
        ({"n": 0}, "n must be at least 1"),
        ({"labels": torch.full((60,), 9)}, "label map"),
        ({"inputs": 3 * torch.rand(60, 1, 8, 8)}, "must lie in"),
    ],
)
def test_wrong_use_is_refused_with_the_way_out(change, message):
    images, labels = held_out()
    given = {"inputs": images[:60], "labels": labels[:60], "epsilon": EPSILON, **change}
    with pytest.raises(ValueError, match=message):
        audit_subject(white(), given.pop("inputs"), given.pop("labels"), **given)


def test_no_text_is_asked_twice():
    asked = []
    subject = words_subject()

    def respond(texts):
        asked.extend(texts)
        return subject.respond(texts)

    texts, labels = sentences()
    report = audit_subject(Subject(respond, "logits", "text", 2), texts, labels)
    again = len(asked) - len(set(asked))
    assert again <= 2 * 32 + 16  # the determinism check asks on purpose
    assert report.forwards == len(asked)


def test_nothing_is_changed_in_the_network():
    before = {name: value.clone() for name, value in net().state_dict().items()}
    audit(white())
    assert all(torch.equal(value, net().state_dict()[name]) for name, value in before.items())
