"""Each loss against its equation written out with loops, at its bounds, and where its gradient goes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.retrieval import losses as L

OWNER = torch.tensor([0, 0, 1, 2, 2, 2])


def owned(video: int) -> torch.Tensor:
    return OWNER.eq(video)


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(3))


def test_info_nce_is_its_equation(scores: torch.Tensor) -> None:
    t2v = sum(-math.log(scores[n].exp()[v] / scores[n].exp().sum()) for n, v in enumerate(OWNER.tolist())) / 6
    v2t = sum(-math.log(scores[owned(v), v].exp().sum() / scores[:, v].exp().sum()) for v in range(3)) / 3
    assert L.info_nce(scores, OWNER).item() == pytest.approx(t2v + v2t, rel=1e-5)


def test_info_nce_goes_to_zero_when_every_query_knows_its_video() -> None:
    scores = 60.0 * F.one_hot(OWNER, 3).float()
    assert L.info_nce(scores, OWNER).item() == pytest.approx(0.0, abs=1e-6)


def test_hard_triplet_is_its_equation(scores: torch.Tensor) -> None:
    # top=1 leaves no chance: the hardest wrong video of each query, the hardest wrong query of each video.
    m = 0.2
    t2v = v2t = 0.0
    for n, v in enumerate(OWNER.tolist()):
        worst = max(scores[n, w].item() for w in range(3) if w != v)
        t2v += max(0.0, m + worst - scores[n, v].item()) / 6
    for v in range(3):
        worst = max(scores[n, v].item() for n in range(6) if OWNER[n] != v)
        v2t += max(0.0, m + worst - scores[owned(v), v].mean().item()) / 3
    assert L.triplet(scores, OWNER, margin=m, hard=True, top=1).item() == pytest.approx(t2v + v2t, rel=1e-5)


@pytest.mark.parametrize("hard", [True, False])
def test_triplet_never_takes_the_right_one_as_negative(hard: bool) -> None:
    # Right pairs score 1, wrong ones -1: a wrong pick of a right pair would cost the margin.
    scores = 2.0 * F.one_hot(OWNER, 3).float() - 1
    for seed in range(20):
        torch.manual_seed(seed)
        assert L.triplet(scores, OWNER, margin=0.2, hard=hard).item() == 0.0


def test_triplet_of_one_video_is_zero_and_differentiable() -> None:
    scores = torch.ones(2, 1, requires_grad=True)
    loss = L.triplet(scores, torch.zeros(2, dtype=torch.int64), margin=0.2, hard=True)
    torch.autograd.backward(loss)
    assert loss.item() == 0.0


def test_random_negatives_repeat_with_the_seed(scores: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = L.triplet(scores, OWNER, margin=0.2, hard=False)
    torch.manual_seed(1)
    assert L.triplet(scores, OWNER, margin=0.2, hard=False) == first


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.floats(0, 1))
def test_masking_hides_a_word_of_every_caption_and_never_padding(captions: int, length: int, rate: float) -> None:
    lengths = torch.arange(captions) % length + 1
    mask = torch.arange(length) < lengths[:, None]
    hidden = L.mask_words(mask, rate=rate)
    assert not (hidden & ~mask).any()
    assert (hidden.sum(dim=1) >= 1).all()


def test_masked_word_loss_is_its_equation() -> None:
    rebuilt, target = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    expected = 0.0
    for i in range(4):
        kept = [j for j in range(4) if j == i or not same[i, j]]
        logits = torch.stack([F.cosine_similarity(rebuilt[i], target[j], dim=0) / 0.1 for j in kept])
        expected -= logits.log_softmax(0)[kept.index(i)].item() / 4
    assert L.masked_word_loss(rebuilt, target, same, temperature=0.1).item() == pytest.approx(expected, rel=1e-5)


def test_masked_word_loss_moves_the_reconstruction_only() -> None:
    rebuilt, target = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    torch.autograd.backward(L.masked_word_loss(rebuilt, target, torch.eye(3, dtype=torch.bool), temperature=0.1))
    assert rebuilt.grad is not None
    assert target.grad is None


def test_same_words_by_ids_or_by_features() -> None:
    features = torch.tensor([[1.0, 0], [2.0, 0], [0, 1.0]])
    expected = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    assert torch.equal(L.same_words(features, None), expected)
    assert torch.equal(L.same_words(torch.randn(3, 2), torch.tensor([7, 7, 8])), expected)


def test_video_reconstruction_is_its_equation() -> None:
    rebuilt, target = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    unit = target / target.norm(dim=-1, keepdim=True)
    expected = sum(((rebuilt[b, i] - unit[b, i]) ** 2).sum().item() for b in range(3) for i in range(4)) / 12
    assert L.video_reconstruction(rebuilt, target).item() == pytest.approx(expected, rel=1e-5)
    assert L.video_reconstruction(unit, target).item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("share", "loss"), [(1.0, 0.0), (0.92, 0.0), (0.95, 0.0), (0.5, -math.log(0.6)), (0.0, -math.log(0.1))]
)
def test_guidance_is_zero_inside_the_margin(share: float, loss: float) -> None:
    given_share = torch.tensor([share], requires_grad=True)
    got = L.attention_guidance(given_share, margin=0.1)
    torch.autograd.backward(got)
    assert got.item() == pytest.approx(loss, abs=1e-6)
    assert given_share.grad is not None
    assert bool(given_share.grad < 0) == (share < 0.9)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 99))
def test_partners_are_a_derangement(videos: int, seed: int) -> None:
    torch.manual_seed(seed)
    partner = L.partners(videos, device=torch.device("cpu"))
    assert sorted(partner.tolist()) == list(range(videos))
    assert (partner != torch.arange(videos)).all()


def test_orthogonality_counts_positive_cosines_off_the_diagonal() -> None:
    a, b = torch.tensor([3.0, 0]), torch.tensor([1.0, 1.0])
    prototypes = torch.stack([a, b, -a])[None]
    # cosines: (a, b) = 1/√2, (a, −a) = −1 → 0, (b, −a) = −1/√2 → 0; each pair counts twice of six entries.
    assert L.orthogonality(prototypes).item() == pytest.approx(2 / math.sqrt(2) / 6, rel=1e-6)
    assert L.orthogonality(prototypes, norm="frobenius").item() == pytest.approx(1 / 6, rel=1e-6)
    assert L.orthogonality(torch.eye(4)[None]).item() == 0.0
    assert L.orthogonality(torch.ones(2, 3, 4)).item() == pytest.approx(1.0)
    assert L.orthogonality(torch.ones(2, 1, 4)).item() == 0.0


def test_balance_is_zero_for_even_winners_and_log_k_for_one() -> None:
    assert L.winner_balance(10 * torch.eye(4), temperature=0.1).item() == pytest.approx(0.0, abs=1e-5)
    one = torch.zeros(4, 4)
    one[:, 0] = 10.0
    assert L.winner_balance(one, temperature=0.1).item() == pytest.approx(math.log(4), rel=1e-4)
