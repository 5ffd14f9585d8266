"""Memory that is free on a device."""

from __future__ import annotations

import torch

from normbench import memory


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a GPU, or that this process may still take on a CPU."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return memory.free_bytes()
