"""Whether a critic accepts an answer."""

from __future__ import annotations

from kdlight.data.traces.trace import Trace


def is_accepted(answer: Trace, threshold: float) -> bool:
    """Return whether an answer is finished, and has a score of at least ``threshold``.

    An unfinished answer has the score 0, which a critic with negative scores would accept.

    Example:
        >>> answers = [Trace("1 + 1 =", "2", score=-1.0, finished=end) for end in (True, False)]
        >>> [is_accepted(each, -2.0) for each in answers]
        [True, False]
    """
    return answer.finished is not False and (answer.score or 0.0) >= threshold
