"""Logits in, numbers out: temperatures, calibrators fitted on held-out data, searches for T, calibration metrics."""

from robustlib.calibration.disguises import (
    ConstantConfidence,
    Disguised,
    Floor,
    Rounded,
    TemperaturePerInput,
    TemperaturePerQuery,
    calibrated_gap,
)
from robustlib.calibration.fit import (
    TemperatureFit,
    fit_histogram,
    fit_isotonic,
    fit_platt,
    fit_readings,
    fit_temperature,
    fit_temperature_descent,
    typical_gap,
)
from robustlib.calibration.metrics import calibration_report, calibration_report_from_probs, reliability_bins, top_label
from robustlib.calibration.search import search_log, search_paper
from robustlib.calibration.temperature import TemperatureScaled, scale_logits
