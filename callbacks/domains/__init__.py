"""How well student and teacher predict the text of each domain, and where a run is in its draws."""
