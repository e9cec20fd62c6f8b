"""Run the networks of a module on batches without training them."""
