"""Figures and tables of a study, from its results alone; `python -m wa.analysis.figures --help` names them."""
