"""Widgets of the notebooks: `*_data` gathers once, `plot_*` draws the figure, `*_widget` puts controls around it."""

from robustlib.course.widgets.hidden_gap import hidden_gap_data, hidden_gap_widget, plot_hidden_gap
from robustlib.course.widgets.image_replay import image_replay_data, image_replay_widget, plot_image_replay
from robustlib.course.widgets.loss_landscape import loss_landscape_data, loss_landscape_widget, plot_loss_landscape
from robustlib.course.widgets.pierce import Game, pierce_data, pierce_widget, plot_pierce
from robustlib.course.widgets.scene import LiveFigure, Scene, moving_line, plot_scene
from robustlib.course.widgets.shell import figure_slider
from robustlib.course.widgets.temperature_lab import plot_temperature_lab, temperature_lab_data, temperature_lab_widget
from robustlib.course.widgets.text_replay import plot_text_replay, text_replay_data, text_replay_widget
from robustlib.course.widgets.training_temperature import (
    plot_training_temperature,
    training_temperature_data,
    training_temperature_widget,
)
