"""How fast a GPU trains: `make benchmark-gpu`."""
