"""Records made up for the tests of the claims."""

_SETTING = {"dataset": "d", "model": "m", "training_temperature": 1.0, "design_temperature": 1.0, "n": 1000, "seed": 0}
_ORIGIN = {"profile": "smoke", "device": "cpu", "date": "2026-01-02", "commit": "abc123"}


def record(mean, *, half=2.0, reference=None, **columns):
    """A record with the interval mean +- half; `columns` beside or instead of one setting on one machine."""
    interval = {"mean": mean, "low": mean - half, "high": mean + half}
    return _SETTING | _ORIGIN | interval | (reference.columns if reference else {}) | columns
