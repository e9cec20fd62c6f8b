"""Counts of a server, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kdlight.serve.measures import Measures


def samples(measures: Measures) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(measures.text().decode())
    return {
        (each.name, *each.labels.values()): each.value
        for family in families
        for each in family.samples
    }


def test_requests_and_positions_are_counted() -> None:
    waiting = [4.0]
    measures = Measures(lambda: waiting[0])
    for _ in range(2):
        measures.count("score", 200, positions=100, seconds=0.2)
    measures.count("states", 413, positions=0, seconds=0.01)
    found = samples(measures)
    assert found["kdlight_requests_total", "score", "200"] == 2
    assert found["kdlight_requests_total", "states", "413"] == 1
    assert found["kdlight_positions_total",] == 200
    assert found["kdlight_request_seconds_count",] == 3
    assert found["kdlight_request_seconds_bucket", "0.25"] == 3
    assert found["kdlight_request_seconds_bucket", "0.1"] == 1
    assert found["kdlight_queue_length",] == 4
    waiting[0] = 0
    assert samples(measures)["kdlight_queue_length",] == 0


def test_servers_in_one_process_count_apart() -> None:
    one, other = Measures(lambda: 0), Measures(lambda: 0)
    one.count("score", 200, positions=7, seconds=0.1)
    assert samples(one)["kdlight_positions_total",] == 7
    assert samples(other)["kdlight_positions_total",] == 0
