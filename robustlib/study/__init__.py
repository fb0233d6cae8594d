"""The study: profiles, models and attacks with their budgets, what is recorded, and the claims judged from it."""

from robustlib.study.images import ImageStudy, image_study
from robustlib.study.profiles import get_profile
from robustlib.study.records import HONEST, RecordBook, Reference, difference, differences, load_records, over_seeds
