"""The precision of a training: bfloat16 where the hardware has it."""

from contextlib import AbstractContextManager, nullcontext

import torch


def resolve_precision(precision: str, device: str) -> str:
    """What "auto" means here: bfloat16 needs AVX512-BF16, AMX or a GPU from Ampere on, else it is emulated and slow."""
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return "bfloat16" if torch.device(device).type == "cpu" and fast else "float32"


def autocast_context(precision: str, device: str) -> AbstractContextManager:
    """Context for the forward pass at this precision: bfloat16 autocast, or nothing; may be entered many times."""
    if resolve_precision(precision, device) == "bfloat16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()
