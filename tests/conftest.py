"""What all tests share: an offline, repeatable session, golden pictures, and tiny real models."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# Set before torch, gradio and the Hub's client are imported, and inherited by every child process.
os.environ.update(
    OMP_NUM_THREADS="2",  # sums are added up in the same order on every machine
    OMP_WAIT_POLICY="passive",  # threads that wait for each other leave the cores to the others
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
)

import numpy as np
import open_clip
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image as Picture
from safetensors.torch import save_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor, nn

from app import fetching
from app.jobs import Store
from tests.hub import Server, serving
from tests.stores import Clock

Pixels = NDArray[np.uint8]  # (h, w, 3)

TOLERANCE = 2  # grey levels: what another processor may round differently
CHROMIUM = Path("/usr/bin/chromium")
HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None}


def _unplug(event: str, details: tuple[Any, ...]) -> None:
    """Refuse every address but this machine's, as if the network were unplugged."""
    if event == "socket.getaddrinfo":
        host = details[0]
    elif event == "socket.connect" and isinstance(details[1], tuple):
        host = details[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        raise OSError(f"The tests are offline, and one of them asked for {host}.")


sys.addaudithook(_unplug)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden pictures anew instead of comparing with them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run page tests last; with --update-golden, run only tests that have a golden picture."""
    # Playwright keeps an event loop running to the end: no later test could start one of its own.
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
    if config.getoption("--update-golden"):
        others = [item for item in items if "golden" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture
def golden_folder() -> Path:
    """Where the golden pictures lie."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden pictures are written rather than compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def golden(golden_folder: Path, update_golden: bool, tmp_path: Path) -> Callable[..., None]:
    """Give `golden(name, picture)`: compare an RGB picture with tests/golden/<name>.png.

    No pixel may be further than `TOLERANCE` away; with `average`, all of them may on average.
    """

    def compare(name: str, picture: Pixels, average: float | None = None) -> None:
        path = golden_folder / f"{name}.png"
        if update_golden:
            golden_folder.mkdir(exist_ok=True)
            Picture.fromarray(picture).save(path)
            return
        drawn = tmp_path / path.name
        Picture.fromarray(picture).save(drawn)
        assert path.exists(), f"No golden picture {path}: look at {drawn}, then run `make golden`."
        known = np.asarray(Picture.open(path).convert("RGB"))
        furthest, mean = _apart(known, picture)
        away = f"{drawn} is {mean:.1f} grey levels away from {path}, {furthest} at most."
        assert furthest <= TOLERANCE if average is None else mean <= average, away

    return compare


def _apart(one: Pixels, other: Pixels) -> tuple[int, float]:
    """Largest and mean difference in grey levels; a whole scale where the sizes differ."""
    if one.shape != other.shape:
        return 255, 255.0
    apart = np.abs(one.astype(int) - other.astype(int))
    return int(apart.max()), float(apart.mean())


@pytest.fixture
def checkerboard() -> Tensor:
    """(1, 3, 64, 64), 0..1: black and white squares of 8 pixels, tinted so that channels differ."""
    rows, columns = torch.meshgrid(torch.arange(64) // 8, torch.arange(64) // 8, indexing="ij")
    squares = ((rows + columns) % 2).float()
    return squares * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)


TINY_CLIP: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TINY_VQGAN: dict[str, Any] = {
    "target": "taming.models.vqgan.VQModel",
    "params": {
        "embed_dim": 32,
        "n_embed": 64,
        "ddconfig": {
            "double_z": False,
            "z_channels": 32,
            "resolution": 32,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,  # the published GroupNorm has 32 groups
            "ch_mult": [1, 2],
            "num_res_blocks": 1,
            "attn_resolutions": [16],
            "dropout": 0.0,
        },
    },
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of two layers and seeded random weights, as open_clip writes it."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY_CLIP)
    side = TINY_CLIP["vision_cfg"]["image_size"]
    preprocess = {
        "size": [side, side],
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
    }
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_drafter() -> Any:
    """A draft network of seeded random weights for the words of the tiny CLIP."""
    from guidance.draft import Draft, Network, Shape

    shape = Shape(
        words=TINY_CLIP["embed_dim"],
        names=6,
        drawings=30,
        manners=5,
        paints=2,
        grounds=4,
        plain=3,
        codes=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(shape)
        network.shows.copy_(torch.arange(30) % 6)
        network.manner.copy_(torch.arange(30) // 6)
        network.paints.uniform_()
        network.grounds.uniform_()
        torch.nn.init.normal_(network.codes)
    return Draft(network, space="pocket")


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a judge of seeded random weights who reads the tiny CLIP's words."""
    from guidance.judge import WEIGHTS, Network, save_config

    folder = tmp_path_factory.mktemp("tiny-judge")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(TINY_CLIP["embed_dim"], "test_efficientnet")
    save_config(network, folder, "pocket", "test_efficientnet")
    save_file(network.state_dict(), folder / WEIGHTS)
    return folder


@pytest.fixture(scope="session")
def tiny_ear() -> Any:
    """A sound encoder of seeded random weights that speaks as the tiny CLIP does."""
    from guidance.audio_net import Ear, Network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(TINY_CLIP["embed_dim"], 5, "test_efficientnet")
        ramp = torch.linspace(0, 1, 32_000)
        chirps = (40_000 * torch.rand(8, 1) * ramp.square()).sin()
        with torch.no_grad():  # what it says of any sound alike is taken out, so that sounds differ
            network.eval()
            network.speak.bias -= network.speak(network.tower(network.look(chirps))).mean(0)
    return Ear(network, space="pocket")


@pytest.fixture(scope="session")
def tiny_vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small VQGAN of the published layout, seeded random weights, two to one."""
    folder = tmp_path_factory.mktemp("tiny-vqgan")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": TINY_VQGAN}))
    save_file(_vqgan(TINY_VQGAN["params"]).state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tiny_pocket(tiny_clip: Path, tiny_vqgan: Path, tiny_judge: Path) -> Iterator[None]:
    """What is called pocket is tiny."""
    from app import catalog

    tiny = (
        (catalog.CLIPS, tiny_clip),
        (catalog.GENERATORS, tiny_vqgan),
        (catalog.JUDGES, tiny_judge),
    )
    with pytest.MonkeyPatch.context() as patch:
        for table, folder in tiny:
            patch.setitem(table, "pocket", replace(table["pocket"], folder=str(folder)))
        yield


def _vqgan(params: dict[str, Any]) -> nn.Module:
    """The published modules under their published names, built apart from our own code."""
    network, width = params["ddconfig"], params["embed_dim"]
    model = nn.Module()
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(0)
        model.encoder, model.decoder = Encoder(**network), Decoder(**network)
        model.quantize = nn.Module()
        model.quantize.embedding = nn.Embedding(params["n_embed"], width)  # N(0, 1): codes differ
        model.quant_conv = nn.Conv2d(network["z_channels"], width, 1)
        model.post_quant_conv = nn.Conv2d(width, network["z_channels"], 1)
    return model


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Drive Debian's Chromium, with a pretended microphone. No Chromium: skip, but fail in CI."""
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is missing. Install it: sudo apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    quiet += " disable-component-update disable-sync"
    microphone = "use-fake-ui-for-media-stream use-fake-device-for-media-stream"
    return {
        **browser_type_launch_args,
        "executable_path": str(CHROMIUM),
        "args": [f"--{flag}" for flag in f"{quiet} {microphone}".split()],
    }


@pytest.fixture(scope="session")
def pocket_models() -> Any:
    """The models that ship with the project, loaded once for all tests."""
    from app.models import Models

    return Models()


@pytest.fixture
def clock() -> Clock:
    """The time of the list of jobs, which a test can move."""
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty list of jobs."""
    with contextlib.closing(Store(tmp_path / "jobs.sqlite", clock=clock)) as store:
        yield store


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files on a line that may be as bad as a test wants."""
    with serving() as shop:
        yield shop


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such tests may use the network as far as 127.0.0.1, and a folder of their own."""
    for name in fetching.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SYNESTHETE_MODELS", str(tmp_path / "models"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny nets are quicker on one thread, and a busy machine stalls two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
