"""The service as a process of its own, driven by the programs that people use."""
