"""DAC-KL: KL divergences to the part of the teacher's distribution between two thresholds."""
