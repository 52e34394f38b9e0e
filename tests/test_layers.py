"""Who may import whom, and who may touch the network or a pickle: read from the source itself."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGINE = ("generators", "guidance")
PROGRAM = (*ENGINE, "app", "app.py", "dev.py")
WORKSHOP = ("training", "benchmarks")
ALL = (*PROGRAM, *WORKSHOP)

TAMING = ("taming.modules.diffusionmodules.model", "taming.modules.vqvae.quantize")
NETWORK = ("httpx", "requests", "urllib.request", "urllib3", "http.client", "aiohttp")
NETWORK += ("huggingface_hub", "torch.hub", "pooch")
SERVING = ("socket", "socketserver", "http.server", "starlette", "fastapi", "uvicorn")
HOSTS = {"spaces"}  # a Space brings it, and only there it is asked for
PICKLES = ("pickle", "cloudpickle", "joblib", "shelve", "torch.jit.load", "weights_only=False")


@dataclass(frozen=True)
class Rule:
    """`never` are dotted names, with all that is below them; `.name` is that name from anywhere."""

    says: str
    where: tuple[str, ...]  # folders and files
    never: tuple[str, ...]
    but: tuple[str, ...] = ()  # names that are allowed all the same
    exempt: tuple[str, ...] = ()  # files and folders that may

    def broken_by(self, path: str, source: str) -> list[str]:
        """Lines of `source`, supposed to lie at `path`, that break this rule."""
        if not _in(path, self.where) or _in(path, self.exempt):
            return []
        return [
            f"{path}:{line} uses {name}"
            for name, line in names(source, path)
            if _under(name, self.never) and not (_under(name, self.but) or _above(name, self.but))
        ]


RULES = (
    Rule("generators know nobody", ("generators",), ("app", "guidance", *WORKSHOP)),
    Rule(
        "guidance knows the generators' protocol and nobody else",
        ("guidance",),
        ("app", "generators", *WORKSHOP),
        but=("generators.base",),
    ),
    Rule("the app does not know its workshop", ("app", "app.py", "dev.py"), WORKSHOP),
    Rule(
        "only the page knows gradio",
        ALL,
        ("gradio", "gradio_client"),
        exempt=(
            "app/ui.py",
            "app/looks.py",
            "app/edge.py",
            "app/stubless.py",
            "app/tabs",
            "dev.py",
        ),
    ),
    Rule("only app/fetching.py touches the network", ALL, NETWORK, exempt=("app/fetching.py",)),
    Rule("only the edge serves", ALL, SERVING, exempt=("app/edge.py", "app/api.py")),
    Rule(
        "only the edge may share, which reaches out when somebody asks for it",
        ALL,
        ("gradio.networking", "gradio.tunneling"),
        exempt=("app/edge.py",),
    ),
    Rule(
        "only app/convert.py reads a pickle",
        PROGRAM,
        (*PICKLES, "torch.load"),
        exempt=("app/convert.py",),
    ),
    Rule(
        "no library is asked for weights: it would fetch them, or open what lies beside ours",
        PROGRAM,
        (".create_model", ".create_model_and_transforms", ".from_pretrained"),
    ),
    Rule("the workshop reads weights, never a whole pickle", WORKSHOP, PICKLES),
    Rule("of taming only its two published modules", ALL, ("taming",), but=TAMING),
    Rule(
        "no Lightning, and no class named by a file",
        ALL,
        ("lightning", "pytorch_lightning", ".instantiate_from_config"),
    ),
)


@cache
def names(source: str, path: str) -> tuple[tuple[str, int], ...]:
    """Every name that a file takes from elsewhere, dotted and without aliases, and its line."""
    return tuple(_names(ast.parse(source), path))


def _names(tree: ast.Module, path: str) -> Iterator[tuple[str, int]]:
    known: dict[str, str] = {}  # what a name of this file stands for
    for node in ast.walk(tree):
        for short, name in _imported(node, path):
            known[short] = name
            yield name, node.lineno
            yield "." + name.rpartition(".")[2], node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield "." + (node.id if isinstance(node, ast.Name) else node.attr), node.lineno
            first, _, rest = ast.unparse(node).partition(".")
            if first in known and rest:
                yield f"{known[first]}.{rest}", node.lineno
        elif isinstance(node, ast.Call):
            yield from ((name, node.lineno) for name in _called(node))


def _imported(node: ast.AST, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name
    elif isinstance(node, ast.ImportFrom):
        above = path.split("/")[: -node.level] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, f"{module}.{alias.name}"


def _called(call: ast.Call) -> Iterator[str]:
    """Give `weights_only=False`, and the module that import_module("...") asks for."""
    if ast.unparse(call.func).rpartition(".")[2] in {"import_module", "__import__"} and call.args:
        yield str(getattr(call.args[0], "value", "?"))
    yield from (ast.unparse(word) for word in call.keywords if word.arg == "weights_only")


def _under(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def _above(name: str, roots: tuple[str, ...]) -> bool:
    return any(root.startswith(name + ".") for root in roots)


def _in(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def sources(places: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Path from the root and text of each Python file in `places`."""
    for place in places:
        for path in [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says)
def test_every_file_keeps(rule: Rule) -> None:
    broken = [line for path, text in sources(rule.where) for line in rule.broken_by(path, text)]
    assert not broken, f"{rule.says}:\n" + "\n".join(broken)


def test_nobody_imports_app_py() -> None:
    """`import app` finds the package; what is no module of it could only come from app.py."""
    modules = {path.stem for path in (ROOT / "app").iterdir()}
    foreign = [
        f"{path}:{line} uses {name}"
        for path, text in sources((*ALL, "tests"))
        for name, line in names(text, path)
        if _under(name, ("app",)) and "".join(name.split(".")[1:2]) not in modules
    ]
    assert not foreign


def test_every_library_is_named_in_requirements() -> None:
    listed = re.findall(r"^[\w.-]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    provided = {
        file.parts[0].removesuffix(".py")
        for library in listed
        for file in distribution(library).files or ()
    }
    used = {
        name.partition(".")[0]
        for path, text in sources((*PROGRAM, "benchmarks"))
        for name, _ in names(text, path)
    }
    ours = {place.removesuffix(".py") for place in ALL}
    assert used - ours - set(sys.stdlib_module_names) - HOSTS - {""} <= provided


BREAKS = (
    ("generators/x.py", "from guidance.clip import Clip", "generators know nobody"),
    ("generators/x.py", "from ..app import catalog", "generators know nobody"),
    ("guidance/x.py", "from generators import vqgan", "guidance knows the generators' protocol"),
    ("guidance/x.py", "import generators\ngenerators.vqgan.load", "guidance knows the generators'"),
    ("guidance/x.py", "def f():\n    import app.models", "guidance knows the generators' protocol"),
    ("app/x.py", "import training.clip", "the app does not know its workshop"),
    ("app/jobs.py", "import gradio as gr", "only the page knows gradio"),
    ("app/x.py", "import importlib\nimportlib.import_module('gradio')", "only the page knows"),
    ("app/pipeline.py", "from urllib import request", "only app/fetching.py touches the network"),
    ("guidance/x.py", "import torch as t\nt.hub.load('x')", "only app/fetching.py touches"),
    ("app/jobs.py", "import socket\nsocket.create_server(('', 1))", "only the edge serves"),
    ("app/guard.py", "from starlette.requests import Request", "only the edge serves"),
    ("app/tabs/x.py", "from gradio import networking", "only the edge may share"),
    ("app/snapshots.py", "import torch\ntorch.load('x')", "only app/convert.py reads a pickle"),
    ("app/x.py", "from torch import load as read", "only app/convert.py reads a pickle"),
    ("app/x.py", "read(x, weights_only=False)", "only app/convert.py reads a pickle"),
    ("guidance/x.py", "import open_clip\nopen_clip.create_model('x')", "no library is asked"),
    ("training/x.py", "import pickle", "the workshop reads weights, never a whole pickle"),
    ("generators/x.py", "from taming.models.vqgan import VQModel", "of taming only its two"),
    ("generators/x.py", "from main import instantiate_from_config as f\nf()", "no Lightning"),
    ("training/x.py", "import pytorch_lightning as pl", "no Lightning"),
)


@pytest.mark.parametrize(("path", "source", "says"), BREAKS)
def test_a_broken_rule_is_seen(path: str, source: str, says: str) -> None:
    seen = [rule.says for rule in RULES if rule.broken_by(path, source)]
    assert len(seen) == 1
    assert seen[0].startswith(says)


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert all(any(rule.says.startswith(says) for _, _, says in BREAKS) for rule in RULES)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("generators/x.py", "from taming.modules.vqvae.quantize import VectorQuantizer2"),
        ("generators/x.py", "from .base import Image"),
        ("guidance/x.py", "import generators.base\ngenerators.base.Image"),
        ("app/fetching.py", "import httpx\nhttpx.stream('GET', 'x')"),
        ("app/convert.py", "import torch\ntorch.load('x', weights_only=True)"),
        ("training/x.py", "import torch\ntorch.load('x', weights_only=True)"),
        ("app/tabs/edit.py", "import gradio as gr\ngr.Image()"),
        ("app/edge.py", "import socket\nimport uvicorn"),
        ("app/api.py", "from starlette.routing import Route"),
        ("app/x.py", "from urllib.parse import urlsplit"),
        ("app/x.py", "requests = []\nrequests.append(1)  # a name of one's own"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert not [rule.says for rule in RULES if rule.broken_by(path, source)]
