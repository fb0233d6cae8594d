"""Training: one loop, a table of methods that each leave gradients behind, for pixels and token embeddings alike."""

from robustlib.training.images import ImageTraining, catastrophic_overfitting, trained_image_model
from robustlib.training.methods import METHODS, Method, image_method
from robustlib.training.perturbation import PerturbationSet
