"""Counterparts for the tests: scripted servers, a proxy that does harm, and an authority of our own."""
