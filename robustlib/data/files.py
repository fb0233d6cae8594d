"""The files of all data sets: name below a data folder, size in bytes, sha256 of the content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class File:
    """A file by its path below a data folder, with the size in bytes and the sha256 of its content."""

    name: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        """The bare file name, by which loaders ask for it."""
        return PurePosixPath(self.name).name


def _files(folder: str, *rows: tuple[str, int, str]) -> tuple[File, ...]:
    return tuple(File(f"{folder}/{name}", size, sha256) for name, size, sha256 in rows)


FASHION = _files(
    "fashion_mnist",
    ("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    ("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    ("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
POS_TAGGER = _files(
    "pos_tagger", ("tagger.json.gz", 1069428, "4d8c07a3a9bcbef257c18999bb4ddcf501ecede229a8f9d9e62850623a6e97f7")
)
CIFAR = _files(
    "cifar10",
    ("cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
)
CIFAR_JPEG = _files(
    "cifar10",
    ("cifar10_train_jpg.tar.xz", 15466056, "6adac829920b9ea181f7ec23e8bd3813d84c624da17a4e01fdb36fae85cad881"),
    ("cifar10_test_jpg.tar.xz", 3098952, "9d5a8b7c3bafbab4f8ec20a5d9d8dd66e7e6fff8dfbeb582ba310b74adbd3abb"),
    ("official_labels.npz", 30592, "42b1124406b50051324992bf43017c2e93d1f28a01b19dcc1192f45987d5aa1d"),
)
POLARITY = _files(
    "rotten_tomatoes",
    ("rt-polarity.pos", 626168, "d79ef14009bbf87cd6be21f91c3ea1a3cbcb73b34dfb4231aef7bbcd7677abc4"),
    ("rt-polarity.neg", 612290, "4af43bf489620b498a0852c5a8c6a535155dec7985fdfea782b8f7756b957ccc"),
)
VADER = tuple(
    File(f"vader/{stem}_GroundTruth.txt", size, sha256)
    for stem, size, sha256 in (
        ("movieReviewSnippets", 1383098, "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"),
        ("tweets", 389886, "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f"),
        ("amazonReviewSnippets", 373157, "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"),
        ("nytEditorialSnippets", 607629, "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e"),
    )
)
EMOTION = _files(
    "emotion",
    ("train.txt", 1658616, "3ab03d945a6cb783d818ccd06dafd52d2ed8b4f62f0f85a09d7d11870865b190"),
    ("val.txt", 204240, "34faaa31962fe63cdf5dbf6c132ef8ab166c640254ab991af78f3aea375e79ef"),
    ("test.txt", 206760, "60f531690d20127339e7f054edc299a82c627b5ec0dd5d552d53d544e0cfcc17"),
)
AG_NEWS = _files(
    "ag_news",
    ("train.csv", 29470338, "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e"),
    ("test.csv", 1857427, "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"),
)
AG_SUBSET = _files(
    "ag_news",
    ("train_subset_30k.csv", 7370362, "7f14d50d7da94b3e6325316ac4e7976ea3ae9227b2a1f6a6c07298f6277dc09f"),
)
COLA = _files(
    "cola",
    ("in_domain_train.tsv", 428578, "f320a10f92d3bce6b29152fde322a362eac39238e50d8de0c8815457fdf4fc12"),
    ("in_domain_dev.tsv", 25957, "77176f6a03faa5a1c4f23c69971fc1bff565931112fb65af47b2d6e24b7f42f7"),
    ("out_of_domain_dev.tsv", 27754, "201b9c57b2a20f1282242eec0ed8995729e3be19c29a46c047b3727338836c05"),
)
MRPC = _files(
    "mrpc",
    ("msr_paraphrase_train.txt", 1026746, "2174e11735d71a0f852d51f77fe098baf52ac01a5dfc54b62ddb41b9837b9ebf"),
    ("msr_paraphrase_test.txt", 432882, "51a1f197d8786712d2f0d97700f5be653b7488a96cde00e158159350d23e3d90"),
    ("glue_dev.tsv", 105616, "9e8f284788040f7c9ecde2e1b3c07237c756f926bd9ef8548ef5d34b56f69f17"),
)
QNLI = _files("qnli", ("QNLIv2.zip", 10627589, "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5"))
QNLI_SUBSET = _files(
    "qnli",
    ("train_subset_8999.json", 2895781, "ec4595783885f0363844d89c5685c2cebb25b415769f29445153d807d7aaed00"),
    ("train_subset_1000.json", 318981, "b5b9c30765555407d7522d4c3a24ac6b0bd3d87c851cd5630ba1e1dc2f87b4ca"),
    ("dev.tsv", 1367342, "ac19409dcb04631eaaa094bdebdcf621086bc352503dfb6a1a648b614986f4fd"),
)
COUNTER_FITTING = _files(
    "counter_fitting",
    ("neighbors_top8_euc0.7.json", 2798826, "c2fcd11011761c24a48ac86c8d6774be185f037f765ce5a086033480814e1b2b"),
    ("counterfitted_neighbors.json", 1976448, "103247143f39bd5dd66850f3a912393392641dbd98093c61e2b24a4cc8a96fb0"),
)
_WORDNET_COMMON = (
    ("index.noun", 4786655, "a490d99d93d017bf4822fe2f0ffa51fd73911ce271dc7535fade21f8814b5a04"),
    ("index.adv", 162816, "6f5465ed5758fe9c8a2f7ec17b1300f3aa875756c70ff7cba162f7e71bcf88ea"),
    ("noun.exc", 38301, "2b5d675c380b39ecf595af9fa9d4e7feb1d58c643b0bff08c40ed5bfe41fab7a"),
    ("verb.exc", 38033, "dbbcf9a601b2d77e934e413b91d90e88ec7f933a8b77cfc00602a923b891b42c"),
    ("adj.exc", 23019, "8824cc24bbedd797b9702316b27f07cd4c2b76b629539f0a1276f03926758016"),
    ("adv.exc", 85, "e7291461b629abfe63301bbe1998cee09fd575ed7107abd7ea9763adb05bf0a8"),
)
WORDNET = _files(
    "wordnet",
    *_WORDNET_COMMON,
    ("index.verb", 523980, "c7c79b558d787f1e31c6f8b3eeadb8fcbb26a64545ecc1241e21d9b61f95ee8e"),
    ("index.adj", 824127, "42f58dda2c7cff66eb8fa55ba62e0a873a9b3f43c878e8201108f5dab6dcff28"),
    ("data.noun", 15300280, "489f145e0f68877c0be5bd0eb4117adaaac52f38f6204eb8d85dbe2158b614cc"),
    ("data.verb", 2772517, "29cc96ed80c9f47d94fe75e332a9df80f4b1c737205f92d2f433d63c6da2ab51"),
    ("data.adj", 3155426, "f24b635368be441501c9b8001e9271fd3b30b203f00d91e332979e6f8fe35646"),
    ("data.adv", 516696, "e66dbbda0e0359e41b7f225bff71dd0c263dc7c66c1b61abc9ba334973d92979"),
)
WORDNET_DEBIAN = _files(
    "wordnet_debian",
    *_WORDNET_COMMON,
    ("index.verb", 523980, "e2ac24816c3a8289dcb72aaa9cf8db81fdf25ec34d792bfc96ac5b7a20c8b4ae"),
    ("index.adj", 824127, "c9865d7b4d1f805bdef82ccdcea5282436e23083e6f6f1b33e716327c4eda810"),
    ("data.noun", 15300280, "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2"),
    ("data.verb", 2772517, "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2"),
    ("data.adj", 3155427, "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7"),
    ("data.adv", 516696, "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139"),
)
