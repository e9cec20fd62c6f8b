"""The parts of `kdlight.callbacks.BilevelUpdate`: one step of a bilevel optimization."""
