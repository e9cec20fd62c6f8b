"""Fill what operators select by: perplexity, difficulty and lengths of traces."""
