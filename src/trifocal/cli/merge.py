"""`trifocal merge`: what token merging would keep of a video, as numbers and as a picture.

The tokens are the cells of an image network's feature map, so no language model is needed. A video language model has
tokens of its own and merges others at the same thresholds; at the same budget the picture is alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.model_options import budget_of
from trifocal.cli.output import Format, FormatOption, print_json, stdout, writing
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import torch

    from trifocal.merging import MergeConfig, MergedTokens
    from trifocal.video import Frames

STRIDE = 32
"""Pixels per cell of the network's feature map."""
LONGEST_SIDE = 4
"""A picture wider or taller than this many times its shorter side is squashed."""
PICTURES = (".jpg", ".jpeg")


def merge(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw the result: a sheet (.jpg) or a video (.mp4).")
    ] = None,
    method: Annotated[str, typer.Option(help="sttm, tome, dycoke, octree, pyramid, uniform, random or evs.")] = "sttm",
    budget: Annotated[
        str | None,
        typer.Option(help="What to keep: a share of the tokens (0.3) or how many (400).", show_default="0.3"),
    ] = None,
    spatial: Annotated[
        float | None, typer.Option(help="Instead of a budget: least cosine that merges neighbours in a frame.")
    ] = None,
    temporal: Annotated[
        float | None, typer.Option(help="With --spatial: least cosine that merges across frames.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=512, help="How many frames, evenly spaced.")] = 16,
    grid: Annotated[int, typer.Option(min=1, max=32, help="Cells along the shorter side of a frame.")] = 14,
    tokens: Annotated[
        Path | None, typer.Option(help="Write the merged tokens and where each came from (.safetensors).")
    ] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Merge a video's tokens, and draw which cells are kept and which frames share one.

    White lines bound the cells that are kept. Cells in one colour are a single token that several frames share; cells
    in the picture's own colours live in their frame alone; dark ones were dropped.
    """
    config = _config(method, budget=budget, spatial=spatial, temporal=temporal)
    for path, suffixes in ((out, (*PICTURES, ".mp4")), (tokens, (".safetensors",))):
        if path is not None and path.suffix.lower() not in suffixes:
            raise InvalidInput(f"{path} ends in none of {', '.join(suffixes)}", remedy="Give a name with such an end.")
    seen, features = _look(video, frames=frames, grid=grid)

    from trifocal.merging import merge as merge_tokens

    merged = merge_tokens(features, config)
    facts = _facts(merged, config)
    if out is not None:
        with writing(out):
            _draw(seen, merged, out)
        facts["picture"] = str(out)
    if tokens is not None:
        with writing(tokens):
            _save(merged, config, seen, tokens)
        facts["tokens_file"] = str(tokens)
    if format_ is Format.JSON:
        print_json({"video": str(video), **facts})
        return
    _print(facts)


def _config(method: str, *, budget: str | None, spatial: float | None, temporal: float | None) -> MergeConfig:
    from trifocal.merging import configure

    options: dict[str, Any] = {}
    if spatial is not None:
        options["spatial_threshold"] = spatial
    if temporal is not None:
        options["temporal_threshold"] = temporal
    if budget is not None:
        options["budget"] = budget_of(budget)
    elif not options:
        options["budget"] = 0.3
    return configure(method, **options)


def _look(video: Path, *, frames: int, grid: int) -> tuple[Frames, torch.Tensor]:
    """The frames, and their features `(T, H, W, C)` with the frame's aspect."""
    from trifocal import video as files
    from trifocal.backbones import load_efficientnet_lite0
    from trifocal.video import Sampling

    network = load_efficientnet_lite0()
    with files.open(video) as opened:
        shorter = min(opened.info.height, opened.info.width)
        sides = (opened.info.height, opened.info.width)
        height, width = (STRIDE * min(LONGEST_SIDE * grid, round(grid * side / shorter)) for side in sides)
        seen = opened.read(Sampling.uniform(frames, size=(height, width)))
    features = network.features(network.preprocess(seen.images, size=(height, width)))  # (T, C, H, W)
    return seen, features.movedim(1, -1).contiguous()


def _facts(merged: MergedTokens, config: MergeConfig) -> dict[str, Any]:
    held, height, width = merged.grid
    per_frame = merged.boxes[:, 0].bincount(minlength=held).tolist()
    facts: dict[str, Any] = {
        "method": config.method,
        "frames": held,
        "grid": [height, width],
        "tokens_before": held * height * width,
        "tokens_after": len(merged),
        "share": merged.share,
        "tokens_by_frame": per_frame,
    }
    for name in ("spatial_threshold", "temporal_threshold"):
        if (value := getattr(merged, name)) is not None:
            facts[name] = value
    return facts


def _print(facts: dict[str, Any]) -> None:
    out = stdout()
    height, width = facts["grid"]
    out.print(
        f"{facts['method']}: {facts['tokens_after']:,} of {facts['tokens_before']:,} tokens kept "
        f"({facts['share']:.1%}), {facts['frames']} frames of {height}×{width} cells"
    )
    found = [
        f"{name} {facts[key]:.3f}"
        for name, key in (("spatial", "spatial_threshold"), ("temporal", "temporal_threshold"))
        if key in facts
    ]
    if found:
        out.print("thresholds: " + ", ".join(found))
    out.print("new tokens by frame: " + " ".join(map(str, facts["tokens_by_frame"])), soft_wrap=True)
    if "picture" in facts:
        out.print(f"drawn in {facts['picture']}", markup=False, soft_wrap=True)
    if "tokens_file" in facts:
        out.print(f"tokens in {facts['tokens_file']}", markup=False, soft_wrap=True)


def _draw(seen: Frames, merged: MergedTokens, out: Path) -> None:
    from trifocal.merging import draw
    from trifocal.video import contact_sheet, write_jpeg, write_mp4

    drawn = draw(seen.images, tokens=merged)
    if out.suffix.lower() == ".mp4":
        span = float(seen.times_s[-1] - seen.times_s[0])
        write_mp4(out, drawn, fps=max(0.5, (len(drawn) - 1) / span) if span > 0 else 1)
        return
    title = f"{merged.method}: {len(merged):,} of {merged.assignment.numel():,} tokens ({merged.share:.0%})"
    write_jpeg(out, contact_sheet(drawn, times_s=seen.times_s, title=title, width=320))


def _save(merged: MergedTokens, config: MergeConfig, seen: Frames, path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    names = ("features", "boxes", "patch_counts", "flat_index", "assignment")
    arrays = {name: getattr(merged, name).contiguous() for name in names}
    save_file({**arrays, "times_s": torch.from_numpy(seen.times_s)}, path, metadata={"config": config.to_json()})
