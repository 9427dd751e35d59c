"""Tests of the gateway, most of them with the real proxies."""
