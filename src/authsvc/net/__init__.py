"""Addresses to listen on, ports that several workers share, open files, and a small HTTP/1.1 server."""
