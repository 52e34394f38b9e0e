"""The trainings of what draws: a falling loss, a living codebook, exact resuming."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from generators import vqgan as generator
from guidance import draft as drafting
from guidance import judge as judging
from guidance import styles
from guidance.judge import Network
from tests.elsewhere import learns_the_same_there
from training import course, draft, examiner, judge, scenes, vqgan
from training.captions import COLOURS
from training.data import Library, Picture
from training.imagenet import Features

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {"ball": "circle", "crate": "square", "kite": "diamond", "badge": "star"}
NETWORK = {"embed_dim": 8, "n_embed": 32, "groups": 2, "widths": [8, 8, 8]}
CODING = vqgan.Plan(
    steps=121, warm_up=4, batch=8, side=32, free_share=0.5, first_batches=4, critic_from=0.8,
    rate=5e-3, ema=0.9, workers=0,
)  # fmt: skip
DRAWING = draft.Plan(steps=41, warm_up=4, codes=16, batch=8, rate=4e-3, ema=0.9, workers=0)


@pytest.fixture(scope="module")
def library() -> Library:
    """Four shapes in the manner of every set, and a photograph of a grey sky."""
    shown = [(name, source) for source in draft.MANNERS for name in SHAPES]
    pictures = tuple(Picture(s, f"{s}/{n}", n, (), "objects") for n, s in shown)
    rgba = np.stack([np.asarray(scenes.draw_shape(SHAPES[n])) for n, _ in shown])
    sky = np.broadcast_to(np.linspace(250, 90, 192)[:, None, None], (192, 288, 3))
    photograph = sky[None].astype(np.uint8)
    return Library(pictures, rgba, (Picture("ours", "ours/sky", "sky"),), photograph)


@pytest.fixture(scope="module")
def features() -> Features:
    torch.manual_seed(0)
    return Features(timm.create_model("test_efficientnet", pretrained=False))


def rows_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a log that tell of a step."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "l1" in row]


# --- VQGAN ------------------------------------------------------------------------------------


def coder(plan: vqgan.Plan = CODING) -> vqgan.Coding:
    torch.manual_seed(0)
    return vqgan.Coding(plan, NETWORK)


@pytest.fixture(scope="module")
def crops(library: Library) -> vqgan.Crops:
    return vqgan.Crops(scenes.Studio(library, 64, variants=1), CODING)


def test_what_comes_back_grows_more_like_what_went_in(
    crops: vqgan.Crops, features: Features, tmp_path: Path
) -> None:
    state, pictures = coder(), crops[999] / 255
    vqgan.train(CODING, state, crops, tmp_path, features)
    rows = rows_of(tmp_path)
    error = F.l1_loss(vqgan.there_and_back(state.net, pictures), pictures)
    grey = (pictures - pictures.mean(dim=(2, 3), keepdim=True)).abs().mean()
    assert error < 0.85 * grey
    assert "critic" in rows[-1]
    assert "critic" not in rows[0]
    assert rows[-1]["codes"] > 8  # of 32


def test_a_resumed_vqgan_is_the_same(
    crops: vqgan.Crops, features: Features, tmp_path: Path
) -> None:
    plan = replace(CODING, steps=12)
    whole = coder(plan)
    vqgan.train(plan, whole, crops, tmp_path / "whole", features)
    half = coder(plan)
    for step in range(8):
        if step / plan.steps >= plan.free_share and not half.tally.begun:
            vqgan.begin_codebook(plan, half, crops)
        vqgan.train_step(plan, half, step / plan.steps, crops[step], features)
        half.step += 1
    course.save(half.parts(), tmp_path / "checkpoint.pt")
    rest = coder(plan)
    rest.resume(tmp_path / "checkpoint.pt")
    vqgan.train(plan, rest, crops, tmp_path / "half", features)
    for a, b in zip(whole.net.parameters(), rest.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_on_a_gpu_the_vqgan_learns_the_same(
    crops: vqgan.Crops, features: Features, tmp_path: Path
) -> None:
    def train(device: str) -> course.State:
        plan = replace(CODING, steps=12, device=device)
        state = coder(plan)
        vqgan.train(plan, state, crops, tmp_path, copy.deepcopy(features))
        return state

    learns_the_same_there(train)


def test_k_means_finds_the_heaps() -> None:
    chance = torch.Generator().manual_seed(0)
    heaps = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    rows = heaps.repeat(50, 1) + 0.1 * torch.randn(150, 2, generator=chance)
    centres = vqgan.k_means(rows, 9, chance)
    assert torch.cdist(heaps, centres).min(dim=1).values.max() < 0.5


def test_an_unused_code_gets_a_new_place() -> None:
    state = coder()
    state.tally.use = torch.ones(32)
    state.tally.use[5] = 0.0
    before, cells = state.net.codebook.clone(), torch.full((1, 8, 2, 2), 3.0)
    vqgan.revive(state, cells, torch.Generator().manual_seed(0))
    changed = (state.net.codebook != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [5]
    assert (state.net.codebook[5] == 3).all()


def test_some_pieces_are_shaken_more_or_less_and_the_others_are_left_alone() -> None:
    plan = replace(CODING, noise=0.5, noisy_share=0.25)
    torch.manual_seed(1)
    cells = 3 * torch.randn(400, 8, 8, 8)
    moved = vqgan.shake(plan, cells, torch.Generator().manual_seed(0)) - cells
    sizes = moved.std(dim=(1, 2, 3)) / cells.std()
    shaken = sizes[sizes > 0]
    assert 60 < len(shaken) < 140  # of 400
    assert 0.45 < shaken.max() < 0.55
    assert 0.2 < shaken.mean() < 0.3


def test_the_exported_vqgan_is_a_generator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = generator.Pocket(vqgan.CONFIG).eval()
    vqgan.export(net, tmp_path)
    loaded = generator.load(tmp_path)
    picture = torch.rand(1, 3, 32, 32)
    ours = vqgan.there_and_back(net, picture)
    theirs = loaded.decode(loaded.encode(picture))
    assert F.l1_loss(ours, theirs) < 0.02  # half precision


# --- Draft ------------------------------------------------------------------------------------


def embed(captions: Sequence[str]) -> torch.Tensor:
    """Each name, colour and place is a direction; other words say nothing."""
    known = [*SHAPES, *COLOURS, *scenes.SETTINGS]
    said = [
        [float(word in caption.replace("grey", "gray")) for word in known] for caption in captions
    ]
    return F.normalize(torch.tensor(said) + 1e-3, dim=-1)


def test_of_clip_art_only_what_has_a_word_is_remembered(library: Library) -> None:
    titles = [Picture("openclipart-png", t, t, (), "clipart") for t in ("anvil", "duck yellow ii")]
    titles += [Picture("noto", "x", "water pistol", (), "objects")]
    some = replace(library, pictures=tuple(titles), rgba=library.rgba[:3])
    assert draft.Album(some).names == ["anvil", "water pistol"]


@pytest.fixture(scope="module")
def album(library: Library) -> draft.Album:
    return draft.Album(library)


@pytest.fixture(scope="module")
def remembered(album: draft.Album, library: Library) -> drafting.Network:
    studio = scenes.Studio(library, drafting.SIDE, variants=1)
    return draft.remember(DRAWING, album, embed, studio)


@pytest.fixture
def memory(remembered: drafting.Network) -> drafting.Network:
    """A copy that may be trained."""
    return copy.deepcopy(remembered)


def cleaning(net: drafting.Network, plan: draft.Plan = DRAWING) -> course.State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net.clean = drafting.Cleaner(width=8)
    return draft.new_state(net, plan)


def test_captions_are_read_as_they_were_meant(
    remembered: drafting.Network, album: draft.Album
) -> None:
    said = album.captions(12, seed=99)
    read = draft.read_back(remembered, said, draft.embed_all(said, embed))
    assert read["name"] > 0.95
    assert read["colour"] > 0.6  # these words tell no ball of red on blue from one of blue on red
    assert read["ground"] > 0.6


def test_what_is_recalled_is_the_drawing(remembered: drafting.Network, album: draft.Album) -> None:
    recalled = remembered.recall(embed(["a kite"]))
    shown = remembered.picture(recalled).detach()
    rows = [
        int(((album.shows == album.names.index("kite")) & (album.manner == m)).nonzero())
        for m in range(len(draft.MANNERS))
    ]
    goal = F.interpolate(album.drawings[rows].float() / 255, (32, 32), mode="area")
    assert F.l1_loss(shown, goal) < 0.02


def test_linear_discriminants_are_bayes_rule() -> None:
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(2000)
    means = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    spread = torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    points = means[labels] + torch.randn(6000, 2, generator=chance) @ spread
    weights, biases = draft.discriminate(points - points.mean(0), labels, 3, shrink=0.0)
    told = ((points - points.mean(0)) @ weights.T + biases).softmax(dim=1)
    noise = torch.distributions.MultivariateNormal(torch.zeros(2), spread.T @ spread)
    likely = torch.stack([noise.log_prob(points - mean) for mean in means], dim=1).softmax(dim=1)
    assert (told - likely).abs().max() < 0.1


def test_the_draft_learns_to_clean_what_it_recalls(
    memory: drafting.Network, album: draft.Album, features: Features, tmp_path: Path
) -> None:
    plan = replace(DRAWING, steps=121)
    state = cleaning(memory, plan)
    goal = album.drawings.float() / 255

    def error() -> float:
        with torch.no_grad():
            return F.l1_loss(state.net(memory.picture(memory.codes)), goal).item()

    before, few = error(), draft.Recollections(album, DRAWING)
    draft.train(plan, state, memory, few, tmp_path, features)
    assert error() < before / 1.1


def test_a_resumed_draft_is_the_same(
    memory: drafting.Network, album: draft.Album, features: Features, tmp_path: Path
) -> None:
    plan, few = replace(DRAWING, steps=4), draft.Recollections(album, DRAWING)
    whole, half, rest = (cleaning(memory, plan) for _ in range(3))
    draft.train(plan, whole, memory, few, tmp_path / "whole", features)
    for step in range(2):
        draft.train_step(plan, half, memory, step / 4, few[step], features)
        half.step += 1
    course.save(half.parts(), tmp_path / "checkpoint.pt")
    rest.resume(tmp_path / "checkpoint.pt")
    draft.train(plan, rest, memory, few, tmp_path / "half", features)
    for a, b in zip(whole.net.parameters(), rest.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_on_a_gpu_the_draft_learns_the_same(
    remembered: drafting.Network, album: draft.Album, features: Features, tmp_path: Path
) -> None:
    def train(device: str) -> course.State:
        plan, memory = replace(DRAWING, steps=4, device=device), copy.deepcopy(remembered)
        state, few = cleaning(memory, plan), draft.Recollections(album, plan)
        draft.train(plan, state, memory, few, tmp_path, copy.deepcopy(features))
        return state

    learns_the_same_there(train)


def test_the_exported_draft_draws_the_same(remembered: drafting.Network, tmp_path: Path) -> None:
    draft.export(remembered, tmp_path, "pocket")
    loaded = drafting.load(tmp_path)
    goal = embed(["a red kite on a blue background"])
    assert loaded.space == "pocket"
    drawn = drafting.Draft(remembered, space="pocket").draw(goal)
    assert F.l1_loss(drawn, loaded.draw(goal)) < 0.01  # half precision


def test_a_draft_has_the_colour_and_the_ground_that_were_named(
    remembered: drafting.Network,
) -> None:
    drawn = drafting.Draft(remembered, space="pocket").draw(embed(["a red crate, blue background"]))
    corner, middle = drawn[:, :, 2, 2], drawn[:, :, 32, 32]
    blue, red = (torch.tensor(COLOURS[c]) / 255 for c in ("blue", "red"))
    assert (corner - blue).abs().max() < 0.05
    assert (middle - red).abs().max() < 0.2


# --- Examiner ---------------------------------------------------------------------------------


def test_the_examiner_learns_resumes_and_comes_back(library: Library, tmp_path: Path) -> None:
    plan = examiner.Plan(
        steps=21, warm_up=4, batch=12, tower_rate=2e-3, text_rate=2e-3, ema=0.8, workers=0
    )
    batches = scenes.Batches(scenes.Studio(library, 32, variants=1), plan.batch, seed=0)

    def begin() -> course.State:
        torch.manual_seed(0)
        return examiner.new_state(examiner.Examiner("test_efficientnet", 32), plan)

    whole, half, rest = begin(), begin(), begin()
    examiner.train(plan, whole, batches, tmp_path / "whole")
    log = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    first, last = (row["loss"] for row in map(json.loads, log) if "loss" in row)
    assert last < first
    for step in range(10):
        examiner.train_step(plan, half, step / plan.steps, batches[step])
        half.step += 1
    course.save(half.parts(), tmp_path / "checkpoint.pt")
    rest.resume(tmp_path / "checkpoint.pt")
    examiner.train(plan, rest, batches, tmp_path / "half")
    for a, b in zip(whole.net.parameters(), rest.net.parameters(), strict=True):
        assert torch.equal(a, b)
    examiner.export(whole.mean, tmp_path, "test_efficientnet")
    loaded, pictures = examiner.load(tmp_path), batches[0][0] / 255
    ours, theirs = (net.eval().embed_pictures(pictures) for net in (whole.mean, loaded))
    assert torch.cosine_similarity(ours, theirs).min() > 0.99


def test_on_a_gpu_the_examiner_learns_the_same(library: Library, tmp_path: Path) -> None:
    def train(device: str) -> course.State:
        plan = examiner.Plan(steps=3, batch=6, workers=0, device=device)
        torch.manual_seed(0)
        state = examiner.new_state(examiner.Examiner("test_efficientnet", 32), plan)
        batches = scenes.Batches(scenes.Studio(library, 32, variants=1), plan.batch, seed=0)
        examiner.train(plan, state, batches, tmp_path)
        return state

    learns_the_same_there(train)


# --- Judge ------------------------------------------------------------------------------------


def test_on_a_gpu_the_judge_learns_the_same(library: Library, tmp_path: Path) -> None:
    def train(device: str) -> course.State:
        plan = judge.Plan(steps=3, batch=6, workers=0, device=device)
        torch.manual_seed(0)
        pupil = judge.Pupil(Network(embed(["a"]).shape[1], "test_efficientnet"))
        state = judge.new_state(pupil, plan)
        batches = scenes.Batches(scenes.Studio(library, 32, variants=1), plan.batch, seed=0)
        judge.train(plan, state, batches, embed, tmp_path)
        return state

    learns_the_same_there(train)


def test_the_judge_learns_resumes_and_comes_back(library: Library, tmp_path: Path) -> None:
    plan = judge.Plan(steps=21, warm_up=4, batch=12, tower_rate=2e-3, rate=2e-3, ema=0.8, workers=0)
    batches = scenes.Batches(scenes.Studio(library, 32, variants=1), plan.batch, seed=0)

    def begin() -> course.State:
        torch.manual_seed(0)
        return judge.new_state(
            judge.Pupil(Network(embed(["a"]).shape[1], "test_efficientnet")), plan
        )

    whole, half, rest = begin(), begin(), begin()
    judge.train(plan, whole, batches, embed, tmp_path / "whole")
    log = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    first, last = (row["loss"] for row in map(json.loads, log) if "loss" in row)
    assert last < first
    for step in range(10):
        judge.train_step(plan, half, step / plan.steps, batches[step], embed)
        half.step += 1
    course.save(half.parts(), tmp_path / "checkpoint.pt")
    rest.resume(tmp_path / "checkpoint.pt")
    judge.train(plan, rest, batches, embed, tmp_path / "half")
    for a, b in zip(whole.net.parameters(), rest.net.parameters(), strict=True):
        assert torch.equal(a, b)
    judge.export(whole.mean, tmp_path, "pocket", "test_efficientnet")
    loaded, pictures = judging.load(tmp_path), batches[0][0] / 255
    assert loaded.space == "pocket"
    ours, theirs = (net.eval()(pictures) for net in (whole.mean.network, loaded.network))
    assert torch.cosine_similarity(ours, theirs).min() > 0.99
    asked = judge.ask(whole.mean, [batches[0]], embed)
    assert set(asked) == {"caption", "whole_before_spoiled"}


def test_every_picture_is_spoiled_and_stays_a_picture(library: Library) -> None:
    batches = scenes.Batches(scenes.Studio(library, 32, variants=1), 10, seed=0)
    shown = batches[0][0] / 255
    spoiled, again = (judge.spoil(shown, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(spoiled, again)
    assert 0 <= spoiled.min() <= spoiled.max() <= 1
    assert ((spoiled - shown).abs().mean(dim=(1, 2, 3)) > 0.003).all()


def test_words_have_the_same_rows_everywhere() -> None:
    one, other = examiner.number_words(["a red fox", "Fox!"])
    assert one[2] == other[0] > 0
    assert (other[1:] == 0).all()


# --- Styles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", styles.STYLES)
def test_a_style_changes_the_picture_and_has_words(name: str) -> None:
    rng = np.random.default_rng(0)
    drawing = np.asarray(scenes.draw_shape("star").convert("RGB"), np.float32) / 255
    styled = styles.STYLES[name](drawing, rng)
    assert styled.shape == drawing.shape
    assert np.isfinite(styled).all()
    assert np.abs(styled.clip(0, 1) - drawing).mean() > 0.02
    assert all("{}" in words for words in styles.WORDS[name])


def test_styled_scenes_say_the_style_and_the_thing(library: Library) -> None:
    studio, rng = scenes.Studio(library, 64, variants=1), np.random.default_rng(0)
    marks = ("pencil", "sketch", "paint", "watercolo", "pixel", "8-bit", "print", "technical",
             "neon")  # fmt: skip
    for _ in range(20):
        for scene in scenes.styled(rng, studio):
            assert any(mark in scene.caption for mark in marks), scene.caption
