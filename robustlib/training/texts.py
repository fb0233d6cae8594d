"""Fine-tuning of text classifiers with the loop of `training.loop`: the paper's optimiser; cached, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from robustlib.calibration.checks import check_labels
from robustlib.data import cache
from robustlib.models.texts import TextClassifier
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint, epoch_generator
from robustlib.training.loop import Training, fit, logit_facts
from robustlib.training.methods import Step, method_step

_ROOMS = ("training.texts",)  # with all that it imports: part of the cache keys
N_PROBED = 128  # training texts whose logits are followed over the epochs


class LabelledTexts(Protocol):
    """What training needs of a data set: `texts` (strings or pairs) and `labels`, (n,) integers."""

    texts: Sequence[Any]
    labels: Tensor


@dataclass(frozen=True)
class TextTraining(Training):
    """Everything but the data that determines a fine-tuned classifier. Defaults are the paper's (its section 4).

    Attributes:
        encoder, layers, max_length, n_classes: as in `TextClassifier.from_name`.
    """

    n_classes: int = 2
    encoder: str = "minilm"  # paper: DeBERTa-base, RoBERTa-base, BERT-base
    layers: int | None = None
    max_length: int = 128  # the paper does not state it
    betas: tuple[float, float] = (0.9, 0.999)
    # learning_rate: no warm-up; decays linearly to 0 (the paper implies a decay, not its form)


def train_text_classifier(config: TextTraining, data: LabelledTexts, *, refresh: bool | None = None) -> TextClassifier:
    """The classifier this configuration gives on these texts: from the cache, else fine-tuned now.

    An interrupted training goes on from its last checkpoint with the weights it would have had.
    Taught in: notebooks/05.

    Args:
        config: the training.
        data: training texts and their labels.
        refresh: train again even if the cache has it.

    Returns:
        The classifier in eval mode on `config.device`, float32, serving its plain logits (the training temperature is
        not applied). `history` is what `training.loop.fit` returns, with `logit_facts` of `N_PROBED` training texts.

    Raises:
        FloatingPointError: the loss became NaN or infinite; names the configuration, the epoch and the step.
    """
    labels = torch.as_tensor(data.labels)
    check_labels(labels, len(data.texts), config.n_classes)
    settings = {
        **asdict(config),
        "precision": resolve_precision(config.precision, config.device),
        "data": data_digest(data.texts, labels),
    }
    if config.method.name == "ascc":
        from robustlib.training import substitutes

        settings["substitutes"] = substitutes.resolve_substitutes()[0]

    def build() -> TextClassifier:
        return TextClassifier.from_name(
            config.encoder, config.n_classes, layers=config.layers, seed=config.seed, max_length=config.max_length
        ).to(config.device)

    def compute() -> dict[str, Any]:
        model = build()
        encodings = model.tokenise(data.texts)
        on_device = labels.to(config.device)

        def probe() -> dict[str, float]:
            with torch.no_grad():
                return logit_facts(model(model.collate(encodings[:N_PROBED])), labels[:N_PROBED])

        history = fit_text(
            model,
            plan=lambda epoch: length_bucketed([len(e) for e in encodings], config.batch_size, config.seed, epoch),
            load=lambda rows: (model.collate([encodings[row] for row in rows]), on_device[rows]),
            step=_step(config, model),
            config=config,
            probe=probe,
            checkpoint=Checkpoint("text_model", settings, rooms=_ROOMS),
        )
        return {**model.body.state_dict(), "history": history}

    payload = cache.cached("text_model", settings, compute, rooms=_ROOMS, refresh=refresh)
    model = build()
    model.history = payload.pop("history")
    model.body.load_state_dict(payload)
    return model.eval()


def _step(config: TextTraining, model: TextClassifier) -> Step:
    autocast = autocast_context(config.precision, config.device)
    if config.method.name != "ascc":
        return method_step(config.method, autocast)
    from robustlib.training.ascc import ascc_step
    from robustlib.training.substitutes import resolve_substitutes, substitution_table

    method, table = config.method, substitution_table(model, substitutes=resolve_substitutes()[0])
    return partial(
        ascc_step,
        table=table.to(config.device),
        steps=method.steps,
        alpha=method.alpha,
        beta=method.kl,
        autocast=autocast,
    )


def fit_text(
    model: torch.nn.Module,
    *,
    plan: Callable[[int], list[list[int]]],
    load: Callable[[list[int]], tuple[Any, Tensor]],
    step: Step,
    config: TextTraining,
    **options: Any,
) -> list[dict[str, float]]:
    """`robustlib.training.loop.fit` with AdamW and a learning rate that falls linearly to 0; `options` as there."""
    optimiser = partial(
        torch.optim.AdamW, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    return fit(
        model,
        plan=plan,
        load=load,
        step=step,
        config=config,
        optimiser=optimiser,
        decay=lambda share: 1 - share,
        description=f"training {config.encoder}, {config.label}",
        **options,
    )


def length_bucketed(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of one epoch's batches: shuffled, but texts of about one length together, so that little is padded.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the batches shuffled.
    """
    generator = epoch_generator(seed, epoch)
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(rows), 50 * batch_size):
        pool = sorted(rows[start : start + 50 * batch_size], key=lambda row: lengths[row])
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def data_digest(texts: Sequence[Any], labels: Tensor) -> str:
    """Hash of texts and labels, in order: the data's part of a cache key."""
    content = json.dumps([list(texts), labels.tolist()], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]
