"""Save and restore the state of a run that Lightning's checkpoints lack."""
