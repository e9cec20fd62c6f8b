"""The table of families."""

from __future__ import annotations

from tests.families.family import Family
from tests.families.of_networks import NETWORKS
from tests.families.of_pictures import PICTURES
from tests.families.of_text import DECODERS, ENCODER_DECODERS, ENCODERS

FAMILIES: dict[str, Family] = {**DECODERS, **ENCODER_DECODERS, **ENCODERS, **PICTURES, **NETWORKS}
CASES = [(name, way) for name, family in FAMILIES.items() for way in family.ways]
