"""Two processes with shares of a batch against one with all of it: the loss and every gradient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from dataclasses import replace

import torch
import torch.distributed as dist

from trifocal.retrieval.losses import gather_rows
from trifocal.retrieval.model import PrototypeRetriever, RetrievalBatch, preset

rank = int(sys.argv[1])
small = {
    "video_dim": 12, "text_dim": 10, "hidden": 16, "heads": 2, "clips": 8, "window_max": 4, "prototypes": 4,
    "max_words": 6, "max_frames": 4,
}
# The hardest negative is the same wherever it is looked for; a random one, and what is dropped, would not be.
fixed = {"dropout": 0.0, "hard_negatives_from_epoch": 0, "hard_negatives_top": 1}
alone = {"word_weight": 0.0, "video_weight": 0.0, "guidance_weight": 0.0, "ortho_weight": 0.0}
forms = [
    {"learn_temperature": True, "frame_branch": True},
    {"retrieval": "dot", "frame_branch": True, "frame_nce_weight": 1.0},
    {"smooth_max": 0.1, "generator": "tokens"},
]
torch.manual_seed(0)
owner = torch.tensor([0, 1, 1, 1, 2, 2, 3, 4, 4])
clips, frames, words = torch.randn(5, 8, 12), torch.randn(5, 4, 12), torch.randn(9, 6, 10)


def share(videos):
    kept = torch.isin(owner, torch.tensor(videos))
    return RetrievalBatch(
        clips=clips[videos].double(),
        words=words[kept].double(),
        word_mask=torch.ones(int(kept.sum()), 6, dtype=torch.bool),
        owner=torch.searchsorted(torch.tensor(videos), owner[kept]),
        frames=frames[videos].double(),
        frame_mask=torch.ones(len(videos), 4, dtype=torch.bool),
    )


def gradients(loss):
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)

rows = torch.arange(3.0)[rank * 3 :, None].requires_grad_()  # three rows, and none
found, before = gather_rows(rows)
assert found.tolist() == [[0.0], [1.0], [2.0]] and before == 3 * rank
(found.sum() * (rank + 1)).backward()
assert rows.grad.tolist() == [[3.0]] * len(rows)  # what both say

whole = share([0, 1, 2, 3, 4])
shares = {
    "unequal": share([[0, 2, 4], [1, 3]][rank]),
    "one": share([[0, 1, 2, 4], [3]][rank]),
    "spare": whole if rank == 0 else replace(share([1, 3]), spare=True),
}
for changes in forms:
    torch.manual_seed(1)
    model = PrototypeRetriever(preset("paper", **small, **fixed, **alone, **changes)).double()
    expected_loss = model.loss(whole)["retrieval"]
    expected = gradients(expected_loss)
    for mine in shares.values():
        loss = model.loss(mine, together=True)["retrieval"]
        torch.testing.assert_close(loss, expected_loss)
        if len(mine) < 5:
            apart = model.loss(mine)["retrieval"]
            assert float((apart - loss).detach().abs()) > 1e-3  # its own share is another matter
        captions = 0 if mine.spare else len(mine.owner)
        found = gradients(loss * (captions * 2 / len(owner)))  # weighed by its captions, as the loop does
        assert found.keys() == expected.keys()
        for one in found.values():
            dist.all_reduce(one)
        torch.testing.assert_close({key: one / 2 for key, one in found.items()}, expected)

single = {name: getattr(mine, name).float() for name in ("clips", "words", "frames")}
with torch.autocast("cpu", torch.bfloat16):
    half = model.float().loss(replace(mine, **single), together=True)["retrieval"]
half.backward()
torch.testing.assert_close(half.double(), expected_loss, rtol=0.1, atol=0.1)

model = PrototypeRetriever(preset("paper", **small)).double()
terms = model.loss(shares["one"], together=True)
assert list(terms) == ["total", "retrieval", "words", "video", "guidance", "ortho"]  # the same where there is one video
dist.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        said = [one.communicate(timeout=200)[1] for one in both]
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert [one.returncode for one in both] == [0, 0], said
