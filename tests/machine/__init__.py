"""A whole Debian machine for the tests: a minimal root, and the real systemd as the first process of a container in it.

Needs root. Nothing of the machine that it runs on is changed, and its downloads are kept in the user's cache.
"""
