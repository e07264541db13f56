"""Tests of the configuration; a package, since other rooms have tests of the same names."""
