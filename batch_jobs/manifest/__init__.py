"""Manifests of every shape, read into one thin plan."""
