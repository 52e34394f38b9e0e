"""Which precision a device multiplies fast."""

import torch


def halves_are_fast(device: str) -> bool:
    """Whether it multiplies bfloat16 natively; elsewhere bfloat16 costs digits, and time too."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()
