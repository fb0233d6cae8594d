"""Classifiers that give logits: how they are run, the image models of the study, text encoders and precisions."""

from robustlib.models.forward import evaluating, logits_of, seeded
from robustlib.models.images import Normalised, build_image_model

__all__ = ["Normalised", "build_image_model", "evaluating", "logits_of", "seeded"]
