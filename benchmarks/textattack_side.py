"""TextAttack's half of benchmarks/text_attacks.py: runs in an environment of its own, reads and writes JSON.

    python textattack_side.py request.json answer.json

The request names the victim's folder (as `text_attacks.write_victim` writes it), sentences, labels and runs; a run is a
recipe ("dg" or "pwws"), a number of sentences, a temperature, and whether the padding is dynamic.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import textattack
import torch
from safetensors.torch import load_file
from textattack.attack_recipes import DeepWordBugGao2018, PWWSRen2019
from textattack.models.wrappers import HuggingFaceModelWrapper
from transformers import BertConfig, BertModel, BertPreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput

RECIPES = {"dg": DeepWordBugGao2018, "pwws": PWWSRen2019}


class PooledBert(BertPreTrainedModel):
    """Encoder, mean over the tokens, linear head: the victim's own arithmetic."""

    def __init__(self, config):
        super().__init__(config)
        self.encoder = BertModel(config, add_pooling_layer=True)
        self.head = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.seconds, self.n_forward, self.temperature, self.clock = 0.0, 0, 1.0, time.perf_counter

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        began = self.clock()
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        logits = self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1)) / self.temperature
        self.seconds += self.clock() - began
        self.n_forward += len(input_ids)
        return SequenceClassifierOutput(logits=logits)


class DynamicPaddingWrapper(HuggingFaceModelWrapper):
    """TextAttack's wrapper, padding to the longest text of a batch and not to the model's 512 positions."""

    def __call__(self, text_input_list):
        inputs = self.tokenizer(text_input_list, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self.model(**inputs).logits


def load_victim(folder):
    """The victim in evaluation mode and its tokeniser."""
    about = json.loads((folder / "classifier.json").read_text())
    config = BertConfig(**{**about["encoder"], "num_labels": about["n_classes"]})
    config._attn_implementation = "sdpa"
    model = PooledBert(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=512,  # as the checkpoint's own tokeniser has it
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    return model.eval(), tokenizer


def attack(run, model, tokenizer, texts, labels, seed):
    """One run: time, counts and outcomes."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    wrapper = (DynamicPaddingWrapper if run["dynamic_padding"] else HuggingFaceModelWrapper)(model, tokenizer)
    built = RECIPES[run["recipe"]].build(wrapper)
    wrapper(texts[:4])  # the first pass of a process is slow
    model.seconds, model.n_forward, model.temperature = 0.0, 0, run["temperature"]
    outcomes, queries = [], []
    began = model.clock()
    for text, label in zip(texts[: run["n"]], labels[: run["n"]], strict=True):
        result = built.attack(text, label)
        outcomes.append(type(result).__name__)
        queries.append(int(result.num_queries))
    return {
        "seconds": model.clock() - began,
        "forward_seconds": model.seconds,
        "n_forward": model.n_forward,
        "outcomes": outcomes,
        "queries": queries,
    }


def main():
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(request["threads"])
    model, tokenizer = load_victim(Path(request["victim"]))
    model.clock = {"wall": time.perf_counter, "cpu": time.process_time}[request["clock"]]
    with torch.no_grad():
        inputs = tokenizer(request["texts"], padding=True, truncation=True, return_tensors="pt")
        logits = model(**inputs).logits.tolist()
    runs = []
    for run in request["runs"]:
        runs.append(attack(run, model, tokenizer, request["texts"], request["labels"], request["seed"]))
        print(f"textattack: {run} took {runs[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
        Path(sys.argv[2]).write_text(
            json.dumps({"logits": logits, "torch": torch.__version__, "transformers": _transformers(), "runs": runs})
        )


def _transformers():
    import transformers

    return f"{transformers.__version__}, textattack {getattr(textattack, '__version__', '0.3.11')}"


if __name__ == "__main__":
    main()
