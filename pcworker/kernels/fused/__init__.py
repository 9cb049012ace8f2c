"""Trials trained by C, where that gives the bits that torch gives."""
