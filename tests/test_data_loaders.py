"""Loaders against files in the original formats, built small here, and against the real ones where they are."""

import io
import os
import struct

import numpy as np
import pytest
import torch
from data_fixtures import place, tar_of, zip_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from robustlib.data import FetchError, fetch, load_images, load_text
from robustlib.data.cache import computed
from robustlib.data.splits import PARTS, grouped_split, stratified_order, subset
from robustlib.data.text import near_duplicate_groups

# Taken at import: the fixtures below change the environment.
REAL_DATA = os.environ.get("ROBUSTLIB_DATA", "")


def counts(loaded) -> list[int]:
    return torch.bincount(loaded.labels, minlength=len(loaded.class_names)).tolist()


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(0, 5))
def test_every_prefix_keeps_the_shares_of_the_classes(sizes, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    for n in range(1, len(labels) + 1):
        held = np.bincount(labels[order[:n]], minlength=len(sizes))
        if len(set(sizes)) == 1:
            assert held.max() - held.min() <= 1
        elif n == len(labels) // 2:
            assert np.abs(held - np.array(sizes) / 2).max() <= 1


def test_subsets_are_seeded_and_nested_and_leave_the_global_state_alone():
    labels = np.arange(200) % 4
    before = np.random.get_state()[1].copy()
    small, large = subset(labels, 10, 3), subset(labels, 60, 3)
    assert list(large[:10]) == list(small)
    assert list(subset(labels, 10, 4)) != list(small)
    assert list(subset(labels, None, 3)) == list(range(200))
    assert np.array_equal(np.random.get_state()[1], before)


@given(st.integers(0, 1000))
def test_a_grouped_split_divides_no_group_and_loses_no_row(seed):
    generator = np.random.default_rng(seed)
    groups, labels = generator.integers(0, 150, 400), generator.integers(0, 2, 400)
    parts = grouped_split(labels, groups)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(400))
    homes = [{int(group) for group in groups[parts[part]]} for part in PARTS]
    assert sum(len(home) for home in homes) == len(set(groups.tolist()))
    assert 300 <= len(parts["train"]) <= 340


def test_near_duplicates_by_brute_force():
    generator = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    texts = [" ".join(generator.choice(letters, 6)) for _ in range(150)]
    texts += [f"{text} more" for text in texts[:20]] + [text[:7] for text in texts[20:40]] + ["!!", "!!", "?"]

    def alike(first: str, second: str) -> bool:
        a, b = ({*text.split()} for text in (first, second))
        return len(a & b) >= 0.6 * len(a | b)

    edges = np.array([[alike(first, second) for second in texts] for first in texts])
    n_groups, group = connected_components(edges, directed=False)
    assert 20 < n_groups < 0.9 * len(texts)
    found = near_duplicate_groups(texts)
    assert np.array_equal(found[:, None] == found, group[:, None] == group)
    linked = near_duplicate_groups(["alpha beta", "gamma delta", "eta theta"], ["x", "y", "x"])
    assert linked[0] == linked[2] != linked[1]
    before = computed.total()  # a process finds what another has compared
    assert np.array_equal(near_duplicate_groups(texts), found) and computed.total() == before
    assert len(set(near_duplicate_groups(texts, ["same"] * len(texts)))) == 1


def fashion_files(n_train: int = 200, n_test: int = 30) -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    files = {}
    for prefix, n in (("train", n_train), ("t10k", n_test)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4i", 2051, n, 28, 28) + images.tobytes()
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n))
    return files


@pytest.mark.parametrize("wrap", [False, True])
def test_fashion_mnist_agrees_with_torchvisions_reader(data, monkeypatch, tmp_path, wrap):
    from torchvision.datasets.mnist import read_image_file, read_label_file

    files = fashion_files()
    place(data, monkeypatch, "fashion_mnist", files, wrap=wrap)
    parts = {part: load_images("fashion_mnist", part) for part in PARTS}
    assert [len(parts[part].labels) for part in PARTS] == [180, 20, 30]
    for part, prefix in (("train", "train"), ("validation", "train"), ("test", "t10k")):
        loaded = parts[part]
        pixels = (loaded.images[:, 0] * 255).round().to(torch.uint8)
        for kind, read, ours in (
            ("images-idx3", read_image_file, pixels),
            ("labels-idx1", read_label_file, loaded.labels),
        ):
            (tmp_path / "idx").write_bytes(files[f"{prefix}-{kind}-ubyte"])
            assert torch.equal(ours, read(tmp_path / "idx")[loaded.index])
        assert loaded.images.dtype == torch.float32 and loaded.labels.dtype == torch.int64
        assert loaded.images.min() >= 0 and loaded.images.max() <= 1
        assert len(set(counts(loaded))) == 1
    shared = {*parts["train"].index.tolist()} & {*parts["validation"].index.tolist()}
    assert not shared


def test_cifar10_reads_the_binary_archive(data, monkeypatch):
    generator = np.random.default_rng(0)
    members, rows = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}, {}
    for name in ("test_batch", *(f"data_batch_{batch}" for batch in (2, 1, 3, 4, 5))):
        rows[name] = generator.integers(0, 256, (20, 3073), dtype=np.uint8)
        rows[name][:, 0] = np.arange(20) % 10
        members[f"cifar-10-batches-bin/{name}.bin"] = rows[name].tobytes()
    place(data, monkeypatch, "cifar10", {"cifar-10-binary.tar.gz": tar_of(members)})
    train, validation, test = (load_images("cifar10", part) for part in PARTS)
    assert test.images.shape == (20, 3, 32, 32) and test.class_names[3] == "cat"
    official = np.concatenate([rows[f"data_batch_{batch}"] for batch in range(1, 6)])
    for loaded, source in ((train, official), (validation, official), (test, rows["test_batch"])):
        for i, row in enumerate(loaded.index.tolist()):
            red_first = source[row, 1:].reshape(3, 32, 32)  # the format: 1,024 red, 1,024 green, 1,024 blue
            assert np.array_equal((loaded.images[i] * 255).round().numpy(), red_first)
            assert loaded.labels[i] == source[row, 0]
    assert len(train.labels) == 90 and counts(validation) == [1] * 10


def test_cifar10_jpeg_restores_the_official_order(data, monkeypatch):
    from PIL import Image

    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    generator = np.random.default_rng(0)
    files, colours = {}, {}
    arrays = {"class_names": np.array(names)}
    for part, n in (("train", 100), ("test", 30)):
        labels = generator.permutation(np.arange(n) % 10).astype(np.uint8)
        colours[part] = generator.integers(0, 256, (n, 3))
        members: dict[str, bytes] = {}
        seen = [0] * 10
        for label, colour in zip(labels, colours[part], strict=True):
            packed = io.BytesIO()
            Image.new("RGB", (32, 32), tuple(int(value) for value in colour)).save(packed, "JPEG")
            members[f"{part}/{names[label]}/{seen[label]:04d}.jpg"] = packed.getvalue()
            seen[label] += 1
        files[f"cifar10_{part}_jpg.tar.xz"] = tar_of(dict(sorted(members.items())), "w:xz")
        arrays[f"{part}_labels"] = labels
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    place(data, monkeypatch, "cifar10_jpeg", {**files, "official_labels.npz": packed.getvalue()})
    for part in PARTS:
        loaded = load_images("cifar10_jpeg", part, n=10, seed=1)
        prefix = "test" if part == "test" else "train"
        assert np.array_equal(loaded.labels, arrays[f"{prefix}_labels"][loaded.index])
        mean_colour = 255 * loaded.images.mean(dim=(2, 3)).numpy()
        assert np.abs(mean_colour - colours[prefix][loaded.index]).max() < 3
        assert counts(loaded) == [1] * 10


def test_digits_splits_cover_the_set_once():
    from sklearn.datasets import load_digits

    official = load_digits()
    parts = [load_images("digits", part) for part in PARTS]
    assert [len(part.labels) for part in parts] == [1258, 180, 359]
    assert sorted(int(i) for part in parts for i in part.index) == list(range(1797))
    for part in parts:
        assert part.images.shape[1:] == (1, 8, 8)
        assert np.array_equal(part.images[:, 0].numpy() * 16, official.images[part.index])
        assert np.array_equal(part.labels, official.target[part.index])
    assert counts(load_images("digits", "test", n=50)) == [5] * 10
    assert not torch.equal(*(load_images("digits", "test", n=50, seed=seed).index for seed in (0, 1)))


def test_rotten_tomatoes_splits_by_file_order_and_on_line_feeds_only(data, monkeypatch):
    positive = [f"good {number} " for number in range(10)]
    positive[0] = "caf\xe9\x85not a new line"
    negative = [f"bad {number} " for number in range(10)]
    lines = {"rt-polarity.pos": positive, "rt-polarity.neg": negative}
    files = {key: "".join(f"{line}\n" for line in lines[key]).encode("latin-1") for key in lines}
    place(data, monkeypatch, "rotten_tomatoes", files)
    train, validation, test = (load_text("rotten_tomatoes", part) for part in PARTS)
    assert train.texts == [*(text.strip() for text in positive[:8]), *(text.strip() for text in negative[:8])]
    assert train.labels.tolist() == [1] * 8 + [0] * 8
    assert validation.texts == ["good 8", "bad 8"] and test.texts == ["good 9", "bad 9"]
    assert test.class_names == ("negative", "positive") and test.ratings is None
    chosen = load_text("rotten_tomatoes", "train", n=6, seed=2)
    assert counts(chosen) == [3, 3]
    assert [train.texts[i] for i in chosen.index if i < 8] == [t for t in chosen.texts if t in train.texts[:8]]


def test_vader_labels_are_the_sign_outside_the_neutral_band(data, monkeypatch):
    ratings = [-4.0, -0.5, -0.49, 0.0, 0.49, 0.5, 3.25] * 40
    words = np.random.default_rng(0).permutation(3000)
    lines = [f"{i // 7}_{i % 7}\t{r}\tw{words[2 * i]} w{words[2 * i + 1]}" for i, r in enumerate(ratings)]
    place(data, monkeypatch, "vader_amazon", {"amazonReviewSnippets_GroundTruth.txt": "\r\n".join(lines).encode()})
    parts = [load_text("vader_amazon", part) for part in PARTS]
    assert [len(part.texts) for part in parts] == [128, 16, 16]
    documents = []
    for part in parts:
        assert torch.equal(part.labels == 1, part.ratings > 0) and float(part.ratings.abs().min()) == 0.5
        documents.append({int(i) // 4 for i in part.index})  # four of seven sentences of each document are kept
    assert sum(len(document) for document in documents) == 40


def test_emotion_and_ag_news_labels_follow_the_published_order(data, monkeypatch):
    lines = b"i am; sad;sadness\nall well;joy\nyou;love\nno;anger\noh;fear\nah;surprise\n"
    place(data, monkeypatch, "emotion", {"train.txt": lines, "val.txt": lines[:18], "test.txt": lines})
    loaded = load_text("emotion", "train")
    assert loaded.texts[0] == "i am; sad" and loaded.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.class_names == ("sadness", "joy", "love", "anger", "fear", "surprise")
    assert load_text("emotion", "validation").texts == ["i am; sad"]

    rows = [f'"{1 + i % 4}","Title {i}","He said ""yes"", then\\left"' for i in range(80)]
    files = {"train.csv": "\n".join(rows).encode(), "test.csv": "\r\n".join(rows[:4]).encode()}
    place(data, monkeypatch, "ag_news", files)
    train, validation, test = (load_text("ag_news", part) for part in PARTS)
    assert test.texts[0] == 'Title 0 He said "yes", then\\left' and test.labels.tolist() == [0, 1, 2, 3]
    assert test.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert counts(train) == [19] * 4 and counts(validation) == [1] * 4


def test_cola_mrpc_and_qnli_read_tables_without_quoting(data, monkeypatch):
    rows = [f'gj04\t{i % 2}\t{"" if i % 2 else "*"}\tSentence {i} "quoted.' for i in range(40)]
    texts = "\n".join(rows), rows[1] + "\n", rows[2]
    names = "in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv"
    place(data, monkeypatch, "cola", {name: text.encode() for name, text in zip(names, texts, strict=True)})
    assert [counts(load_text("cola", part)) for part in PARTS] == [[18, 18], [2, 2], [1, 1]]
    test = load_text("cola", "test")
    assert test.texts == ['Sentence 1 "quoted.', 'Sentence 2 "quoted.'] and test.labels.tolist() == [1, 0]
    assert test.class_names == ("unacceptable", "acceptable")

    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    pairs = [f'{i % 2}\t{i}\t{i + 100}\t"First {i}\tSecond {i}' for i in range(6)]
    table = "\r\n".join([header, *pairs]) + "\r\n"
    glue = "\n".join([header, "1\t3\t103\tfirst 3\tsecond 3"]) + "\n"
    names = "msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "glue_dev.tsv"
    place(data, monkeypatch, "mrpc", {n: text.encode() for n, text in zip(names, (table, table, glue), strict=True)})
    assert load_text("mrpc", "validation").texts == [('"First 3', "Second 3")]
    assert len(load_text("mrpc", "train").texts) == 5 and load_text("mrpc", "test").labels.tolist() == [0, 1] * 3

    rows = [f'{i}\tWhat {i}?\t"It is {i}.\t{"not_" if i % 2 else ""}entailment' for i in range(40)]
    table = "\n".join(["index\tquestion\tsentence\tlabel", *rows]) + "\n"
    packed = zip_of({f"QNLI/{part}.tsv": table.encode() for part in ("train", "dev")})
    place(data, monkeypatch, "qnli", {"QNLIv2.zip": packed})
    assert [counts(load_text("qnli", part)) for part in PARTS] == [[18, 18], [2, 2], [20, 20]]
    test = load_text("qnli", "test")
    assert test.texts[1] == ("What 1?", '"It is 1.') and test.labels[:2].tolist() == [0, 1]
    assert test.class_names == ("entailment", "not_entailment")


# --- the real files, where ROBUSTLIB_DATA names a folder that holds them ----------------------------

REAL_COUNTS = {
    "rotten_tomatoes": ([4265, 4265], [533, 533], [533, 533]),
    "emotion": ([4666, 5362, 1304, 2159, 1937, 572], [550, 704, 178, 275, 212, 81], [581, 695, 159, 275, 224, 66]),
    "cola": (None, None, [324, 719]),
    "mrpc": ([1323 - 129, 2753 - 279], [129, 279], [578, 1147]),
    "ag_news": (None, None, [1900] * 4),
    "ag_news_subset30k": (None, None, [1900] * 4),
}
REAL_TRAINING = {"cola": [2528, 6023], "ag_news": [30_000] * 4, "ag_news_subset30k": [7478, 7524, 7545, 7473]}


@pytest.mark.skipif(not REAL_DATA, reason="ROBUSTLIB_DATA names no folder with the real files")
@pytest.mark.parametrize("name", REAL_COUNTS)
def test_real_counts(name, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    try:
        fetch(name)
    except FetchError:
        pytest.skip(f"ROBUSTLIB_DATA has no {name}")
    parts = [load_text(name, part) for part in PARTS]
    for loaded, expected in zip(parts, REAL_COUNTS[name], strict=True):
        assert expected is None or counts(loaded) == expected
        assert all(text if isinstance(text, str) else all(text) for text in loaded.texts)
    if name in REAL_TRAINING:
        assert np.add(counts(parts[0]), counts(parts[1])).tolist() == REAL_TRAINING[name]
