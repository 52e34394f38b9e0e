"""The trainings' command line: all in turn, several at a time, each where it was asked for."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from training import __main__ as command


class Apart:
    """Carries out no training: notes how it was called, and leaves what a training leaves."""

    def __init__(self) -> None:
        self.called: list[argparse.Namespace] = []
        self.meet: set[str] = set()  # these must be underway at the same time
        self.met = threading.Barrier(2, timeout=30)
        self.broken = ""

    def __call__(self, words: Sequence[str]) -> None:
        args = command.read_command(list(words))
        self.called.append(args)
        if args.task in self.meet:
            self.met.wait()
        if args.task == self.broken:
            raise ChildProcessError("out of memory")
        if args.task in command.READERS:
            assert (args.clip / "weights").read_text() == command.READERS[args.task]
        (args.out / args.task).mkdir(parents=True, exist_ok=True)
        (args.out / args.task / "weights").write_text(args.task)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Apart:
    """The trainings themselves are tested above."""
    apart = Apart()
    monkeypatch.setattr(command, "train_apart", apart)
    monkeypatch.setattr(command, "fetch_data", lambda args: None)
    return apart


def train_all(folder: Path, *words: str) -> int:
    told = ["--out", str(folder / "runs"), "--weights", str(folder / "weights")]
    return command.main(["all", *told, *words])


def test_everything_is_trained_in_turn_and_nothing_twice(tmp_path: Path, apart: Apart) -> None:
    (tmp_path / "runs" / "vqgan").mkdir(parents=True)
    (tmp_path / "runs" / "vqgan" / "checkpoint.pt").touch()  # it was stopped in the middle
    for _ in range(2):
        assert train_all(tmp_path, "--share", "0.5", "--threads", "1") == 0
    assert [(args.task, args.resume, args.minutes, args.threads) for args in apart.called] == [
        (name, name == "vqgan", command.MINUTES[name] / 2, 1) for name in command.ORDER
    ]
    for name in ("vqgan", "draft", "sound", "judge"):
        assert (tmp_path / "weights" / name / "weights").read_text() == name
    assert (tmp_path / "weights" / "clip" / "weights").read_text() == "vocabulary"


def test_all_are_trained_where_it_was_asked_for(
    tmp_path: Path, apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert train_all(tmp_path, "--device", "cuda", "--workers", "8") == 0
    assert {(args.device, args.workers) for args in apart.called} == {("cuda", 8)}


def test_without_a_gpu_none_is_trained_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.read_command(["clip", "--device", "cuda"])
    assert "PyTorch finds no GPU here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.read_command(["clip", "--device", "mps"])
    assert "there are cpu and cuda" in capsys.readouterr().err


def test_two_are_trained_at_a_time_and_each_waits_for_what_it_reads_by(
    tmp_path: Path, apart: Apart
) -> None:
    apart.meet = {"clip", "vqgan"}
    assert train_all(tmp_path, "--together", "2") == 0
    assert {args.task for args in apart.called} == set(command.ORDER)


def test_when_one_fails_those_that_need_it_are_not_begun_and_the_rest_is_kept(
    tmp_path: Path, apart: Apart, capsys: pytest.CaptureFixture[str]
) -> None:
    apart.broken = "clip"
    assert train_all(tmp_path, "--together", "2") == 1
    assert "out of memory" in capsys.readouterr().err
    assert {args.task for args in apart.called} == {"clip", "vqgan"}
    apart.broken = ""
    assert train_all(tmp_path) == 0
    assert [args.task for args in apart.called].count("vqgan") == 1


def test_a_training_apart_that_fails_is_told_with_its_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["measure", "--weights", str(tmp_path / "nothing")]
    with pytest.raises(ChildProcessError, match="python -m training measure --weights"):
        command.train_apart(words)
    assert capfd.readouterr().err  # it says itself what was wrong
