"""WHETHER it holds: the engines, the history checkers, the command line and the suite `pytest checkers/`."""
