"""Optimal transport: the Sinkhorn distance of SinKD, ULD and MultiLevelOT."""
