"""One clear line for what is wrong with a config, out of the parser's long account of it."""

from __future__ import annotations

import re
from inspect import signature
from pydoc import locate

from kdlight.objectives import OBJECTIVES

NOISE = re.compile(
    r"\s*(- Expected a <class 'NoneType'>|Does not validate against|Subtypes:|Errors:"
    r"|Given value type:|Given value: .{80}"
    r"|- Not a valid subclass of|Subclass types expect one of|- a (class path|dict|subclass) )"
)


def explain(message: str) -> str:
    """What the parser's ``message`` comes down to, and what can be done.

    Example:
        >>> explain("class_path 'X': module 'kdlight.objectives' has no attribute 'Nope'")[:31]
        "unknown objective 'Nope'; known"
    """
    for pattern, answer in ANSWERS:
        found = re.search(pattern, message, flags=re.DOTALL)
        if found:
            return answer(*found.groups())
    kept = [line.strip(" -") for line in message.splitlines() if not NOISE.match(line)]
    return "\n  ".join(kept) or message


def _unknown_objective(name: str) -> str:
    known = ", ".join(sorted(cls.__name__ for cls in OBJECTIVES.values()))
    return f"unknown objective {name!r}; known: {known} (or the class_path of one of yours)"


def _unknown_option(path: str, option: str) -> str:
    cls = locate(path)
    takes = ", ".join(signature(cls).parameters) if callable(cls) else ""
    return f"{path} has no option {option!r}" + (f"; it takes: {takes}" if takes else "")


ANSWERS = (
    (r"module 'kdlight\.objectives' has no attribute '(\w+)'", _unknown_objective),
    (r"key='objective', val='([^']+)'", _unknown_objective),
    # the innermost class is the last one named before the option
    (r".*class_path '([\w.]+)':\s+Option '([^']+)' is not accepted", _unknown_option),
)
