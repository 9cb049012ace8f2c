"""Exports a sweep as a folder or one file that anybody can read, and restores it."""
