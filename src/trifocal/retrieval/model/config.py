"""Every choice of the trained retriever as one frozen dataclass: sizes, generator, losses, and the open questions.

The paper's text could not be read in full; what it leaves open is a field here, marked Q1 to Q12 as in the method page,
with the default that was measured or is the field's habit. (Q13, which of two counts of a split, is a matter of the
caption files.) The defaults of the class are the paper's form; `presets` holds the others. Saved as sorted JSON beside
the weights, with the version that wrote it.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args, get_type_hints

from trifocal._version import __version__
from trifocal.errors import InvalidInput
from trifocal.retrieval.model.windows import window_spans

__all__ = ["RetrieverConfig"]

_WHOLE = {"video_dim", "text_dim", "hidden", "heads", "clips", "window_max", "max_words", "max_frames", "prototypes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverConfig:
    """What a `PrototypeRetriever` is made of and how it is trained.

    Args:
        video_dim: width of a frame feature.
        text_dim: width of a word feature.
        hidden: D, width of words, clips and prototypes.
        heads: attention heads, a divisor of `hidden`.
        encoder: `transformer`, the field's (LayerNorm, linear, ReLU, position, one layer), or `linear`, one linear
            map a side without anything after it, for few data.
        start: first values of the linear maps: `orthogonal`, each its own; `shared`, the same for both sides, which
            keeps the cosines of features that share a space already (`video_dim` must equal `text_dim`).
        pool_edges: let the pooling of words see which is the first and which the last, where CLIP and BERT keep the
            sentence.
        dropout: share of values dropped, of inputs and inside.
        clips: M, uniform clips a video is averaged to.
        window_max: longest window of clips that becomes a token (Q3); 32 of 32 clips gives all 528, 8 gives 228.
        window_lengths: `all` up to the longest (the paper), or `geometric`, about three an octave (Q3).
        max_words: words kept of a query.
        max_frames: frames kept of a video, where frames are used.
        frame_branch: score also against one attention-pooled vector of the frames (Q2).
        frame_weight: share of that score in the sum.
        frame_tokens: let the prototypes attend to the encoded frames too (Q3).
        generator: what makes prototypes of tokens: `attention` (the paper), `slots` (prototypes compete for tokens),
            `merged` (adjacent clips merged), `coverage` (the windows that stand for all windows), `tokens` (no
            prototypes: every window itself).
        prototypes: K of a video (Q1); `tokens` ignores it.
        layers: cross-attention layers of `attention` and `slots` (Q4).
        share_layers: the same weights in every layer (Q4).
        residual_last: add the last layer's query to its output (Q4); makes every video's prototypes alike.
        layer_norm: normalise the layers after attention (Q4).
        identity_values: start the value and output maps as identities (Q4).
        prototype_std: spread of the shared prototypes at the start.
        sharpness: factor on the attention's logits at the start.
        attention_heads: how heads join into the attention of guidance and spans, `mean` or `max` (Q5).
        sinkhorn: rounds of balancing between prototypes and tokens in `slots`; 0 leaves the softmax over prototypes.
        context: length of the whole video's unit vector that is added to every unit prototype.
        smooth_max: width of the soft maximum over prototypes in training; 0 is the hard one of the paper.
        retrieval: what InfoNCE sees (Q11): `cosine` over a temperature, or `dot`, the peers' unnormalised product.
        temperature: of `cosine`.
        learn_temperature: train it.
        nce_weight: weight of InfoNCE inside the retrieval loss.
        frame_nce_weight: weight of InfoNCE of the frame branch beside it, with `retrieval` `dot`; with `cosine` the one
            InfoNCE sees both scores joined.
        triplet_weight: weight of the triplet loss inside the retrieval loss.
        margin: of the triplet loss.
        hard_negatives_from_epoch: from when on the triplet's negatives are hard; counted from 0.
        hard_negatives_top: how many of the likeliest wrong videos a text's negative is drawn from.
        retrieval_weight: λ_ret (Q9).
        word_weight: λ of the masked words' reconstruction (Q9).
        video_weight: λ of the video's reconstruction (Q9).
        guidance_weight: λ_attn (Q9).
        ortho_weight: λ_ortho (Q9).
        balance_weight: weight of a loss that evens out how often each prototype wins (Q12); the paper has none.
        mask_rate: share of words masked, at least one a query (Q6).
        word_temperature: of the masked words' InfoNCE (Q6).
        word_target: `projected` words (after the linear map) or the `input` word features (Q6).
        video_target: rebuild the `input` clips, or the `encoded` ones held still.
        decoder_hidden: width of the video decoder along the prototypes (Q7).
        decoder: `token_channel`, an MLP along the prototypes and one along the channels, or `token` without the second.
        mixing: `concatenate` the tokens of two videos, or `splice` clips of one into the other (Q8).
        guidance_margin: β (Q9).
        ortho_norm: `mean` positive cosine off the diagonal, or the `frobenius` norm over their number (Q10).

    Raises:
        InvalidInput: a value out of range or not among the valid ones, or values that contradict each other.
    """

    video_dim: int
    text_dim: int
    hidden: int = 384
    heads: int = 4
    encoder: Literal["transformer", "linear"] = "transformer"
    start: Literal["orthogonal", "shared"] = "orthogonal"
    pool_edges: bool = False
    dropout: float = 0.2
    clips: int = 32
    window_max: int = 32
    window_lengths: Literal["all", "geometric"] = "all"
    max_words: int = 77
    max_frames: int = 128
    frame_branch: bool = False
    frame_weight: float = 0.3
    frame_tokens: bool = False
    generator: Literal["attention", "slots", "merged", "coverage", "tokens"] = "attention"
    prototypes: int = 32
    layers: int = 1
    share_layers: bool = False
    residual_last: bool = False
    layer_norm: bool = True
    identity_values: bool = True
    prototype_std: float = 1.0
    sharpness: float = 4.0
    attention_heads: Literal["mean", "max"] = "mean"
    sinkhorn: int = 0
    context: float = 0.0
    smooth_max: float = 0.0
    retrieval: Literal["cosine", "dot"] = "cosine"
    temperature: float = 0.07
    learn_temperature: bool = False
    nce_weight: float = 1.0
    frame_nce_weight: float = 0.04
    triplet_weight: float = 1.0
    margin: float = 0.2
    hard_negatives_from_epoch: int = 20
    hard_negatives_top: int = 20
    retrieval_weight: float = 1.0
    word_weight: float = 0.1
    video_weight: float = 1.0
    guidance_weight: float = 0.3
    ortho_weight: float = 0.3
    balance_weight: float = 0.0
    mask_rate: float = 0.3
    word_temperature: float = 0.1
    word_target: Literal["projected", "input"] = "projected"
    video_target: Literal["input", "encoded"] = "input"
    decoder_hidden: int = 256
    decoder: Literal["token_channel", "token"] = "token_channel"
    mixing: Literal["concatenate", "splice"] = "concatenate"
    guidance_margin: float = 0.1
    ortho_norm: Literal["mean", "frobenius"] = "mean"

    def __post_init__(self) -> None:
        """Check every value."""
        for name, kind in get_type_hints(type(self)).items():
            _check_kind(name, getattr(self, name), kind)
        for name in (*sorted(_WHOLE), "layers", "decoder_hidden", "hard_negatives_top"):
            _check_range(name, getattr(self, name), low=1)
        for name in ("dropout", "frame_weight", "mask_rate", "guidance_margin"):
            _check_range(name, getattr(self, name), low=0.0, high=1.0)
        for name in ("temperature", "word_temperature", "sharpness", "prototype_std"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}", remedy="Give a number above 0.")
        not_negative = [f.name for f in fields(self) if f.name.endswith("_weight")]
        for name in (*not_negative, "smooth_max", "context", "margin", "sinkhorn", "hard_negatives_from_epoch"):
            _check_range(name, getattr(self, name), low=0)
        self._check_together()

    def _check_together(self) -> None:
        if self.hidden % self.heads:
            raise InvalidInput(
                f"hidden is {self.hidden} and heads {self.heads}", remedy="Give heads that divide hidden."
            )
        if self.window_max > self.clips:
            raise InvalidInput(
                f"window_max is {self.window_max} with {self.clips} clips", remedy="Give at most as many as clips."
            )
        if self.start == "shared" and self.video_dim != self.text_dim:
            raise InvalidInput(
                f"start is 'shared' with video_dim {self.video_dim} and text_dim {self.text_dim}",
                remedy="Use start='orthogonal' for features of two spaces.",
            )
        if self.generator == "merged" and self.prototypes > self.clips:
            raise InvalidInput(
                f"{self.prototypes} prototypes of {self.clips} clips", remedy="Merging gives at most one a clip."
            )
        if self.generator == "coverage" and self.prototypes > self.window_count:
            raise InvalidInput(
                f"{self.prototypes} prototypes of {self.window_count} windows", remedy="Raise window_max, or lower it."
            )
        if self.guidance_weight > 0 and self.generator not in ("attention", "slots"):
            raise InvalidInput(
                f"guidance_weight is {self.guidance_weight} with the generator {self.generator!r}",
                remedy="Only 'attention' and 'slots' attend; set guidance_weight=0.",
            )
        if self.video_weight > 0 and self.generator == "coverage":
            raise InvalidInput(
                f"video_weight is {self.video_weight} with the generator 'coverage'",
                remedy="It has no prototypes while training to rebuild a video from; set video_weight=0.",
            )
        if self.frame_tokens and self.generator not in ("attention", "slots"):
            raise InvalidInput(
                f"frame_tokens with the generator {self.generator!r}", remedy="Only 'attention' and 'slots' attend."
            )

    @property
    def window_count(self) -> int:
        """V, the number of clip tokens."""
        return len(window_spans(self.clips, longest=self.window_max, lengths=self.window_lengths))

    @property
    def vectors(self) -> int:
        """K, the vectors that the generator gives a video."""
        return self.window_count if self.generator == "tokens" else self.prototypes

    @property
    def bytes_per_video(self) -> int:
        """What a video takes in an index in half precision."""
        return self.vectors * self.hidden * 2 + (self.hidden * 2 if self.frame_branch else 0)

    def to_json(self) -> str:
        """Sorted JSON with the version."""
        return json.dumps({**asdict(self), "version": __version__}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Build from what `to_json` wrote; an unknown key is left out with a warning.

        Raises:
            InvalidInput: a missing or invalid value.
        """
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name != "version"}
        unknown = sorted(given.keys() - known)
        if unknown:
            warnings.warn(
                f"{cls.__name__} does not know {', '.join(unknown)}, which version {values.get('version', 'unknown')} "
                f"wrote; this is {__version__}: update trifocal or remove the key",
                stacklevel=2,
            )
        for name in ("video_dim", "text_dim"):
            if name not in given:
                raise InvalidInput(f"{name} is missing", remedy="Give the width of the features.")
        # JSON carries no types; the dataclass checks every value on construction.
        return cls(**{name: value for name, value in given.items() if name in known})  # type: ignore[arg-type]


def _check_kind(name: str, value: object, kind: object) -> None:
    choices = get_args(kind)
    if choices and value not in choices:
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Give one of: {', '.join(map(str, choices))}.")
    if kind is bool and not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}", remedy="Give true or false.")
    if kind is int and type(value) is not int:
        raise InvalidInput(f"{name} is {value!r}", remedy="Give a whole number.")
    if kind is float and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
        raise InvalidInput(f"{name} is {value!r}", remedy="Give a finite number.")


def _check_range(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    if not low <= value <= high:
        limit = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
        raise InvalidInput(f"{name} is {value}", remedy=f"Give a number of {limit}.")
