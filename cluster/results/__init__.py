"""This room turns committed results into tables, figures and remarks."""
