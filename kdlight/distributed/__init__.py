"""Ranks: rows gathered from all of them, sharded networks, the FSDP2 strategy.

Names are imported when they are first used: objectives gather rows without Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlight.lazy import lazy_exports

if TYPE_CHECKING:
    from kdlight.distributed.fsdp2 import FSDP2Strategy as FSDP2Strategy
    from kdlight.distributed.gather import RankSizes as RankSizes
    from kdlight.distributed.gather import exchange_sizes as exchange_sizes
    from kdlight.distributed.gather import gather_rows as gather_rows
    from kdlight.distributed.gather import gather_source as gather_source
    from kdlight.distributed.ranks import sum_over_ranks as sum_over_ranks
    from kdlight.distributed.sharding import shard as shard
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
