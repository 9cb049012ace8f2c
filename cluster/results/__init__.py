"""From what is committed to tables, figures and remarks."""
