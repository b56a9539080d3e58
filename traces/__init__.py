"""WHAT HAPPENED: histories and traces as data, their files and their pictures."""
