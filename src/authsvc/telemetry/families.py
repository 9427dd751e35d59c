"""The families of metrics of several processes, merged into one page.

Mechanism: a process describes the families of its registry as values of JSON. They are merged family by
family: each has one name and help text, and the samples of all processes with a label for the process.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

#: The label that says which worker a sample is of: the number of its slot, or `notifier`.
WORKER = "worker"


def described(registry: CollectorRegistry) -> Iterator[Any]:
    """Yield the families of a registry, with their samples, as values of JSON, each as it is read."""
    for family in registry.collect():
        samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
        yield [family.name, family.documentation, family.type, samples]


class Merged(Collector):
    """The families of some processes, by their names, after some families of the process that merges."""

    def __init__(self, own: Iterable[Metric], described_by: Mapping[str, Iterable[Any]]) -> None:
        self._families = {family.name: family for family in own}
        for process, families in described_by.items():
            for name, documentation, kind, samples in families:
                family = self._families.setdefault(name, Metric(name, documentation, kind))
                for sample, labels, value in samples:
                    family.add_sample(sample, {WORKER: process, **labels}, value)

    def collect(self) -> Iterable[Metric]:
        """Return the merged families."""
        return self._families.values()
