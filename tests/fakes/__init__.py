"""Imitations of servers and stores, on loopback."""
