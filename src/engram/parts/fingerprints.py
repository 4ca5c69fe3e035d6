"""One hash for everything that decides a model's answers."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np


def arrays_fingerprint(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Hash of named arrays (names, types, shapes, bytes) and plain facts; 16 hexadecimal digits.

    The order of names does not matter.
    """
    total = sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:16]


def weights(module: Any) -> dict[str, np.ndarray]:
    """The tensors that a torch module stores, as bytes; tied ones once, under their first name.

    An array's shape is the tensor's with its bytes as one more axis, and its name tells the type.
    """
    import torch

    arrays: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.numel() and tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        plain = tensor.detach().cpu().contiguous().unsqueeze(-1)
        arrays[f"{name} {tensor.dtype}"] = plain.view(torch.uint8).numpy()
    return arrays
