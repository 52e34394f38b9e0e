"""The benchmark's parts do what they say, at sizes that take seconds. Nothing here is timed."""

import json
import sys

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import cancel, classic, speed
from guidance.optimise import optimise

TINY = speed.Work(
    size=32,
    cutouts=4,
    chunk=3,
    network={
        "model": {
            "target": "VQModel",
            "params": {
                "embed_dim": 8,
                "n_embed": 16,
                "ddconfig": {
                    "double_z": False,
                    "z_channels": 8,
                    "resolution": 32,
                    "in_channels": 3,
                    "out_ch": 3,
                    "ch": 32,
                    "ch_mult": [1, 2],
                    "num_res_blocks": 1,
                    "attn_resolutions": [16],
                },
            },
        }
    },
    guide={
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 1,
        },
    },
)


@pytest.mark.parametrize("name", speed.CONTENDERS)
def test_every_contender_moves_its_latent(name):
    torch.manual_seed(0)
    step = speed.CONTENDERS[name](TINY)
    step()
    step()


def test_ours_makes_one_update_a_step(monkeypatch):
    seen = []
    monkeypatch.setattr(speed, "optimise", lambda *a, **k: seen_steps(seen, *a, **k))
    step = speed.run_ours(TINY)
    for _ in range(3):
        step()
    assert [found.index for found in seen] == [0, 1, 2]
    assert not torch.equal(seen[0].image, seen[2].image)


def seen_steps(seen, *arguments, **settings):
    for found in optimise(*arguments, **settings):
        seen.append(found)
        yield found


def test_the_classic_loop_lowers_its_loss():
    torch.manual_seed(0)
    loop = speed._loop(TINY, torch.float32)

    def loss() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            views = (loop.cutouts(loop.synthesise()) - loop.mean) / loop.std
            return classic.prompt_loss(loop.visual(views), loop.goal).item()

    before, start = loss(), loop.latent.detach().clone()
    for _ in range(8):
        loop.step()
    assert loss() < before
    assert not torch.equal(loop.latent, start)
    assert (loop.latent >= loop.low).all()
    assert (loop.latent <= loop.high).all()


def test_the_classic_quantiser_finds_the_nearest_code():
    torch.manual_seed(0)
    codebook, x = torch.randn(7, 3), torch.randn(1, 2, 2, 3, requires_grad=True)
    nearest = codebook[torch.cdist(x.detach().reshape(-1, 3), codebook).argmin(dim=1)]
    found = classic.vector_quantise(x, codebook)
    torch.testing.assert_close(found, nearest.view_as(x))
    found.sum().backward()
    assert (x.grad == 1).all()


def test_the_classic_distance_is_half_the_squared_angle():
    angle = torch.tensor(0.7)
    views = torch.stack((angle.cos(), angle.sin()))[None]
    found = classic.prompt_loss(views, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(found, angle.square() / 2)


def test_fused_attention_changes_nothing():
    torch.manual_seed(0)
    decoder = speed._loop(TINY, torch.float32).network.decoder
    cells = torch.randn(1, 8, 16, 16)
    expected = decoder(cells)
    classic.fuse_attention(decoder)
    torch.testing.assert_close(decoder(cells), expected, rtol=1e-4, atol=1e-5)


def test_half_precision_keeps_the_direction():
    assert speed.agreement(TINY) > 0.95  # narrow layers lose more digits than the real ones


def test_the_real_work_has_the_published_sizes():
    work = speed.Work()
    assert (work.size, work.cutouts, work.side) == (256, 32, 224)
    with torch.device("meta"):
        network = speed.vqgan.build(work.network)
    assert network.factor == 16
    assert network.codebook.shape == (16384, 256)
    assert network.decoder.conv_in.weight.shape == (512, 256, 3, 3)
    assert round(sum(weight.numel() for weight in network.decoder.parameters()) / 1e6, 1) == 42.4
    vision = work.guide["vision_cfg"]
    assert (vision["layers"], vision["width"], vision["patch_size"]) == (12, 768, 32)
    assert work.guide["quick_gelu"]


def test_a_race_gives_figures_of_each_in_a_process_of_its_own():
    found = speed.race(["classic", "ours"], TINY, steps=2)
    for figures in found.values():
        assert len(figures.each) == 2
        assert 0 < figures.seconds <= max(figures.each)
        assert 0 < figures.above < figures.peak


def test_the_command_prints_tables_and_writes_json(tmp_path, monkeypatch, capsys):
    figures = speed.Figures(2.0, 0.1, 4.0, 1.0, [2.0, 2.0])
    fast = speed.Figures(1.0, 0.1, 2.0, 0.5, [1.0, 1.0])
    everyone = {"classic": figures, "naive": figures, "ours": fast}
    monkeypatch.setattr(command, "race", lambda names, work, steps: everyone)
    monkeypatch.setattr(command, "agree_apart", lambda work: 0.995)
    monkeypatch.setattr(command, "scale", lambda *_: [(128, 8, everyone)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--scaling", "1", "--out", str(out)])
    command.main()
    told = capsys.readouterr().out
    assert "| ours | 1.00 (0.10) | 1.00 | 2.00 x | 2.00 | 0.50 x | 0.50 |" in told
    assert "not measured" in told
    assert "| 128 | 8 | 2.00 | 1.00 | 2.00 x |" in told
    report = json.loads(out.read_text())
    assert report["cpu"]["ours"]["seconds"] == 1.0
    assert report["cuda"] is None
    assert {"commit", "cpu", "threads", "torch"} <= report["where"].keys()


def test_every_wish_to_stop_is_timed() -> None:
    found = cancel.delays(TINY, shots=3)
    assert len(found) == 3
    assert all(0 <= delay < 10 for delay in found)
