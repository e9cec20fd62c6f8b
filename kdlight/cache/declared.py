"""Who wrote the text of a cache and who scored it, compared with what a run declares."""

from __future__ import annotations

from typing import Any

from kdlight.cache.manifest import Manifest


def text_writers(data: Any) -> list[str | None] | None:
    """Return who wrote the traces of a data module; None for data that are no traces.

    A trace without a name has None.

    Example:
        >>> text_writers(object()) is None
        True
    """
    parts = getattr(data, "traces", None)
    if parts is None:
        return None
    names = {trace.teacher for part in parts for trace in part}
    return sorted(names, key=lambda name: (name is None, name))


def check_declared(
    manifest: Manifest, path: str, *, teacher: str | None, written_by: str | None
) -> None:
    """Raise a ValueError for a cache of another teacher, or of another model's text, than declared.

    Args:
        manifest: the manifest of the cache.
        path: its folder.
        teacher: the source of the teacher, its name, or the fingerprint of its weights; None for
            any.
        written_by: who wrote all of the text, as ``kdlight traces generate`` names it; None for
            anybody.

    Example:
        >>> manifest = Manifest({"name": "large"}, {}, {"written_by": ["small"]}, 5, {})
        >>> check_declared(manifest, "cache", teacher="large", written_by="small")
        >>> check_declared(manifest, "cache", teacher="huge", written_by="small")
        Traceback (most recent call last):
        ValueError: the cache 'cache' was written by the teacher 'large' (weights None), but ...
    """
    scorer = manifest.teacher
    known = teacher in (scorer.get("name"), scorer.get("weights"))
    # a name is that of a class with its arguments, such as CausalLM(source='large')
    if not (teacher is None or known or f"(source={teacher!r}" in str(scorer.get("name"))):
        raise ValueError(
            f"the cache {path!r} was written by the teacher {scorer.get('name')!r} (weights"
            f" {scorer.get('weights')}), but this run declares teacher={teacher!r}; write a cache"
            " with that teacher, or declare the one that wrote it"
        )
    writers = manifest.data.get("written_by")
    if written_by is not None and writers != [written_by]:
        by = "by nobody that the cache knows" if writers is None else f"by {writers}"
        raise ValueError(
            f"the text of the cache {path!r} was written {by}, but this run declares"
            f" written_by={written_by!r}; make traces with that model, or declare who wrote these"
        )
