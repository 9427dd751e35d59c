"""The words of the domain: pure values and rules, with no I/O, clock or protobuf."""
