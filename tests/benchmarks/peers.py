"""Peer libraries' losses on their CPU paths, where they are installed."""
from __future__ import annotations
PEERS = {}
missing = {}
