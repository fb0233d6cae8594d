"""Training temperature over a training."""

import pytest

from robustlib.training.schedules import SCHEDULES, WARM_UP, training_temperature_at


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_at_temperature_one_every_schedule_is_exactly_one(schedule, share):
    assert training_temperature_at(schedule, 1.0, share) == 1.0


def test_where_each_begins_and_ends():
    ends = {
        name: (training_temperature_at(name, 100.0, 0.0), training_temperature_at(name, 100.0, 1.0))
        for name in SCHEDULES
    }
    assert ends["constant"] == ends["learned"] == (100, 100)
    assert ends["warm-up"] == (1, 100)
    for name in ("linear", "cosine"):
        assert ends[name] == pytest.approx((100, 1))
    assert training_temperature_at("linear", 100.0, 0.5) == training_temperature_at("cosine", 100.0, 0.5) == 50.5
    assert training_temperature_at("warm-up", 100.0, WARM_UP / 2) == pytest.approx(10)  # even in log T
