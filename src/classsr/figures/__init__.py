"""Figures for people, drawn with matplotlib from the files that training wrote. Measures nothing itself."""
