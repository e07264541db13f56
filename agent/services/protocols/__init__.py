"""Implements the wire protocols as codecs without sockets."""
