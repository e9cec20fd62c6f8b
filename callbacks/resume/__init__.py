"""Save and restore the state that an exact resume needs."""
