"""Figures and tables of a study, drawn from its results. catalog.py lists them."""
