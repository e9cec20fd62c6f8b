"""The teacher behind a URL."""

from __future__ import annotations

from kdlight.remote.dialects import DIALECTS, Dialect
from kdlight.remote.remote_teacher import RemoteTeacher
from kdlight.remote.server_info import ServerInfo

__all__ = ["DIALECTS", "Dialect", "RemoteTeacher", "ServerInfo"]
