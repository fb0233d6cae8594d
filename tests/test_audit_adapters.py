"""Whatever people hand in becomes a subject, or is refused with the way out."""

import copy
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from robustlib import audit
from robustlib.audit import downloads
from robustlib.audit.adapters import adapt
from robustlib.audit.downloads import fetched

N, CLASSES = 24, 3
images = torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(0))
labels = torch.arange(N) % CLASSES
binary = labels.clamp(max=1)


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))


class Output(tuple):
    """A named tuple of a library: a tuple that has `logits`."""

    def __new__(cls, logits):
        made = super().__new__(cls, (torch.zeros(()), logits))
        made.logits = logits
        return made


@pytest.mark.parametrize(
    ("wrap", "gives", "has_gradient"),
    [
        (lambda z: z, "logits", True),
        (lambda z: {"logits": z}, "logits", True),
        (lambda z: (z, "features"), "logits", True),
        (Output, "logits", True),
        (lambda z: z[:, :, None, None], "logits", True),
        (lambda z: z.double(), "logits", True),
        (lambda z: z.half(), "logits", True),
        (lambda z: z.detach().numpy(), "logits", False),
        (lambda z: z.tolist(), "logits", False),
        (lambda z: z.softmax(1), "probabilities", True),
        (lambda z: (20 * z).softmax(1).detach().numpy().round(2), "probabilities", False),
        (lambda z: z.log_softmax(1), "log-probabilities", True),
        (lambda z: (100 * z).softmax(1).log(), "log-probabilities", True),
        (lambda z: z.argmax(1), "labels", False),
        (lambda z: z.argmax(1).numpy(), "labels", False),
        (lambda z: z.argmax(1).tolist(), "labels", False),
    ],
)
def test_what_a_function_returns_is_established(net, wrap, gives, has_gradient):
    subject, examples = adapt(lambda batch: wrap(net(batch)), images, labels)
    assert (subject.gives, subject.n_classes, subject.module is not None) == (gives, CLASSES, has_gradient)
    answers = subject.respond(examples.inputs)
    assert answers.shape == (N, CLASSES)
    assert answers.argmax(1).equal(net(images).argmax(1))
    assert has_gradient or any("black box" in note for note in subject.notes)


@pytest.mark.parametrize(
    ("wrap", "given", "sentence"),
    [
        (lambda z: z.sigmoid(), {}, "do not sum to 1.*say which by gives="),
        (lambda z: z[:, :1].sigmoid(), {"labels": binary}, "one for each example.*probabilities or logits"),
        (lambda z: z, {"gives": "probabilities"}, "gives='probabilities', but the answers look like logits"),
        (lambda z: z, {"gives": "scores"}, "gives='scores' is unknown"),
        (lambda z: z.argmax(1), {"gives": "logits"}, "integers: labels are all it gives"),
        (lambda z: {"scores": z}, {}, "a dict with scores, in which no answers were found"),
        (lambda z: None, {}, "nothing \\(None\\)"),
        (lambda z: z.detach().numpy().astype(str), {}, "a numpy array of <U"),
        (lambda z: z[:3], {}, "one row for each"),
        (lambda z: z[:, :, None].expand(-1, -1, 5), {}, "not for each position"),
        (lambda z: z[:, :2], {}, "labels go up to 2, and the model has 2 classes"),
    ],
)
def test_answers_that_cannot_be_read_are_refused_in_one_sentence(net, wrap, given, sentence):
    given = {"labels": labels} | given
    with pytest.raises((TypeError, ValueError), match=sentence):
        adapt(lambda batch: wrap(net(batch)), images, **given)


def test_a_single_column_is_two_classes(net):
    for wrap, gives in ((lambda z: z[:, :1], None), (lambda z: z[:, 0], None)):
        subject, _ = adapt(lambda batch, wrap=wrap: 9 * wrap(net(batch)), images, binary, gives=gives)
        assert subject.respond(images).equal(torch.stack([torch.zeros(N), 9 * net(images)[:, 0]], dim=1).detach())
    subject, _ = adapt(lambda batch: net(batch)[:, :1].sigmoid(), images, binary, gives="probabilities")
    assert torch.allclose(subject.respond(images).sum(1), torch.ones(N))


@pytest.mark.parametrize("kind", ["numpy", "list", "loader", "double"])
def test_inputs_of_every_kind(net, kind):
    given = {
        "numpy": (images.numpy(), labels.numpy()),
        "list": (list(images), labels.tolist()),
        "loader": (DataLoader(TensorDataset(images, labels), batch_size=5), None),
        "double": (images.double().numpy(), labels.double()),
    }[kind]
    model = net if kind != "double" else lambda batch: net(batch.float())
    subject, examples = adapt(model, *given)
    assert torch.allclose(subject.respond(examples.inputs), net(images), atol=1e-6)
    assert examples.labels.equal(labels)


@pytest.mark.parametrize(
    ("inputs", "given", "sentence"),
    [
        (images.permute(0, 2, 3, 1), labels, "Channels last"),
        (images[:, 0], labels, "Without channels"),
        ((images * 255).byte(), labels, "torch tensor of uint8: give images / 255"),
        (images * 2 - 1, labels, "mean= and std=.*bounds="),
        (images / 0, labels, "NaN or infinity"),
        (images, labels[:-1], "labels must have shape \\(24,\\)"),
        (images, nn.functional.one_hot(labels), "labels.argmax\\(1\\)"),
        (images, labels - 1, "class indices from 0"),
        (images, labels + 0.5, "a torch tensor of float32"),
        (images, ["a"] * N, "class_names="),
        (images, None, "labels are missing"),
        (images[:0], labels[:0], "no examples"),
    ],
)
def test_inputs_and_labels_that_do_not_fit_say_what_to_do(net, inputs, given, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        adapt(net, inputs, given)


def test_a_range_and_a_normalisation_are_put_in_front_of_the_model(net):
    subject, examples = adapt(net, images * 255, labels, bounds=(0, 255))
    assert torch.allclose(examples.inputs, images, atol=1e-6)
    assert torch.allclose(subject.respond(images), net(images * 255), rtol=1e-4)
    assert examples.entrance.span == 255
    subject, _ = adapt(net, images, labels, mean=[0.3], std=[0.2])
    assert torch.allclose(subject.module(images), net((images - 0.3) / 0.2), atol=1e-5)


def test_a_module_is_left_in_its_mode_and_precision_and_changes_in_place_can_be_seen(net):
    dropout = nn.Sequential(net, nn.Dropout(0.5)).train()
    subject, _ = adapt(dropout, images, labels)
    assert not subject.respond(images).equal(subject.respond(images))
    assert dropout.training
    half = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)).half()
    assert adapt(half, images, labels, gives="logits")[0].respond(images).dtype == torch.float16

    batch = images.clone()
    adapt(lambda inputs: net(inputs.mul_(0.5)), images, labels)[0].respond(batch)
    assert not batch.equal(images)


def estimator(gives=None, words=False):
    features = images.flatten(1).numpy()
    y = np.where(binary.numpy() == 1, "yes", "no") if words else labels.numpy()
    return LogisticRegression().fit(features, y), features, y


@pytest.mark.parametrize(
    ("gives", "inner"), [(None, ()), ("log-probabilities", ("decision_function",)), ("labels", ("decision_function",))]
)
@pytest.mark.parametrize("words", [False, True])
def test_an_estimator_is_asked_by_its_nearest_to_logits_or_as_told(gives, inner, words):
    model, features, y = estimator(words=words)
    subject, examples = adapt(model, features, y, gives=gives)
    assert subject.gives == (gives or "logits")
    assert tuple(name for name, _ in subject.inner) == inner
    predicted = model.classes_[subject.respond(examples.inputs).argmax(1).numpy()]
    assert (predicted == model.predict(features)).all()
    for _, ask in subject.inner:
        assert (model.classes_[ask(examples.inputs).argmax(1).numpy()] == predicted).all()


def test_estimators_without_scores_without_a_fit_and_on_texts():
    features = images.flatten(1).numpy()
    ovo = SVC(decision_function_shape="ovo").fit(features, labels)
    assert adapt(ovo, features, labels)[0].gives == "labels"
    with pytest.raises(ValueError, match="SVC has no predict_proba: it gives logits, labels"):
        adapt(SVC().fit(features, labels), features, labels, gives="probabilities")
    with pytest.raises(ValueError, match="fit it first"):
        adapt(MLPClassifier(), features, labels)
    texts = ["a good film", "a bad film", "nice", "awful"]
    pipeline = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(texts, ["pos", "neg", "pos", "neg"])
    subject, examples = adapt(pipeline, texts, ["pos", "neg", "pos", "neg"])
    assert (subject.modality, subject.gives, examples.labels.tolist()) == ("text", "log-probabilities", [1, 0, 1, 0])
    with pytest.raises(ValueError, match="labels fine are none of the model's classes \\(neg, pos\\)"):
        adapt(pipeline, texts, ["pos", "neg", "pos", "fine"])
    with pytest.raises(TypeError, match="input 1 is nothing"):
        adapt(pipeline, ["a", None], [0, 1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny checkpoint with its tokenizer, as `Trainer` saves one, and with names of the classes."""
    transformers = pytest.importorskip("transformers")
    from robustlib.models.forward import seeded
    from robustlib.models.pretrained import tiny_classifier

    with seeded(0):
        model, tokenizer = tiny_classifier("tiny-bert", 2)
    model.config.id2label, model.config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
    folder = tmp_path_factory.mktemp("trained") / "checkpoint-7"
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder, model.eval(), fast


texts = ["one rather long text about films", "a", "two words", "x" * 300]


def test_a_checkpoint_folder_a_pair_and_a_pipeline_are_one_model(checkpoint):
    import transformers

    folder, model, tokenizer = checkpoint
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    answers = []
    for handed_in in (folder, str(folder), (model, tokenizer), pipe):
        subject, examples = adapt(handed_in, texts, ["neg", "pos", "pos", "neg"])
        assert (subject.gives, subject.modality, examples.labels.tolist()) == ("logits", "text", [0, 1, 1, 0])
        answers.append(subject.respond(texts))
    assert all(torch.allclose(answers[0], other, atol=1e-5) for other in answers)
    alone = torch.cat([adapt(folder, [text], [0])[0].respond([text]) for text in texts])
    assert torch.allclose(alone, answers[0], atol=1e-5), "padding changes nothing"
    subject, _ = adapt(pipe, texts, [0, 1, 1, 0], gives="probabilities")
    assert torch.allclose(subject.respond(texts), answers[0].softmax(1), atol=1e-5)
    assert subject.inner[0][0] == "pipe.model"
    pairs = [("a premise", "a hypothesis"), ("b", "c")]
    assert adapt(folder, pairs, [0, 1])[0].respond(pairs).shape == (2, 2)


def test_small_answers_of_a_transformers_head_are_logits(checkpoint):
    _, model, tokenizer = checkpoint
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.classifier.weight *= 1e-3
        model.classifier.bias.fill_(0.01)  # all in [0, 1], as of a head that was hardly trained
    assert adapt((model, tokenizer), texts, [0, 1, 1, 0])[0].gives == "logits"


def test_what_a_transformers_model_lacks_is_said_in_one_sentence(checkpoint, tmp_path):
    folder, model, tokenizer = checkpoint
    for handed_in, sentence in (
        (model, "needs its tokenizer: audit\\(\\(model, tokenizer\\)"),
        ((model.bert, tokenizer), "no head for sequence classification"),
        (folder.parent, "do you mean .*checkpoint-7"),
        (tmp_path / "nowhere", "there is no folder"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            adapt(handed_in, texts, [0, 1, 1, 0])
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"no tokenizer.*processing_class"):
        adapt(tmp_path / "bare", texts, [0, 1, 1, 0])


def test_a_trainer_audits_what_it_has_trained(checkpoint, tmp_path):
    """A real `Trainer`, three steps of it: the report is that of the checkpoint which it saved at its end."""
    from transformers import Trainer, TrainingArguments

    from robustlib.audit.callback import AuditCallback

    _, model, tokenizer = checkpoint
    model, held_out = copy.deepcopy(model), (texts * 6, [0, 1, 1, 0] * 6)
    train = [{**tokenizer(text, truncation=True), "labels": k % 2} for k, text in enumerate(texts)]
    options = {"max_steps": 3, "save_steps": 3, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    settings = TrainingArguments(str(tmp_path), per_device_train_batch_size=2, logging_strategy="no", **options)
    audited = AuditCallback(*held_out, n=16)
    with pytest.raises(ValueError, match="processing_class=tokenizer"):
        Trainer(model, settings, train_dataset=train, callbacks=[audited]).train()
    with pytest.raises(ValueError, match="none of the model's classes"):
        wrong = AuditCallback(texts, ["fine"] * 4)
        Trainer(model, settings, train_dataset=train, processing_class=tokenizer, callbacks=[wrong]).train()
    trainer = Trainer(model, settings, train_dataset=train, processing_class=tokenizer, callbacks=[audited])
    trainer.train()
    report, entry = audited.report, trainer.state.log_history[-1]
    assert report.finding("mode.train").severity == "fine" and trainer.model.training
    assert (entry["audit_verdict"], entry["step"]) == (report.verdict, 3)
    assert entry["audit_at_most"] == pytest.approx(report.at_most.percent / 100)
    saved = audit(tmp_path / "checkpoint-3", *held_out, n=16)
    assert [rung.standing for rung in saved.rungs] == [rung.standing for rung in report.rungs]


@pytest.mark.parametrize("name", ["timm:resnet18", "robustbench:Standard"])
def test_a_package_that_is_missing_is_named(name):
    package = name.split(":")[0]
    try:
        __import__(package)
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
            adapt(name, images, labels)
    else:
        pytest.skip(f"{package} is installed")


def test_no_model_at_all():
    with pytest.raises(TypeError, match="an int is no model"):
        adapt(3, images, labels)


def test_weights_whose_host_does_not_answer_end_in_a_sentence(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert not downloads.answers(host, seconds=0.2)
        stuck = threading.Event()
        with pytest.raises(ConnectionError, match=r"cannot be downloaded, .* does not answer.*audit the module"):
            fetched(stuck.wait, "timm:x", "http://127.0.0.1:9", patience=0.1)
        stuck.set()


def test_weights_that_come_slowly_are_waited_for_and_a_wrong_name_is_refused(monkeypatch):
    monkeypatch.setattr(downloads, "answers", lambda host: True)
    assert fetched(lambda: time.sleep(0.3) or "weights", "timm:x", "http://nowhere", patience=0.05) == "weights"
    monkeypatch.setattr(downloads, "answers", lambda host: pytest.fail("no host is asked for a folder"))
    assert fetched(lambda: time.sleep(0.3) or "weights", "a folder", None, patience=0.05) == "weights"
    with pytest.raises(ValueError, match="timm:x cannot be loaded \\(KeyError: 'x'\\)"):
        fetched(lambda: {}["x"], "timm:x", "http://nowhere")


def test_attacks_and_classifiers_of_other_libraries_are_told_what_to_hand_in(net):
    attack = SimpleNamespace(set_mode_default=None, model=net)
    classifier = SimpleNamespace(clip_values=(0, 1), model=net, predict=net, get_params=dict)
    for handed_in, sentence in ((attack, "with attack= this attack"), (classifier, "ask classifier.predict")):
        with pytest.raises(TypeError, match=sentence):
            adapt(handed_in, images, labels)
