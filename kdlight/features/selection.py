"""Which tensor a path means, among the arguments of a module or what it returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from kdlight.features.paths import FeaturePath


def output_feature(path: str, parsed: FeaturePath, output: Any) -> Tensor:
    """Return the tensor that a path means among what its module returned.

    Raises:
        ValueError: there is none, or it is a nested tensor.

    Example:
        >>> import torch
        >>> output = (torch.zeros(2), torch.ones(3))
        >>> output_feature("0:output.1", FeaturePath.parse("0:output.1"), output)
        tensor([1., 1., 1.])
    """
    tensors = list(tensors_in(_entry(output, parsed.key)))
    if tensors:
        return _not_nested(path, tensors[0])
    raise ValueError(f"the feature {path!r} is no tensor: the module returned {_describe(output)}")


def input_feature(
    path: str, parsed: FeaturePath, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Return the tensor that a path means among the arguments of its module.

    Raises:
        ValueError: there is none, it is a nested tensor, or several keyword arguments could be
            meant.

    Example:
        >>> import torch
        >>> input_feature("0:input", FeaturePath.parse("0:input"), (torch.zeros(2),), {})
        tensor([0., 0.])
    """
    named = _entry(kwargs, parsed.key)
    given = named if parsed.key and named is not None else _entry(args, parsed.key)
    tensors = list(tensors_in(given))
    if not tensors and not parsed.key:
        tensors = [each for each in tensors_in(kwargs) if each.is_floating_point()]
        if len(tensors) > 1:
            names = sorted(name for name, v in kwargs.items() if isinstance(v, Tensor))
            raise ValueError(
                f"the feature {path!r} is ambiguous: the module was called with the"
                f" keyword arguments {names}; name one, such as '{path}.{names[0]}'"
            )
    if tensors:
        return _not_nested(path, tensors[0])
    raise ValueError(
        f"the feature {path!r} is no tensor: the module was called with {_describe(args)}"
        f" and the keyword arguments {sorted(kwargs)}"
    )


def _not_nested(path: str, tensor: Tensor) -> Tensor:
    if tensor.is_nested:
        raise ValueError(
            f"the feature {path!r} is a nested tensor, which torch.nn.TransformerEncoder makes of a"
            " batch with padding in evaluation mode; create the encoder with"
            " enable_nested_tensor=False, or set its use_nested_tensor to False"
        )
    return tensor


def _entry(value: Any, key: str) -> Any:
    """Return an entry of a mapping, a tuple or an object; None if there is none."""
    if not key:
        return value
    if isinstance(value, (tuple, list)):
        is_position = key.isdecimal() and int(key) < len(value)
        return value[int(key)] if is_position else getattr(value, key, None)
    if isinstance(value, Mapping):
        return value.get(key)
    return None if isinstance(value, Tensor) else getattr(value, key, None)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in a tensor, or in mappings, tuples and lists of any depth.

    Example:
        >>> import torch
        >>> nested = (None, {"a": [torch.tensor(1)]}, torch.tensor(2))
        >>> [tensor.item() for tensor in tensors_in(nested)]
        [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_in(each)


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with {sorted(value)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(type(each).__name__ for each in value)})"
    return f"a {type(value).__name__}"
