"""Prompts of more than one video, with pictures among them, family by family where they differ in form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.chat.families.conftest import (
    CASES,
    END,
    IMAGE,
    NEWLINE,
    SIDE,
    START,
    VIDEO,
    ZERO,
    Case,
    Inputs,
    internvl_prompt,
    smolvlm_prompt,
)

from trifocal.chat.accelerate import accelerate
from trifocal.chat.families import family_of
from trifocal.chat.hooks.spans import Call, VideoSpan
from trifocal.errors import ModelError

HALF: dict[str, Any] = {"budget": 0.5, "root_level": 0}
TILE = [IMAGE] * (SIDE * SIDE)
TILE_OF_ITS_OWN = [49190] * (SIDE * SIDE)


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def locate(case: Case, inputs: Inputs) -> tuple[VideoSpan, ...]:
    model = case.model()
    arguments: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    return family_of(model).locate(Call(inputs["input_ids"], arguments, model.config))


def follows(model: Any, inputs: Inputs, *, layer: int) -> list[tuple[int, int, int]]:
    """The grids found; generating step by step must equal one forward of the longer prompt."""
    options: dict[str, Any] = {
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
        "suppress_tokens": [IMAGE, VIDEO],
    }
    with torch.no_grad(), accelerate(model, layer=layer, **HALF) as handle:
        made = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, **options)
        longer = {**inputs, "input_ids": made.sequences[:, :-1]}
        for key, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            if key in inputs:
                longer[key] = torch.nn.functional.pad(inputs[key], (0, 3), value=fill)
        at_once = model(**longer).logits[:, -4:]
        assert handle.usage is not None
        grids = [video.span.grid for video in handle.usage.videos]
    assert torch.allclose(torch.stack(made.logits, 1), at_once, atol=2e-5, rtol=1e-4)
    return grids


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_pictures_and_two_videos_of_a_qwen(name: str, layer: int) -> None:
    case = named(name)
    first, second = case.inputs(1, before=3, after=2, frames=2), case.inputs(2, before=4, after=3, frames=3)
    picture = torch.tensor([[5, START, *[IMAGE] * (SIDE * SIDE // 2), END, 6]])
    ids = torch.cat([picture, first["input_ids"], second["input_ids"]], dim=1)
    kinds = torch.where(ids == VIDEO, 2, 0) + torch.where(ids == IMAGE, 1, 0)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": kinds.int(),
        "pixel_values": first["pixel_values_videos"][: SIDE * SIDE * 2],
        "image_grid_thw": torch.tensor([[1, SIDE, SIDE * 2]]),
        "pixel_values_videos": torch.cat([first["pixel_values_videos"], second["pixel_values_videos"]]),
        "video_grid_thw": torch.cat([first["video_grid_thw"], second["video_grid_thw"]]),
    }
    assert follows(case.model(), inputs, layer=layer) == [(2, SIDE, SIDE), (3, SIDE, SIDE)]


def test_two_adjacent_videos_of_llava() -> None:
    case = named("llava_onevision")
    one = [VIDEO] * (3 * SIDE * SIDE + 1)
    ids = torch.tensor([[1, 2, *one, *one, 3, 4, 5]])
    pixels = torch.cat([case.inputs(seed)["pixel_values_videos"] for seed in (1, 2)])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": pixels}
    found = locate(case, inputs)
    assert [int(span.cells[0]) for span in found] == [2, 2 + len(one)]
    inputs.pop("pixel_values_videos")
    with pytest.raises(ModelError, match="98 video tokens in a row are not a number of frames of 4×4 and 1 behind"):
        locate(case, inputs)


def test_two_videos_apart_of_llava() -> None:
    case = named("llava_onevision")
    one = [VIDEO] * (3 * SIDE * SIDE + 1)
    ids = torch.tensor([[1, 2, *one, 7, *one, 3, 4, 5]])
    pixels = torch.cat([case.inputs(seed)["pixel_values_videos"] for seed in (1, 2)])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": pixels}
    assert follows(case.model(), inputs, layer=2) == [(3, SIDE, SIDE)] * 2


def frames_of(prompt: Any, count: int, seed: int = 0) -> list[int]:
    inputs: Inputs = prompt(torch.Generator().manual_seed(seed), [], [], count)
    ids: list[int] = inputs["input_ids"][0].tolist()
    return ids


def starts(case: Case, ids: list[int]) -> list[tuple[int, int]]:
    """First place and number of frames of each video found."""
    return [(int(span.cells[0]), span.grid[0]) for span in locate(case, {"input_ids": torch.tensor([ids])})]


def picture(*, ending: int = END) -> list[int]:
    return [START, *TILE, ending]


def test_internvl_tells_videos_from_pictures() -> None:
    case, video = named("internvl"), frames_of(internvl_prompt, 3)
    # A video; a picture of one tile with a question behind; a picture of five tiles.
    assert starts(case, [1, 2, *video, 3]) == [(6, 3)]
    assert starts(case, [1, *picture(), *range(1, 30), 4]) == []
    assert starts(case, [1, START, *TILE * 5, END, 4]) == []
    assert starts(case, [START, *TILE * 5, END, 9, *video]) == [(6 + 5 * len(TILE) + 1, 3)]
    # Two videos in a row count their frames from 1 again.
    assert starts(case, [1, 2, *video, NEWLINE, *video, 3]) == [(6, 3), (7 + len(video), 3)]
    assert starts(case, [*video, *frames_of(internvl_prompt, 2)]) == [(4, 3), (4 + len(video), 2)]
    # Far apart is another one.
    assert starts(case, [*video, *range(1, 30), *video]) == [(4, 3), (4 + len(video) + 29, 3)]
    # Numbers of two digits go on.
    assert starts(case, [5, *frames_of(internvl_prompt, 23)]) == [(5, 23)]


@pytest.mark.parametrize(
    "between",
    [
        [NEWLINE],  # as the processor writes several pictures
        [3, 4, 5],
        [NEWLINE, 7, 9, ZERO + 2, 8],  # "Image-2:"
        [NEWLINE, 7, ZERO + 3, 8],  # "Frame3:", one too far
        [NEWLINE, 7, ZERO + 1, 8],  # "Frame1:" again
        [NEWLINE, 6, ZERO + 2, 8],  # "Picture2:" behind "Frame1:"
        [7, 7, 7, 7, ZERO + 2, 8],
    ],
)
def test_two_pictures_of_internvl_are_no_video(between: list[int]) -> None:
    front = [NEWLINE, 7, 9, ZERO + 1, 8] if 9 in between else [NEWLINE, 7, ZERO + 1, 8]
    assert starts(named("internvl"), [1, *front, *picture(), *between, *picture(), 4]) == []
    assert starts(named("internvl"), [*picture(), *between, *picture(), 4]) == []


def test_smolvlm_tells_videos_from_pictures() -> None:
    case, video = named("smolvlm"), frames_of(smolvlm_prompt, 3)
    tiles = [START, 40, *TILE, START, 41, *TILE, 3, START, 42, *TILE, START, 43, *TILE, 3, 3, START, 44, *TILE, START]
    assert starts(case, [1, *tiles, 2]) == []
    assert starts(case, [1, *video, 2]) == [(10, 3)]
    assert starts(case, [*video, *range(1, 21), *video]) == [(9, 3), (len(video) + 29, 3)]
    # With nothing between them the second begins where the time goes back.
    long = frames_of(smolvlm_prompt, 24)
    assert starts(case, [*long, *video]) == [(9, 24), (9 + len(long), 3)]
    assert starts(case, [1, *tiles, *range(1, 40), *video]) == [(1 + len(tiles) + 39 + 9, 3)]
    # A picture in front of a video and one behind it.
    assert starts(case, [START, *TILE, START, 5, 6, *video, 5, *picture()]) == [(len(TILE) + 13, 3)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 2, 3], [4, 5, 6]),
        ([7, 9], [7, 9]),
        ([7, ZERO + 1, 8], [7, ZERO + 2, 8]),  # "Picture1:", "Picture2:"
        ([7, 9, ZERO, ZERO, 8, ZERO, ZERO + 5, 8], [7, 9, ZERO, ZERO, 8, ZERO, ZERO + 4, 8]),  # back in time
        ([7, 9, ZERO, ZERO, 8, ZERO, ZERO + 5, 8], [7, 3, ZERO, ZERO, 8, ZERO, ZERO + 6, 8]),  # other words
        ([7, 9, 30, 31, 8, 32, 33, 8], [7, 9, 30, 31, 8, 50, 51, 8]),  # no digits
    ],
)
def test_two_pictures_of_smolvlm_are_no_video(first: list[int], second: list[int]) -> None:
    case = named("smolvlm")
    assert starts(case, [1, *first, START, *TILE, START, *second, START, *TILE, START, 4]) == []


def test_the_words_of_a_real_tokenizer_tell() -> None:
    """The ids of SmolLM2's tokenizer for what SmolVLM's processor writes, two minutes of a frame every two seconds."""
    fake, overall, colon, zero = 40, 41, 42, 32
    case = named("smolvlm")
    intro = [19489, 429, 253, 216, zero, colon, zero, zero, colon, 33, 34, 933, 56, 42, 11362, 6690, 3341, 30, 198]
    ids = list(intro)
    for second in range(0, 120, 2):
        time = [zero + int(digit) for digit in f"{second // 60:02d}{second % 60:02d}"]
        ids += [198, 9967, 429, 216, *time[:2], colon, *time[2:], colon, fake, overall, *TILE_OF_ITS_OWN, fake]
    call = Call(torch.tensor([ids]), {}, with_placeholder(case, TILE_OF_ITS_OWN[0]))
    (span,) = family_of(case.model()).locate(call)
    assert span.grid == (60, SIDE, SIDE)


def with_placeholder(case: Case, token: int) -> Any:
    config = case.model().config
    config.image_token_id = token
    return config


def image_of_llava(case: Case) -> tuple[list[int], Inputs]:
    """A picture of one size, and as many placeholders as the model makes tokens of it."""
    size = case.inputs()["pixel_values_videos"].shape[-1]
    pixels = torch.randn(1, 2, 3, size, size, generator=torch.Generator().manual_seed(7))
    given = {"pixel_values": pixels, "image_sizes": torch.tensor([[size, size]])}
    model = case.model()
    with torch.no_grad():
        features = model.model.get_image_features(**given, return_dict=True).pooler_output
    return [IMAGE] * len(features[0]), given


def image_of_video_llama(case: Case) -> tuple[list[int], Inputs]:
    patches = case.inputs(3, frames=1)["pixel_values_videos"]
    sizes = {"image_grid_thw": torch.tensor([[1, SIDE * 2, SIDE * 2]]), "image_merge_sizes": torch.tensor([2])}
    return TILE, {"pixel_values": patches, **sizes}


def mixed(name: str) -> tuple[Case, Inputs, list[tuple[int, int, int]]]:
    """A picture, a video, another picture or words, a second video; with the grids that are to be found."""
    case = named(name)
    first, second = case.inputs(1, before=3, after=2, frames=2), case.inputs(2, before=4, after=3, frames=3)
    if name in {"internvl", "smolvlm"}:
        axis = int(name == "smolvlm")
        one = case.inputs(3, frames=1)["pixel_values"]
        ids = [1, *picture(), 2, *first["input_ids"][0].tolist(), *picture(), 3, *picture()]
        ids += second["input_ids"][0].tolist()
        pixels = [one, first["pixel_values"], one, one, second["pixel_values"]]
        return case, {**as_row(ids), "pixel_values": torch.cat(pixels, axis)}, [(2, SIDE, SIDE), (3, SIDE, SIDE)]
    image, given = image_of_video_llama(case) if name == "video_llama_3" else image_of_llava(case)
    if name != "video_llama_3":
        second = case.inputs(2, before=4, after=3, frames=2)  # one tensor holds the pixels of both
    ids = [1, *image, 2, *first["input_ids"][0].tolist(), *second["input_ids"][0].tolist()]
    joined = {key: torch.cat([first[key], second[key]]) for key in first if key not in {"input_ids", "attention_mask"}}
    frames = 3 if name == "video_llama_3" else 2
    return case, {**as_row(ids), **given, **joined}, [(2, SIDE, SIDE), (frames, SIDE, SIDE)]


def as_row(ids: list[int]) -> Inputs:
    tokens = torch.tensor([ids])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", ["llava_next_video", "llava_onevision", "video_llama_3", "internvl", "smolvlm"])
def test_pictures_beside_two_videos(name: str, layer: int) -> None:
    case, inputs, grids = mixed(name)
    model = case.model()
    assert follows(model, inputs, layer=layer) == grids
    # Pictures and words are as many places as before.
    with torch.no_grad(), accelerate(model, layer=layer, **HALF) as handle:
        model(**inputs)
    assert handle.usage is not None
    cells = sum(t * h * w for t, h, w in grids)
    assert handle.usage.prompt_tokens_before == inputs["input_ids"].shape[1]
    assert handle.usage.video_tokens_before == cells
    lost = handle.usage.video_tokens_before - handle.usage.video_tokens_after
    assert handle.usage.prompt_tokens_after == inputs["input_ids"].shape[1] - lost


@pytest.mark.parametrize("name", ["internvl", "smolvlm", "llava_onevision", "qwen2_vl"])
def test_the_caller_may_say_where_videos_are(name: str) -> None:
    """An empty list is no video, whatever the words; a span of the caller's is one, whatever the words."""
    case = named(name)
    model, inputs = case.model(), case.inputs()
    (span,) = locate(case, inputs)
    ids = inputs["input_ids"].clone()
    plain = model(**inputs).logits
    with torch.no_grad(), accelerate(model, layer=2, **HALF) as handle:
        merged = model(**inputs).logits
        assert torch.equal(model(**inputs, video_spans=[]).logits, plain)
        with handle.video_spans([]):
            assert torch.equal(model(**inputs).logits, plain)
            generated = model.generate(**inputs, max_new_tokens=2, suppress_tokens=[IMAGE, VIDEO], do_sample=False)
        assert torch.equal(model(**inputs, video_spans=[span]).logits, merged)
        with handle.video_spans([span]):
            assert torch.equal(model(**inputs).logits, merged)
        half = VideoSpan(span.cells[: SIDE * SIDE], (1, SIDE, SIDE))
        shorter = model(**inputs, video_spans=[half]).logits
    assert merged.shape[1] < shorter.shape[1] < ids.shape[1]
    assert torch.equal(
        generated, model.generate(**inputs, max_new_tokens=2, suppress_tokens=[IMAGE, VIDEO], do_sample=False)
    )


def test_videollama3_with_dropped_tokens_is_refused() -> None:
    case = named("video_llama_3")
    inputs = case.inputs()
    mask = inputs["video_compression_mask"].clone()
    mask[3] = False
    with pytest.raises(ModelError, match="use_token_compression=False"):
        locate(case, {**inputs, "video_compression_mask": mask})
    sizes = {name: value for name, value in inputs.items() if name != "video_merge_sizes"}
    with pytest.raises(ModelError, match="video_merge_sizes has 0 entries for 1 videos"):
        locate(case, sizes)


def test_grids_must_come_with_video_tokens() -> None:
    case = named("qwen2_vl")
    inputs = case.inputs()
    with pytest.raises(ModelError, match="48 video tokens and no video_grid_thw"):
        locate(case, {"input_ids": inputs["input_ids"]})
    wrong = {**inputs, "video_grid_thw": torch.tensor([[2, 8, 8]])}
    with pytest.raises(ModelError, match="48 video tokens and the grids of the videos have 2×4×4"):
        locate(case, wrong)


def test_features_may_come_in_advance() -> None:
    """`mm_encoder_outputs` in the place of pixels, as `generate` itself passes them."""
    for case in CASES:
        if case.name == "idefics3":
            continue  # takes pixels only
        model, inputs = case.model(), case.inputs()
        pixels = {name for name in inputs if name.startswith(("pixel", "video_"))}
        given = {name: inputs[name] for name in pixels if name != "video_compression_mask"}
        kind = "image" if "pixel_values" in inputs else "video"
        with torch.no_grad(), accelerate(model, **HALF):
            expected = model(**inputs).logits
            made = getattr(model.model, f"get_{kind}_features")(**given, return_dict=True)
            rest = {name: value for name, value in inputs.items() if name not in pixels}
            grids = {name: value for name, value in given.items() if case.mrope and name == "video_grid_thw"}
            found = model(**rest, **grids, mm_encoder_outputs={kind: made}).logits
        assert torch.equal(found, expected), case.name


def test_deepstack_features_are_merged_as_the_video_is() -> None:
    """Merging in front of the layer behind which features are added, against adding them by hand."""
    case = named("qwen3_vl")
    model, inputs = case.model(), case.inputs()
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(index: int) -> Any:
        def hook(_module: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            seen[index] = (args[0], output)

        return hook

    with torch.no_grad(), accelerate(model, layer=1, **HALF) as handle:
        handles = [layer.register_forward_hook(note(index)) for index, layer in enumerate(handle.text_model.layers)]  # type: ignore[arg-type]
        pixels = {"pixel_values_videos": inputs["pixel_values_videos"], "video_grid_thw": inputs["video_grid_thw"]}
        features = model.model.get_video_features(**pixels, return_dict=True).deepstack_features
        model(**inputs)
        for each in handles:
            each.remove()
    assert handle.usage is not None
    (video,) = handle.usage.videos
    added = seen[2][0] - seen[1][1]
    stacked = features[1][0].view(*video.span.grid, -1)
    text = torch.ones(added.shape[1], dtype=torch.bool)
    text[video.columns] = False
    assert torch.equal(added[0, text], torch.zeros_like(added[0, text]))
    for token in range(len(video.columns)):
        members = video.tokens.assignment == token
        weights = video.tokens.cell_weights[members]
        expected = (stacked[members] * weights[:, None]).sum(0)
        assert torch.allclose(added[0, video.columns[token]], expected, atol=1e-5)
    # In front of it, the first features went in whole.
    full = seen[1][0]
    assert full.shape[1] == seen[1][1].shape[1] == added.shape[1]
