"""Classifiers that give logits: how they are run, the image models of the study, text encoders and precisions."""

from robustlib.models.forward import Forward, evaluating, float32_mode, logits_of, seeded, warn_if_random
from robustlib.models.images import Normalised, build_image_model
