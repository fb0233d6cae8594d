"""Fine-tuning of text classifiers with the loop of `training.loop`: the paper's optimiser; cached, resumable."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustlib.attacks.words.words import Example
from robustlib.calibration.checks import check_labels
from robustlib.data import fetch
from robustlib.data.cache import content_digest
from robustlib.models.pretrained import DOWNLOADED
from robustlib.models.texts import TextClassifier
from robustlib.training.augmentation import attacked_copies
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint, epoch_generator, trained_once
from robustlib.training.loop import Training, fit, logit_facts
from robustlib.training.methods import Method, Step, method_step
from robustlib.training.substitutes import available_source, substitution_table
from robustlib.training.vocabulary import only_embeddings_of

N_PROBED = 128  # training texts whose logits are followed over the epochs


@dataclass(frozen=True)
class TextTraining(Training):
    """Everything but the data that determines a fine-tuned classifier. Defaults are the paper's (its section 4).

    Attributes:
        encoder, layers, max_length, n_classes: as in `TextClassifier.from_name`.
        learning_rate: at the start; falls linearly to 0 (the paper implies a decay, not its form).
    """

    n_classes: int = 2
    encoder: str = "minilm"  # paper: DeBERTa-base, RoBERTa-base, BERT-base
    layers: int | None = None
    max_length: int = 128  # the paper does not state it


def train_text_classifier(config: TextTraining, texts: Sequence[Example], labels: Tensor) -> TextClassifier:
    """The classifier this configuration gives on texts (or pairs) with labels (n,): from the cache, else fine-tuned.

    An interrupted training goes on from its last checkpoint. A method with augmentation first doubles the texts, by an
    attack on a standard model of the same configuration. Taught in: notebooks/05.

    Returns:
        The classifier in evaluation mode on `config.device`, float32; no training temperature divides its logits.
        `history` is what `training.loop.fit` returns, with `logit_facts` of `N_PROBED` training texts.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
    """
    check_labels(labels, len(texts), config.n_classes)
    method, precision = config.method, resolve_precision(config.precision, config.device)
    if method.definition.augmentation:
        victim = train_text_classifier(_standard(config), texts, labels)
        copies = attacked_copies(texts, labels, victim, method.definition.augmentation, seed=config.seed)
        texts, labels = [*texts, *copies], torch.cat([labels, labels])
    source = available_source() if method.definition.substitutes else None
    settings = {
        **asdict(config),
        "precision": precision,
        "substitutes": source,
        "data": content_digest([*texts, labels]),
    }

    def build() -> TextClassifier:
        options = {"layers": config.layers, "seed": config.seed, "max_length": config.max_length}
        folder = _downloaded(config.encoder) if config.encoder in DOWNLOADED else None
        return TextClassifier.from_name(config.encoder, config.n_classes, folder=folder, **options).to(config.device)

    def train(model: TextClassifier, checkpoint: Checkpoint) -> list[dict[str, float]]:
        encodings, on_device = model.tokenise(texts), labels.to(config.device)
        resources = {"table": substitution_table(model, source=source)} if source else {}
        if method.definition.distils:
            resources["teacher"] = train_text_classifier(replace(config, method=Method()), texts, labels)

        tokens = {token for encoding in encodings for token in encoding.ids}

        def probe() -> dict[str, float]:
            with torch.no_grad():
                return logit_facts(model(model.collate(encodings[:N_PROBED])), labels[:N_PROBED])

        # Substitutes are words that no training text may have.
        whole = nullcontext() if source else only_embeddings_of(tokens, model.body.get_input_embeddings())
        with whole:
            return fit_text(
                model,
                encodings,
                load=lambda rows: (model.collate([encodings[row] for row in rows]), on_device[rows]),
                step=method_step(method, autocast_context(precision, config.device), **resources),
                config=config,
                probe=probe,
                checkpoint=checkpoint,
            )

    return trained_once("text_model", settings, build, train, rooms=("training.texts",))


def _downloaded(encoder: str) -> Path:
    """Folder of an encoder's files, fetched where no data folder has them, in the form in which they are published."""
    folders = {path.parent for path in fetch(encoder).values() if path.suffix != ".gz"}
    if len(folders) != 1:
        raise ValueError(f"the files of {encoder!r} must lie together, not gzipped: run python -m robustlib data list")
    return folders.pop()


def _standard(config: TextTraining) -> TextTraining:
    plain = {"gradient_rule": "none", "training_temperature": 1.0, "temperature_schedule": "constant", "suffix": ""}
    return replace(config, method=Method(), **plain)


def fit_text(
    model: torch.nn.Module,
    encodings: Sequence[Any],
    *,
    load: Callable[[list[int]], tuple[Any, Tensor]],
    step: Step,
    config: TextTraining,
    probe: Callable[[], dict[str, float]] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """`robustlib.training.loop.fit` on tokenised texts, with AdamW and a learning rate that falls linearly to 0."""
    lengths = [len(encoding) for encoding in encodings]
    return fit(
        model,
        plan=lambda epoch: length_bucketed(lengths, config.batch_size, config.seed, epoch),
        load=load,
        step=step,
        config=config,
        optimiser=partial(torch.optim.AdamW, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True),
        decay=lambda share: 1 - share,
        description=f"training {config.encoder}, {config.label}",
        probe=probe,
        checkpoint=checkpoint,
    )


def length_bucketed(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of an epoch's batches: shuffled, sorted by length within pools of 50 batches, cut, and shuffled."""
    generator = epoch_generator(seed, epoch)
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(rows), 50 * batch_size):
        pool = sorted(rows[start : start + 50 * batch_size], key=lambda row: lengths[row])
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
