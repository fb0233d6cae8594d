"""The study: profiles, models and attacks with their budgets, what is recorded, and the claims judged from it."""

from robustlib.study.images import image_study

__all__ = ["image_study"]
