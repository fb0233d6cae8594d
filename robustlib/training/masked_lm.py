"""Masked language models for the bae attack: one by name, or MiniLM fine-tuned once on the training text."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.data.cache import content_digest
from robustlib.models.forward import seeded
from robustlib.models.onednn import onednn_products
from robustlib.models.pretrained import load_minilm
from robustlib.models.texts import Texts, batches_by_length, collate_encodings
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint, trained_once
from robustlib.training.texts import TextTraining, fit_text


@dataclass(frozen=True)
class MaskedTraining(TextTraining):
    """Fine-tuning of a masked language model; the numbers are ours, the paper uses bert-base-uncased as it is."""

    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 3e-4
    masked_share: float = 0.15  # of the tokens, as in BERT; all of them become [MASK], as in the attack


class MaskedLanguageModel(nn.Module):
    """Guesses for a masked word; the form in which `words.recipes.bae` asks. Taught in: notebooks/05."""

    def __init__(self, body: nn.Module, tokenizer: Any, *, max_length: int = 128):
        super().__init__()
        self.body, self.tokenizer, self.max_length = body, tokenizer, max_length
        self._mask = next(token for token in ("[MASK]", "<mask>") if tokenizer.token_to_id(token) is not None)
        self._mask_id = tokenizer.token_to_id(self._mask)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self._special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._entries = _entries(tokenizer, body.config.vocab_size, self._special)
        self.history: list[dict[str, float]] = []
        self._barred = torch.tensor([entry is None for entry in self._entries])

    def forward(
        self, questions: Sequence[tuple[Sequence[str], int]], top_k: int = 100
    ) -> list[list[tuple[str, float]]]:
        """The likeliest vocabulary entries for one word of each text.

        Args:
            questions: (words, index): the words of a text, joined by spaces to be read, and which one to mask.

        Returns:
            For each question `top_k` pairs (entry, logit), likeliest first. Entries that continue a word start with
            "##"; special ones ([PAD], [unused7]) are left out. Of a text that is too long the model sees the
            neighbourhood of the word.
        """
        self.eval()
        encodings = [self._encode(words, index) for words, index in questions]
        guesses: list[list[tuple[str, float]]] = [[]] * len(questions)
        with torch.no_grad():
            for rows in batches_by_length([len(encoding) for encoding in encodings], self.body.device):
                places = torch.tensor([encodings[row].ids.index(self._mask_id) for row in rows])
                batch = self.collate([encodings[row] for row in rows])
                logits = self.logits_at(batch, (torch.arange(len(rows)), places)).float().cpu()
                values, ids = logits.masked_fill(self._barred, -torch.inf).topk(top_k)
                for row, row_values, row_ids in zip(rows, values.tolist(), ids.tolist(), strict=True):
                    guesses[row] = [(self._entries[i], value) for i, value in zip(row_ids, row_values, strict=True)]
        return guesses

    def logits_at(self, batch: dict[str, Tensor], places: Any) -> Tensor:
        """Logits (n_places, vocab_size) of the tokens at `places`, an index into (n, seq_len)."""
        head = self.body.cls if hasattr(self.body, "cls") else self.body.lm_head
        with onednn_products(self.body.device):
            hidden = self.body.base_model(**batch).last_hidden_state[places]
            return head(hidden)  # the vocabulary is large: only where it is asked

    def collate(self, encodings: Sequence[Any]) -> dict[str, Tensor]:
        config = self.body.config
        return collate_encodings(encodings, config.pad_token_id, config.type_vocab_size > 1, self.body.device)

    def masked(self, encodings: Sequence[Any], share: float) -> tuple[dict[str, Tensor], Tensor]:
        """A batch with a random share of its tokens masked, at least one a text, and their ids (-1 elsewhere)."""
        batch = self.collate(encodings)
        ids = batch["input_ids"]
        ordinary = ~torch.isin(ids, torch.tensor(sorted(self._special), device=ids.device))
        draws = torch.rand(ids.shape).to(ids.device).masked_fill(~ordinary, 2.0)
        chosen = ordinary & ((draws < share) | (draws == draws.amin(dim=1, keepdim=True)))
        return {**batch, "input_ids": ids.masked_fill(chosen, self._mask_id)}, ids.masked_fill(~chosen, -1)

    def _encode(self, words: Sequence[str], index: int) -> Any:
        reach = self.max_length // 2  # in words, each of which is at least one token
        while True:
            start = max(0, index - reach)
            around = [word.replace(self._mask, "mask") for word in words[start : index + 1 + reach]]
            around[index - start] = self._mask
            encoding = self.tokenizer.encode(" ".join(around))
            if self._mask_id in encoding.ids:
                return encoding
            reach //= 2


def masked_language_model(texts: Texts, config: MaskedTraining | None = None) -> MaskedLanguageModel:
    """MiniLM fine-tuned on texts (of pairs on both) to guess masked words, in evaluation mode; from the cache if known.

    `history` holds the mean loss of each epoch, in nats a masked token. Where a checkpoint is at hand, such as the
    paper's bert-base-uncased, take `MaskedLanguageModel(*load_masked_language_model(name)).eval()` instead.
    """
    sentences = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
    if not sentences:
        raise ValueError("a masked language model needs texts to be fine-tuned on")
    config = config or MaskedTraining()
    precision = resolve_precision(config.precision, config.device)

    def train(model: MaskedLanguageModel, checkpoint: Checkpoint) -> list[dict[str, float]]:
        encodings = model.tokenizer.encode_batch_fast(sentences)
        return fit_text(
            model,
            encodings,
            load=lambda rows: model.masked([encodings[row] for row in rows], config.masked_share),
            step=partial(_masked_step, autocast_context(precision, config.device)),
            config=config,
            checkpoint=checkpoint,
        )

    settings = {**asdict(config), "precision": precision, "texts": content_digest(sentences)}
    build = partial(_minilm, config)
    return trained_once("masked_lm", settings, build, train, rooms=("training.masked_lm",))


def _masked_step(
    autocast: AbstractContextManager, model: MaskedLanguageModel, batch: dict[str, Tensor], targets: Tensor, temperature
) -> Tensor:
    places = targets >= 0
    with autocast:
        logits = model.logits_at(batch, places)
    loss = nn.functional.cross_entropy(logits.float() / temperature, targets[places])
    loss.backward()
    return loss.detach()


def _minilm(config: MaskedTraining) -> MaskedLanguageModel:
    """MiniLM with BERT's masked-language-model head: new, but for the output matrix, which is the token embeddings."""
    from transformers import BertForMaskedLM

    encoder, tokenizer = load_minilm(config.layers)
    with seeded(config.seed):
        body = BertForMaskedLM(encoder.config)
    body.bert.load_state_dict(encoder.state_dict(), strict=False)  # the pooler is left out
    return MaskedLanguageModel(body, tokenizer, max_length=config.max_length).to(config.device)


def _entries(tokenizer: Any, size: int, special: set[int]) -> list[str | None]:
    """Vocabulary as a reader sees it, None for what is no guess: special tokens, unused rows, spaces."""
    byte_level = type(tokenizer.decoder).__name__ == "ByteLevel"
    entries: list[str | None] = []
    for index in range(size):
        token = None if index in special else tokenizer.id_to_token(index)
        if token is not None and byte_level:  # there a leading space, written as Ġ, marks the start of a word
            token = ("" if token.startswith("Ġ") else "##") + tokenizer.decode([index]).strip()
        unusable = token is None or re.fullmatch(r"\[unused\d+\]|(##)?", token)
        entries.append(None if unusable else token)
    return entries
