"""Demos: whole projects on real data that ship with packages, told by a driver through the public doors."""
