"""Figures and tables of a study, from its results alone; `python -m wa.figures --help` names them."""
