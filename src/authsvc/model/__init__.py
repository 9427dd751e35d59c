"""The domain: values and rules as pure functions, without I/O, clock or protobuf."""
