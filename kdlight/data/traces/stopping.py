"""Whether a model stops where the chat template ends a turn."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from kdlight.data.context_check import networks
from kdlight.data.traces.chat import text_ids
from kdlight.data.traces.turn import place_response
from kdlight.models.end_tokens import end_tokens


def turn_end_token(tokenizer: Any) -> int | None:
    """Return the id of the token with which the chat template ends a turn of the assistant.

    It is None if no special token ends a turn, or if the template refuses a short conversation.
    """
    asked = [{"role": "user", "content": "hello"}]
    try:
        turn = place_response(asked, "hello", tokenizer, finished=True)
    except ValueError:
        return None
    ids = text_ids(turn.end, tokenizer) if turn.ended else []
    return ids[0] if ids else None


def warn_of_turn_end(module: Any, tokenizer: Any) -> None:
    """Warn if a student that is trained on turns of a chat does not stop where they end.

    Args:
        module: the LightningModule of the run, or None.
        tokenizer: the tokenizer, with a chat template that is applied.
    """
    end = turn_end_token(tokenizer)
    if end is None:
        return
    for name, network in networks(module):
        if name != "teacher" and end not in end_tokens(network, tokenizer):
            token = tokenizer.convert_ids_to_tokens(end)
            rank_zero_warn(
                f"the chat template ends a turn with {token!r}, which is no end token of the"
                f" {name}: what it exports will not stop there when it generates; add the id {end}"
                " to eos_token_id of its generation config, or set eos_token of the tokenizer"
            )
