"""The distributions: what is in them, and what an operator and a service get by installing them."""
