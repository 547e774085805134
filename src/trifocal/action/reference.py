"""The published model by its published names: configurations, state dicts, forward.

`build` takes a configuration file's name and changes to it, in the words of the published yaml files; `load_state_dict`
takes a state dict with the published names (see `reference_names`); `forward` takes a list of clips.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trifocal.action.config import PRESETS, CsnConfig, DetectorConfig, VitConfig
from trifocal.action.detector import Detector
from trifocal.action.reference_names import own_name, published_entries
from trifocal.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trifocal.action.output import DetectorOutput

__all__ = ["YAML_PRESETS", "LoadReport", "build", "config_from", "forward", "load_state_dict", "own_name", "parameters"]

YAML_PRESETS: Mapping[str, str] = {
    "AVA22_CSN152": "ava22-csn152",
    "AVA22_CSN50": "ava22-csn50",
    "AVA22_ViT-B": "ava22-vit-b",
    "AVA22_ViT-B_v2": "ava22-vit-b-v2",
    "UCF_ViT-B": "ucf101-24-vit-b",
    "JHMDB_ViT-B": "jhmdb-vit-b",
}
"""Preset by the name of the published configuration file."""

_SIZES = {
    "DATA__NUM_CLASSES": "classes",
    "MODEL__D_MODEL": "width",
    "MODEL__DIM_FEEDFORWARD": "feedforward",
    "MODEL__ENC_LAYERS": "encoder_layers",
    "MODEL__DEC_LAYERS": "decoder_layers",
    "MODEL__QUERY_NUM": "actors",
}
_VIT_SIZES = {"ViT__EMBED_DIM": "width", "ViT__DEPTH": "depth", "ViT__NUM_HEADS": "heads"}
_FRAMES = ("MODEL__TEMP_LEN", "DATA__TEMP_LEN")
_NESTED = ("overrides", "yaml", "csn50_block_nums")
_ABOUT = ("clips", "params")


def config_from(config: Mapping[str, Any]) -> DetectorConfig:
    """A configuration in published words.

    Args:
        config: `yaml` (a published file's name, with or without its ending), overrides such as `DATA__NUM_CLASSES`
            beside it or below `overrides`, and `csn50_block_nums` (blocks of the four stages) if they differ.

    Raises:
        InvalidInput: an unknown file or key, or a value that cannot be.
    """
    name = str(config.get("yaml", "")).removesuffix(".yaml")
    if name not in YAML_PRESETS:
        raise InvalidInput(f"yaml is {config.get('yaml')!r}", remedy=f"Give one of {', '.join(YAML_PRESETS)}.")
    given = {key: value for key, value in config.items() if key not in (*_NESTED, *_ABOUT)}
    given |= config.get("overrides") or {}
    base = PRESETS[YAML_PRESETS[name]]
    changes: dict[str, Any] = {_SIZES[key]: given.pop(key) for key in _SIZES if key in given}
    lengths = {given.pop(key) for key in _FRAMES if key in given}
    if len(lengths) > 1:
        raise InvalidInput(f"TEMP_LEN is both {' and '.join(map(str, sorted(lengths)))}", remedy="Give one length.")
    if lengths:
        changes["frames"] = lengths.pop()
    backbone = base.backbone
    if isinstance(backbone, VitConfig):
        sizes = {_VIT_SIZES[key]: given.pop(key) for key in _VIT_SIZES if key in given}
        changes["backbone"] = dataclasses.replace(backbone, **sizes)
    elif isinstance(backbone, CsnConfig):
        sizes = {"last_stride": bool(given.pop("MODEL__LAST_STRIDE"))} if "MODEL__LAST_STRIDE" in given else {}
        if config.get("csn50_block_nums"):
            sizes["blocks"] = tuple(config["csn50_block_nums"])
        changes["backbone"] = dataclasses.replace(backbone, **sizes)
    given.pop("MODEL__LAST_STRIDE", None)  # stands in every file and means something to CSN alone
    if given:
        known = (*_SIZES, *_FRAMES, *_VIT_SIZES, "MODEL__LAST_STRIDE", *_NESTED)
        raise InvalidInput(f"{name} knows no {', '.join(sorted(given))}", remedy=f"Give {', '.join(known)}.")
    return dataclasses.replace(base, **changes)


def build(config: Mapping[str, Any]) -> Detector:
    """The published model, untrained, in evaluation mode; `config` as for `config_from`."""
    return Detector(config_from(config)).eval()


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What did not go from a state dict into a model; names are published ones.

    Args:
        missing: entries that the model needs.
        unexpected: entries that no such model has.
        misshapen: name, found shape and expected shape.
        untied: entries that should be the same tensor as another and are not.
        unused: entries that published files hold and nothing uses; no fault.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    untied: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.misshapen or self.untied)

    def __str__(self) -> str:
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [f"shape of {name}: {found} instead of {expected}" for name, found, expected in self.misshapen]
        lines += [f"differs from its twin: {name}" for name in self.untied]
        return "\n".join(lines) or "every entry fits"


def load_state_dict(model: Detector, state: Mapping[str, Tensor], *, strict: bool = True) -> LoadReport:
    """Put published weights into a model.

    Args:
        model: takes the weights, in its own dtype.
        state: by published names, with or without `module.` before them; a twice-listed tensor may be listed once.
        strict: raise unless everything fits.

    Returns:
        What did not fit.

    Raises:
        ModelError: something does not fit and `strict` is set; the message holds the report's first lines.
    """
    entries = published_entries(model)
    given = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    missing, misshapen, untied, unused = [], [], [], []
    own_state = model.state_dict()
    loaded: set[str] = set()
    for name, entry in entries.items():
        tensor = given.get(name)
        if entry.own is None:
            unused += [name] if tensor is not None else []
        elif tensor is None:
            twins = [twin.name for twin in entries.values() if twin.own == entry.own and twin.name in given]
            missing += [] if twins else [name]
        elif tuple(tensor.shape) != entry.shape:
            misshapen.append((name, tuple(tensor.shape), entry.shape))
        else:
            target = own_state[entry.own]
            value = tensor.reshape(target.shape).to(target)
            if entry.own in loaded:
                untied += [] if torch.equal(target, value) else [name]
                continue
            target.copy_(value)
            loaded.add(entry.own)
    report = LoadReport(
        tuple(missing), tuple(sorted(given.keys() - entries.keys())), tuple(misshapen), tuple(untied), tuple(unused)
    )
    if strict and not report.complete:
        lines = str(report).splitlines()
        more = f" … and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise ModelError(
            f"the weights do not fit this model: {'; '.join(lines[:8])}{more}",
            remedy="Build the model with the configuration that the weights were trained with.",
        )
    return report


def parameters(model: Detector) -> int:
    """Parameters as the published code counts them: tied ones once, unused ones too."""
    unused = (entry for entry in published_entries(model).values() if entry.own is None)
    return sum(p.numel() for p in model.parameters()) + sum(torch.Size(entry.shape).numel() for entry in unused)


def forward(model: Detector, clips: Sequence[Tensor]) -> DetectorOutput:
    """Evaluate clips of any sizes, (3, T, H, W) each, with the outputs of all decoder layers."""
    return model(list(clips), aux=True)  # type: ignore[no-any-return]
