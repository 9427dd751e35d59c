"""The service as a separate process, driven by the programs that people use."""
