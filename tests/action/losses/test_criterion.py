"""The criterion: goldens, and what the mended one promises."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.action.data.targets import ClipTargets, Targets
from trifocal.action.losses import ActionCriterion, CriterionConfig, Losses, match
from trifocal.action.losses.boxes import cxcywh_to_xyxy, pairwise_giou
from trifocal.action.losses.config import Regime
from trifocal.action.losses.terms import gated_logit, reference_gated_logit
from trifocal.bench.goldens import check
from trifocal.errors import InvalidInput

REGIMES: list[Regime] = ["ava", "ucf", "jhmdb"]


@dataclass
class Layer:
    class_logits: torch.Tensor
    boxes_cxcywh: torch.Tensor
    person_logits: torch.Tensor


def layer(frames: int | None, *, batch: int = 2, queries: int = 6, classes: int = 4, seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, queries) if frames is None else (batch, frames, queries)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    boxes = torch.rand(*shape, 4, generator=generator) * 0.4 + 0.2
    return Layer(*(part.requires_grad_() for part in (draw(*shape, classes), boxes, draw(*shape, 3))))


def clip(frames: int, actors: int, *, classes: int = 4, pad: tuple[int, int] = (0, 0), seed: int = 0) -> ClipTargets:
    generator = torch.Generator().manual_seed(100 + seed)
    padded = torch.zeros(frames, dtype=torch.bool)
    padded[: pad[0]] = True
    padded[frames - pad[1] :] = True
    boxes = torch.rand(frames, actors, 4, generator=generator) * 0.4 + 0.2
    actions = (torch.rand(frames, actors, classes, generator=generator) > 0.5).float()
    return ClipTargets(boxes, ~padded[:, None].expand(frames, actors), actions, padded)


def run(regime: Regime, layers: list[Layer], targets: Targets, **changes: Any) -> Losses:
    return ActionCriterion(CriterionConfig.preset(regime, **changes))(layers, targets)


def test_all_shared_goldens_pass(shared: Path) -> None:
    found = [case for path in sorted((shared / "goldens/vad/losses").glob("*.npz")) for case in check(path)]
    assert len(found) >= 8
    assert [case for case in found if case.wrong != ()] == []


@pytest.mark.parametrize("part", ["loss.loss_ce", "grad.pred_boxes", "match.main.0.src", "loss_total_with_aux"])
def test_a_changed_golden_fails(shared: Path, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "losses"
    folder.mkdir()
    shutil.copy(shared / "goldens/vad/losses/summary.json", folder)
    with np.load(shared / "goldens/vad/losses/ucf_frontpad.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    arrays[part] = arrays[part] + 1
    np.savez(folder / "ucf_frontpad.npz", **arrays)
    (case,) = check(folder / "ucf_frontpad.npz")
    assert case.wrong


@pytest.mark.parametrize("regime", REGIMES)
def test_a_batch_equals_its_clips_by_the_number_of_actors(regime: Regime) -> None:
    frames = None if regime == "ava" else 5
    clips = [clip(frames or 1, 2, seed=1), clip(frames or 1, 1, seed=2)]
    both = layer(frames)
    whole = run(regime, [both], Targets.collate(clips))
    alone = [
        run(regime, [Layer(*(part[b : b + 1] for part in vars(both).values()))], Targets.collate([clips[b]]))
        for b in range(2)
    ]
    weights = [2, 1]
    for name in ("class", "box", "giou"):
        mean = sum(w * one.values()[name] for w, one in zip(weights, alone, strict=True)) / 3
        assert whole.values()[name] == pytest.approx(mean, rel=1e-5), name


@pytest.mark.parametrize("regime", ["ucf", "jhmdb"])
def test_what_padded_frames_hold_changes_nothing(regime: Regime) -> None:
    targets = Targets.collate([clip(6, 1, pad=(2, 1))])
    first, second = layer(6, batch=1), layer(6, batch=1)
    with torch.no_grad():
        for part in vars(second).values():
            part[:, :2] *= 1.3
            part[:, 5:] *= 0.7
    one, two = run(regime, [first], targets), run(regime, [second], targets)
    assert one.values()["total"] == pytest.approx(two.values()["total"], rel=1e-6)
    torch.autograd.backward(one.total)
    assert first.class_logits.grad is not None
    assert not first.class_logits.grad[:, :2].any()
    assert first.class_logits.grad[:, 2:5].any()
    # The released criterion weighs the wrong frames: moving the same frames changes it.
    released = [run(regime, [out], targets, compat="reference").values()["total"] for out in (first, second)]
    assert released[0] != pytest.approx(released[1])


@pytest.mark.parametrize("regime", REGIMES)
def test_nobody_to_be_found_is_no_nan(regime: Regime) -> None:
    frames = None if regime == "ava" else 3
    out = layer(frames)
    losses = run(regime, [out, layer(frames, seed=3)], Targets.collate([clip(frames or 1, 0)] * 2))
    torch.autograd.backward(losses.total)
    assert np.isfinite(list(losses.values().values())).all()
    assert losses.values()["box"] == 0
    assert out.person_logits.grad is not None
    assert torch.isfinite(out.person_logits.grad).all()
    assert all(len(one) == 0 for one in losses.assignments)


def test_extreme_logits_keep_their_gradient() -> None:
    logits = torch.tensor([[[[60.0, -60.0]]]], requires_grad=True)
    person = torch.tensor([[[[0.0, 60.0, -60.0]]]], requires_grad=True)
    mended = gated_logit(logits, person)
    assert torch.isfinite(mended).all()
    torch.autograd.backward(mended.sum())
    assert logits.grad is not None
    assert logits.grad[..., 1].item() == pytest.approx(1.0)
    assert torch.isfinite(logits.grad).all()
    between = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 3)
    assert torch.allclose(gated_logit(*between), reference_gated_logit(*between), atol=1e-4)


def test_earlier_layers_count_as_the_last_one() -> None:
    out, targets = layer(None), Targets.collate([clip(1, 2)] * 2)
    one, three = run("ava", [out], targets), run("ava", [out, out, out], targets)
    single = one.values()["total"]
    assert three.values()["total"] == pytest.approx(3 * single, rel=1e-5)
    assert set(three.terms) == {n + s for n in ("class", "person", "box", "giou") for s in ("", "_0", "_1")}
    assert run("ava", [out, out], targets, auxiliary=False).values()["total"] == pytest.approx(single, rel=1e-5)


def test_more_actors_than_queries() -> None:
    targets = Targets.collate([clip(1, 9)])
    losses = run("ava", [layer(None, batch=1, queries=6)], targets)
    (pairs,) = losses.assignments
    assert sorted(pairs.query.tolist()) == list(range(6))
    assert len(set(pairs.target.tolist())) == 6


def test_the_match_is_the_cheapest() -> None:
    out, target = layer(None, batch=1, queries=4), clip(1, 2)
    (pairs,) = match(out.boxes_cxcywh[None, :, None], out.person_logits[None, :, None], Targets.collate([target]))
    boxes, truth = out.boxes_cxcywh[0], target.boxes_cxcywh[0]
    cost = 5 * torch.cdist(boxes, truth, p=1) - 2 * pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(truth))
    cost = cost.detach() - 12 * out.person_logits[0].detach().softmax(-1)[:, 1:2]
    best = min((float(cost[a, 0] + cost[b, 1]), (a, b)) for a in range(4) for b in range(4) if a != b)
    assert tuple(pairs.query[pairs.target.argsort()].tolist()) == best[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regime": "kinetics"}, "ava, ucf, jhmdb"),
        ({"smoothing": 1.5}, "between 0 and 1"),
        ({"class_weight": -1.0}, "at least 0"),
        ({"focal_gamma": float("nan")}, "finite"),
        ({"compat": "old"}, "default, reference"),
    ],
)
def test_a_wrong_configuration_says_what_is_right(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        CriterionConfig(**change)


def test_outputs_that_do_not_fit_or_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidInput, match="targets ask for"):
        run("ava", [layer(None, classes=5)], Targets.collate([clip(1, 1)] * 2))
    with pytest.raises(InvalidInput, match="no decoder layer"):
        run("ava", [], Targets.collate([clip(1, 1)]))
    broken = layer(None)
    with torch.no_grad():
        broken.boxes_cxcywh[0, 0, 0] = float("nan")
    with pytest.raises(InvalidInput, match="not finite"):
        run("ava", [broken], Targets.collate([clip(1, 1)] * 2))


def test_targets_are_checked() -> None:
    good = clip(1, 1)
    with pytest.raises(InvalidInput, match="no area"):
        ClipTargets(good.boxes_cxcywh * 0, good.valid, good.actions, good.padded)
    with pytest.raises(InvalidInput, match="shapes"):
        ClipTargets(good.boxes_cxcywh[..., :3], good.valid, good.actions, good.padded)
    with pytest.raises(InvalidInput, match="one batch"):
        Targets.collate([clip(1, 1), clip(2, 1)])
