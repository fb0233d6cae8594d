"""Sliders of the notebooks and pages: each function gathers what its slider in JavaScript draws from."""

from robustlib.course.widgets.hidden_gap import HiddenGap, hidden_gap
from robustlib.course.widgets.illusion import Illusion, illusion
from robustlib.course.widgets.image_replay import ImageReplay, image_replay
from robustlib.course.widgets.loss_landscape import LossLandscape, loss_landscape
from robustlib.course.widgets.pierce import Pierce, pierce
from robustlib.course.widgets.slider import Slider
from robustlib.course.widgets.temperature_lab import TemperatureLab, temperature_lab
from robustlib.course.widgets.text_replay import TextReplay, text_replay
from robustlib.course.widgets.training_temperature import TrainingTemperature, training_temperature
