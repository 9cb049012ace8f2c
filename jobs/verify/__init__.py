"""This command says whether a machine gives the defined bits."""
